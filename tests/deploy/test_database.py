"""Making and restoring databases (deploy/database.py). botocore checks each request against its description of AWS."""

import contextlib
import io
import json
import re
import unittest
from unittest import mock

import boto3
from botocore.exceptions import WaiterError
from botocore.stub import ANY, Stubber

from example import NOW, ROOT
import database
import template as t

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:owner"
OUTPUTS = {"DatabaseHost": "db.example.com", "DatabaseResourceId": "db-OLD", "DatabaseOwnerSecretArn": SECRET}


class Case(unittest.TestCase):
    def setUp(self):
        session = boto3.session.Session("key", "secret", region_name="eu-central-1")
        clients = {name: session.client(name) for name in ("cloudformation", "rds", "secretsmanager")}
        self.stubs = {name: self.enterContext(Stubber(client)) for name, client in clients.items()}
        self.databases = database.Databases("eu-central-1", NOW, *clients.values())
        self.log = self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        self.waited = []
        for name, client in clients.items():
            waiter = mock.Mock(side_effect=lambda kind, name=name: self.waiter(kind))
            self.enterContext(mock.patch.object(client, "get_waiter", waiter))

    def waiter(self, kind):
        return mock.Mock(wait=lambda WaiterConfig, **about: self.waited.append((kind, *about.values())))

    def tearDown(self):
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()

    def expect(self, client, operation, answer, **request):
        self.stubs[client].add_response(operation, answer, request)

    def stack(self, name, kind="instance", **outputs):
        about = {
            "StackName": name,
            "CreationTime": NOW,
            "StackStatus": "CREATE_COMPLETE",
            "Parameters": [
                {"ParameterKey": "Kind", "ParameterValue": kind},
                {"ParameterKey": "SecretsEndpoint", "ParameterValue": "true"},
            ],
            "Outputs": [
                {"OutputKey": key, "OutputValue": value} for key, value in (OUTPUTS | outputs).items()
            ],
        }
        self.expect("cloudformation", "describe_stacks", {"Stacks": [about]}, StackName=name)

    def absent(self, name):
        self.stubs["cloudformation"].add_client_error(
            "describe_stacks", "ValidationError", f"Stack with id {name} does not exist"
        )

    def create(self, name, **parameters):
        self.expect(
            "cloudformation",
            "create_stack",
            {},
            StackName=name,
            TemplateBody=(ROOT / "deploy/database.yaml").read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )

    def protect(self, name):
        self.expect(
            "cloudformation", "update_termination_protection", {}, StackName=name, EnableTerminationProtection=True
        )

    def password(self, name, kind="instance", password="of the secret"):
        self.stack(name, kind, DatabaseHost="new.example.com", DatabaseResourceId="db-NEW")
        content = {"username": "people_owner", "password": "of the secret", "host": "new.example.com"}
        self.expect("secretsmanager", "get_secret_value", {"SecretString": json.dumps(content)}, SecretId=SECRET)
        if password != "of the secret":
            self.expect(
                "secretsmanager",
                "get_random_password",
                {"RandomPassword": password},
                PasswordLength=40,
                ExcludePunctuation=True,
            )
            content = json.dumps(content | {"password": password})
            self.expect("secretsmanager", "put_secret_value", {}, SecretId=SECRET, SecretString=content)
        change = {"MasterUserPassword": password, "ApplyImmediately": True}
        if kind == "instance":
            self.expect("rds", "modify_db_instance", {}, DBInstanceIdentifier=name, **change)
        else:
            self.expect("rds", "modify_db_cluster", {}, DBClusterIdentifier=name, **change)

    def restored(self, snapshot, kind="instance", **parameters):
        self.create(
            "people-production-restored",
            **{"Kind": kind, "SecretsEndpoint": "false", "SnapshotIdentifier": snapshot} | parameters,
        )
        self.protect("people-production-restored")
        self.stack("people-production-restored", kind, DatabaseHost="new.example.com", DatabaseResourceId="db-NEW")
        self.password("people-production-restored", kind)

    def go(self, *arguments):
        return database.main(["production", *arguments], self.databases)


class Restore(Case):
    SNAPSHOT = "people-production-restored-20261126070331"

    def test_now(self):
        self.absent("people-production-restored")
        self.stack("people-production-database")
        self.expect(
            "rds",
            "create_db_snapshot",
            {},
            DBInstanceIdentifier="people-production-database",
            DBSnapshotIdentifier=self.SNAPSHOT,
        )
        self.restored(self.SNAPSHOT)
        self.assertEqual(self.go("restore"), 0)
        self.assertEqual(
            self.waited,
            [("db_snapshot_available", self.SNAPSHOT), ("stack_create_complete", "people-production-restored")],
        )
        lines = re.findall(r'^    "(\w+)=(.*)",$', self.log.getvalue(), re.MULTILINE)
        self.assertEqual(
            dict(lines),
            OUTPUTS
            | {
                "DatabaseHost": "new.example.com",
                "DatabaseResourceId": "db-NEW",
                "PreviousDatabaseResourceId": "db-OLD",
            },
        )

    def test_a_cluster_now(self):
        self.absent("people-production-restored")
        self.stack("people-production-database", "aurora")
        self.expect(
            "rds",
            "create_db_cluster_snapshot",
            {},
            DBClusterIdentifier="people-production-database",
            DBClusterSnapshotIdentifier=self.SNAPSHOT,
        )
        self.restored(self.SNAPSHOT, "aurora")
        self.assertEqual(self.go("restore"), 0)

    def test_a_snapshot_with_another_class(self):
        self.absent("people-production-restored")
        self.stack("people-production-database")
        self.restored("before-repair", Class="db.m7g.large")
        self.assertEqual(self.go("restore", "--snapshot", "before-repair", "Class=db.m7g.large"), 0)

    def test_a_time(self):
        self.absent("people-production-restored")
        self.stack("people-production-database")
        group = {"DBInstances": [{"DBSubnetGroup": {"DBSubnetGroupName": "group"}}]}
        self.expect("rds", "describe_db_instances", group, DBInstanceIdentifier="people-production-database")
        self.expect(
            "rds",
            "restore_db_instance_to_point_in_time",
            {},
            SourceDBInstanceIdentifier="people-production-database",
            TargetDBInstanceIdentifier="people-production-restored-then",
            RestoreTime=database.time_of("2026-11-26T06:00:00Z"),
            DBSubnetGroupName="group",
            PubliclyAccessible=False,
        )
        self.expect(
            "rds",
            "create_db_snapshot",
            {},
            DBInstanceIdentifier="people-production-restored-then",
            DBSnapshotIdentifier=self.SNAPSHOT,
        )
        self.expect(
            "rds",
            "delete_db_instance",
            {},
            DBInstanceIdentifier="people-production-restored-then",
            SkipFinalSnapshot=True,
        )
        self.restored(self.SNAPSHOT)
        self.assertEqual(self.go("restore", "--time", "2026-11-26T06:00:00Z"), 0)
        self.assertEqual(self.waited[0], ("db_instance_available", "people-production-restored-then"))

    def test_a_cluster_at_a_time(self):
        self.absent("people-production-restored")
        self.stack("people-production-database", "serverless")
        group = {"DBClusters": [{"DBSubnetGroup": "group"}]}
        self.expect("rds", "describe_db_clusters", group, DBClusterIdentifier="people-production-database")
        self.expect(
            "rds",
            "restore_db_cluster_to_point_in_time",
            {},
            SourceDBClusterIdentifier="people-production-database",
            DBClusterIdentifier="people-production-restored-then",
            RestoreToTime=ANY,
            DBSubnetGroupName="group",
        )
        self.expect(
            "rds",
            "create_db_cluster_snapshot",
            {},
            DBClusterIdentifier="people-production-restored-then",
            DBClusterSnapshotIdentifier=self.SNAPSHOT,
        )
        self.expect(
            "rds",
            "delete_db_cluster",
            {},
            DBClusterIdentifier="people-production-restored-then",
            SkipFinalSnapshot=True,
        )
        self.restored(self.SNAPSHOT, "serverless")
        self.assertEqual(self.go("restore", "--time", "2026-11-26T06:00:00Z"), 0)

    def test_a_stack_that_could_not_be_made_says_why(self):
        self.absent("people-production-database")
        self.create("people-production-database", VpcId="vpc-1")

        def event(name, reason):
            about = {"StackId": "id", "EventId": name, "StackName": "name", "Timestamp": NOW}
            return about | {
                "LogicalResourceId": name,
                "ResourceStatus": "CREATE_FAILED",
                "ResourceStatusReason": reason,
            }

        events = [event("Database", "Resource creation cancelled"), event("DatabaseSubnets", "one zone")]
        self.expect(
            "cloudformation",
            "describe_stack_events",
            {"StackEvents": events},
            StackName="people-production-database",
        )
        failing = mock.Mock(wait=mock.Mock(side_effect=WaiterError("stack_create_complete", "terminal", {})))
        with (
            mock.patch.object(self, "waiter", return_value=failing),
            contextlib.redirect_stderr(io.StringIO()) as error,
        ):
            self.assertEqual(self.go("create", "VpcId=vpc-1"), 1)
        self.assertEqual(error.getvalue(), "people-production-database was not made: DatabaseSubnets: one zone\n")

    def test_one_is_made_and_protected(self):
        self.absent("people-production-database")
        self.create("people-production-database", VpcId="vpc-1")
        self.protect("people-production-database")
        self.stack("people-production-database")
        self.assertEqual(self.go("create", "VpcId=vpc-1"), 0)
        self.assertIn('    "DatabaseHost=db.example.com",', self.log.getvalue())

    def test_nothing_is_copied_for_a_stack_that_there_is(self):
        for arguments, name in ((["restore"], "restored"), (["create", "VpcId=vpc-1"], "database")):
            self.stack(f"people-production-{name}")
            with contextlib.redirect_stderr(io.StringIO()) as error:
                self.assertEqual(self.go(*arguments), 1)
            self.assertIn(f"there is a stack people-production-{name} already", error.getvalue())

    def test_what_aws_refuses_is_one_line(self):
        self.absent("people-production-restored")
        self.absent("people-production-database")
        with contextlib.redirect_stderr(io.StringIO()) as error:
            self.assertEqual(self.go("restore"), 1)
        self.assertRegex(error.getvalue(), r"\A.*people-production-database does not exist\n\Z")

    def test_a_copy_is_deleted_also_if_it_cannot_be_snapshotted(self):
        kept = []
        with (
            mock.patch.object(self.databases, "require_absent"),
            mock.patch.object(self.databases, "stack", return_value=({"Kind": "instance"}, OUTPUTS)),
            mock.patch.object(self.databases, "copy", side_effect=lambda *about: kept.append(about[2])),
            mock.patch.object(self.databases, "snapshot", side_effect=KeyboardInterrupt),
            mock.patch.object(self.databases, "discard", side_effect=lambda kind, copy: kept.remove(copy)),
            self.assertRaises(KeyboardInterrupt),
        ):
            self.go("restore", "--time", "2026-11-26T06:00:00Z")
        self.assertEqual(kept, [])

    def test_what_makes_no_sense_is_refused(self):
        for arguments in (
            ["restore", "--time", "2026-11-26T06:00:00"],
            ["restore", "--time", "2026-11-26T06:00:00Z", "--snapshot", "a"],
            ["create", "VpcId"],
        ):
            with self.subTest(arguments), contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                self.go(*arguments)


class Password(Case):
    def test_that_of_the_secret(self):
        for kind in ("instance", "aurora"):
            self.password("people-production-database", kind)
            self.assertEqual(self.go("password"), 0)

    def test_a_new_one_of_a_restored_database(self):
        self.password("people-production-restored", password="new")
        self.assertEqual(self.go("password", "people-production-restored", "--new"), 0)
        self.assertNotIn("new", self.log.getvalue())


class Outputs(unittest.TestCase):
    def test_what_is_printed_are_parameters_of_the_service(self):
        outputs = t.parsed((ROOT / "deploy/database.yaml").read_text())["Outputs"]
        parameters = t.parsed((ROOT / "template.yaml").read_text())["Parameters"]
        printed = {line.strip(' ",').partition("=")[0] for line in database.lines(dict.fromkeys(outputs, ""))}
        self.assertLessEqual(printed | {"PreviousDatabaseResourceId"}, set(parameters))


if __name__ == "__main__":
    unittest.main()
