#!/usr/bin/env python3
"""Makes a database (deploy/database.yaml), restores a copy of it, and sets its owner's password.

    deploy/database.py production create VpcId=vpc-… SubnetIds=subnet-…,subnet-… Standby=true
    deploy/database.py production restore                                 a copy of now
    deploy/database.py production restore --snapshot before-repair        of a snapshot
    deploy/database.py production restore --time 2026-11-26T07:00:00Z     of a time within BackupDays
    deploy/database.py production password people-production-restored     gives the owner the password in its secret
    deploy/database.py production password --new                          makes a new one first

`create` makes the stack people-production-database; `restore` makes people-production-restored beside it, with the same
parameters but for those that are given (NAME=VALUE), and the password of its own secret. Both print the lines for
samconfig.toml. docs/database.md says what to do with a copy. Needs credentials for AWS, and the packages in
deploy/requirements.txt.
"""

import argparse
import datetime
import json
import pathlib
import sys

import boto3
from botocore.exceptions import ClientError, WaiterError

import aws
import template as t
from template import Refused

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Of each step: it depends on the size of the database.
HOURS = 3


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create")
    restore = commands.add_parser("restore")
    moment = restore.add_mutually_exclusive_group()
    moment.add_argument("--snapshot", help="a snapshot that there is")
    moment.add_argument("--time", type=time_of, help="with its zone")
    restore.add_argument("--of", help="the stack to copy from (default: people-ENVIRONMENT-database)")
    restore.add_argument("--stack", help="the stack to make (default: people-ENVIRONMENT-restored)")
    for command in (create, restore):
        command.add_argument("parameters", nargs="*", type=t.pair, metavar="NAME=VALUE", help="of deploy/database.yaml")
    password = commands.add_parser("password")
    password.add_argument("stack", nargs="?", help="default: people-ENVIRONMENT-database")
    password.add_argument("--new", action="store_true")
    return parser.parse_args(arguments)


def time_of(text):
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("without a zone")
    return time


class Databases:
    def __init__(self, region, now, cloudformation=None, rds=None, secrets=None):
        session = boto3.session.Session(region_name=region)
        self.region, self.now = region, now
        self.cloudformation = cloudformation or session.client("cloudformation")
        self.rds = rds or session.client("rds")
        self.secrets = secrets or session.client("secretsmanager")

    def stack(self, name):
        """Parameters and outputs of a stack of deploy/database.yaml."""
        (found,) = self.cloudformation.describe_stacks(StackName=name)["Stacks"]
        return aws.parameters_of(found), aws.outputs_of(found)

    def require_absent(self, name):
        if found := aws.described(self.cloudformation, name):
            raise Refused(f"there is a stack {name} already ({found['StackStatus']}): delete it, or make another (--stack)")

    def wait(self, client, state, **about):
        client.get_waiter(state).wait(**about, WaiterConfig={"Delay": 30, "MaxAttempts": HOURS * 120})

    def create(self, name, parameters):
        print(f"makes the stack {name}, which takes about a quarter of an hour", flush=True)
        self.cloudformation.create_stack(
            StackName=name,
            TemplateBody=(ROOT / "deploy/database.yaml").read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        try:
            self.wait(self.cloudformation, "stack_create_complete", StackName=name)
        except WaiterError:
            raise Refused(f"{name} was not made: {self.reason(name)}") from None
        self.cloudformation.update_termination_protection(StackName=name, EnableTerminationProtection=True)
        return self.stack(name)[1]

    def reason(self, name):
        events = self.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        failed = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
            and not event.get("ResourceStatusReason", "").startswith(aws.FOLLOWING)
        ]
        return "; ".join(reversed(failed)) or "see its events"

    def restore(self, source, name, snapshot, time, parameters):
        self.require_absent(name)  # before anything is copied
        given, outputs = self.stack(source)
        kind = "instance" if given["Kind"] == "instance" else "cluster"
        if snapshot is None:
            snapshot = f"{name}-{self.now:%Y%m%d%H%M%S}"
            if time is None:
                self.snapshot(kind, source, snapshot)
            else:
                copy = f"{name}-then"
                self.copy(kind, source, copy, time)
                try:
                    self.snapshot(kind, copy, snapshot)
                finally:
                    self.discard(kind, copy)
        # There can be one endpoint of Secrets Manager in a VPC, and that of the source is for everything in it.
        made = self.create(name, given | {"SecretsEndpoint": "false", "SnapshotIdentifier": snapshot} | parameters)
        self.password(name)
        return made | {"PreviousDatabaseResourceId": outputs["DatabaseResourceId"]}

    def password(self, name, new=False):
        """Gives the owner the password in the secret of the stack. CloudFormation refuses one with a snapshot."""
        given, outputs = self.stack(name)
        secret = outputs["DatabaseOwnerSecretArn"]
        content = json.loads(self.secrets.get_secret_value(SecretId=secret)["SecretString"])
        if new:
            made = self.secrets.get_random_password(PasswordLength=40, ExcludePunctuation=True)["RandomPassword"]
            content["password"] = made
            self.secrets.put_secret_value(SecretId=secret, SecretString=json.dumps(content))
        change = {"MasterUserPassword": content["password"], "ApplyImmediately": True}
        if given["Kind"] == "instance":
            self.rds.modify_db_instance(DBInstanceIdentifier=name, **change)
        else:
            self.rds.modify_db_cluster(DBClusterIdentifier=name, **change)
        print(f"the owner of {name} has the password in its secret, within a minute", flush=True)

    # --- Snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self, kind, name, snapshot):
        print(f"takes the snapshot {snapshot} of {name}", flush=True)
        if kind == "instance":
            self.rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=snapshot)
            self.wait(self.rds, "db_snapshot_available", DBSnapshotIdentifier=snapshot)
        else:
            self.rds.create_db_cluster_snapshot(DBClusterIdentifier=name, DBClusterSnapshotIdentifier=snapshot)
            self.wait(self.rds, "db_cluster_snapshot_available", DBClusterSnapshotIdentifier=snapshot)

    def copy(self, kind, name, copy, time):
        """A copy as the database was, for a snapshot: a template has no other way to such a time."""
        print(f"copies {name} as it was at {time.isoformat()}", flush=True)
        if kind == "instance":
            (found,) = self.rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
            self.rds.restore_db_instance_to_point_in_time(
                SourceDBInstanceIdentifier=name,
                TargetDBInstanceIdentifier=copy,
                RestoreTime=time,
                DBSubnetGroupName=found["DBSubnetGroup"]["DBSubnetGroupName"],
                PubliclyAccessible=False,
            )
            self.wait(self.rds, "db_instance_available", DBInstanceIdentifier=copy)
        else:
            (found,) = self.rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
            self.rds.restore_db_cluster_to_point_in_time(
                SourceDBClusterIdentifier=name,
                DBClusterIdentifier=copy,
                RestoreToTime=time,
                DBSubnetGroupName=found["DBSubnetGroup"],
            )
            self.wait(self.rds, "db_cluster_available", DBClusterIdentifier=copy)

    def discard(self, kind, copy):
        if kind == "instance":
            self.rds.delete_db_instance(DBInstanceIdentifier=copy, SkipFinalSnapshot=True)
        else:
            self.rds.delete_db_cluster(DBClusterIdentifier=copy, SkipFinalSnapshot=True)


def lines(outputs):
    """For samconfig.toml: the outputs have the names of template.yaml's parameters."""
    return [f'    "{name}={value}",' for name, value in outputs.items() if name != "AlarmTopicArn"]


def main(arguments=None, databases=None):
    options = parsed(arguments)
    try:
        settings = t.settings((ROOT / "samconfig.toml").read_text(), options.environment)
        databases = databases or Databases(settings["region"], datetime.datetime.now(datetime.UTC))
        usual = f"{settings['stack']}-database"
        if options.command == "password":
            databases.password(options.stack or usual, options.new)
            return 0
        parameters = dict(options.parameters)
        if options.command == "create":
            databases.require_absent(usual)
            made = databases.create(usual, parameters)
        else:
            stack = options.stack or f"{settings['stack']}-restored"
            made = databases.restore(options.of or usual, stack, options.snapshot, options.time, parameters)
        print("\n".join(["for samconfig.toml:", *lines(made)]))
    except (Refused, ClientError, WaiterError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
