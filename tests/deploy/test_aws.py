"""What is asked of AWS (deploy/aws.py). botocore checks each request and answer against AWS's description of its API."""

import contextlib
import datetime
import io
import json
import unittest
from unittest import mock

import boto3
from botocore.stub import ANY, Stubber

from example import NOW, ROOT  # noqa: F401
import aws
from template import Refused

ARN = "arn:aws:cloudformation:eu-central-1:123456789012:stack/people-staging/1"
CHANGE_SET = "arn:aws:cloudformation:eu-central-1:123456789012:changeSet/release/1"
TEMPLATE = {"Parameters": {"Minutes": {"Type": "Number", "Default": 60}}, "Resources": {}}


class Case(unittest.TestCase):
    # Once: to make the clients takes half a second.
    aws = aws.Aws(
        "eu-central-1",
        "people-staging",
        sleep=lambda _: None,
        session=boto3.session.Session("key", "secret", region_name="eu-central-1"),
    )

    def setUp(self):
        self.stubs = {
            name: Stubber(getattr(self.aws, name))
            for name in ("cloudformation", "s3", "functions", "logs", "codedeploy")
        }
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        for stub in self.stubs.values():
            self.enterContext(stub)

    def expect(self, client, operation, answer, **request):
        self.stubs[client].add_response(operation, answer, request)

    def tearDown(self):
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()

    def state(self, *states):
        for status in states:
            if status is None:
                self.stubs["cloudformation"].add_client_error(
                    "describe_stacks", "ValidationError", "Stack with id people-staging does not exist"
                )
            else:
                self.expect(
                    "cloudformation",
                    "describe_stacks",
                    {
                        "Stacks": [
                            {
                                "StackName": "people-staging",
                                "CreationTime": NOW,
                                "StackStatus": status,
                                "Parameters": [{"ParameterKey": "Minutes", "ParameterValue": "30"}],
                                "Outputs": [{"OutputKey": "Url", "OutputValue": "https://a"}],
                            }
                        ]
                    },
                    StackName="people-staging",
                )


class TheStack(Case):
    def test_there_may_be_none(self):
        self.state(None, None)
        self.assertIs(self.aws.prepare(), False)
        self.assertIsNone(self.aws.outputs())

    def test_outputs_and_parameters(self):
        self.state("UPDATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE")
        self.assertIs(self.aws.prepare(), True)
        self.assertEqual(self.aws.outputs(), {"Url": "https://a"})
        self.assertEqual(self.aws.parameters(), {"Minutes": "30"})

    def test_what_a_failed_first_deployment_left_is_deleted(self):
        self.state("ROLLBACK_COMPLETE")
        self.expect("cloudformation", "delete_stack", {}, StackName="people-staging")
        self.state("DELETE_IN_PROGRESS", None)
        self.assertIs(self.aws.prepare(), False)

    def test_a_change_set_that_was_never_executed_is_no_obstacle(self):
        self.state("REVIEW_IN_PROGRESS")
        self.assertIs(self.aws.prepare(), False)

    def test_a_change_that_somebody_else_makes_is_waited_for(self):
        self.state("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
        self.assertIs(self.aws.prepare(), True)

    def test_but_not_for_ever(self):
        self.state("UPDATE_IN_PROGRESS")
        with mock.patch("time.monotonic", side_effect=[0, 3601]), self.assertRaisesRegex(Refused, "for an hour"):
            self.aws.prepare()

    def test_another_error_is_no_missing_stack(self):
        self.stubs["cloudformation"].add_client_error("describe_stacks", "AccessDenied", "not authorized")
        with self.assertRaisesRegex(Exception, "not authorized"):
            self.aws.prepare()

    def test_resources_of_all_pages_but_deleted_ones(self):
        def row(name, status="CREATE_COMPLETE"):
            return {
                "LogicalResourceId": name,
                "PhysicalResourceId": f"people-staging-{name}",
                "ResourceType": "AWS::Lambda::Function",
                "LastUpdatedTimestamp": NOW,
                "ResourceStatus": status,
            }

        self.expect(
            "cloudformation",
            "list_stack_resources",
            {"StackResourceSummaries": [row("Me"), row("Old", "DELETE_COMPLETE")], "NextToken": "2"},
            StackName="people-staging",
        )
        self.expect(
            "cloudformation",
            "list_stack_resources",
            {"StackResourceSummaries": [row("Login")]},
            StackName="people-staging",
            NextToken="2",
        )
        self.assertEqual(self.aws.resources(), {"Me": "people-staging-Me", "Login": "people-staging-Login"})

    def test_the_template_is_read_in_either_form(self):
        for body in ("Resources: {Me: {Value: !Ref A}}", '{"Resources": {"Me": {"Value": {"Ref": "A"}}}}'):
            self.expect(
                "cloudformation",
                "get_template",
                {"TemplateBody": body},
                StackName="people-staging",
                TemplateStage="Original",
            )
            self.assertEqual(self.aws.template(), {"Resources": {"Me": {"Value": {"Ref": "A"}}}})


class AChange(Case):
    def begin(self, kind="UPDATE", parameters=None):
        self.expect("s3", "put_object", {}, Bucket="bucket", Key=ANY, Body=ANY)
        self.expect(
            "cloudformation",
            "create_change_set",
            {"Id": CHANGE_SET, "StackId": ARN},
            StackName="people-staging",
            ChangeSetName=ANY,
            ChangeSetType=kind,
            TemplateURL=ANY,
            Parameters=parameters or [{"ParameterKey": "Minutes", "ParameterValue": "30"}],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            RoleARN="arn:aws:iam::123456789012:role/x",
            Tags=[{"Key": "service", "Value": "people"}],
        )

    def made(self, status, reason=""):
        self.expect(
            "cloudformation",
            "describe_change_set",
            {"Status": status, "StatusReason": reason},
            ChangeSetName=CHANGE_SET,
        )

    def change(self, values={"Minutes": "30"}, exists=True):
        return self.aws.change(
            TEMPLATE, values, exists, "bucket", "arn:aws:iam::123456789012:role/x", {"service": "people"}
        )

    def execute(self):
        self.expect("cloudformation", "execute_change_set", {}, ChangeSetName=CHANGE_SET, ClientRequestToken=ANY)

    def test_an_update_ends_when_the_old_is_cleaned_up(self):
        self.begin()
        self.made("CREATE_PENDING")
        self.made("CREATE_COMPLETE")
        self.execute()
        self.state("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
        self.assertEqual(self.change(), aws.Outcome(done=True))

    def test_without_values_all_parameters_keep_theirs(self):
        self.begin(parameters=[{"ParameterKey": "Minutes", "UsePreviousValue": True}])
        self.made("CREATE_COMPLETE")
        self.execute()
        self.state("UPDATE_COMPLETE")
        self.assertTrue(self.change(values=None).done)

    def test_nothing_to_change_is_done(self):
        for reason in (
            "The submitted information didn't contain changes. Submit different information to create a change set.",
            "No updates are to be performed.",
        ):
            self.begin()
            self.made("FAILED", reason)
            self.expect("cloudformation", "delete_change_set", {}, ChangeSetName=CHANGE_SET)
            self.assertEqual(self.change(), aws.Outcome(done=True, changed=False))

    def test_a_change_set_that_cannot_be_made_tells_why(self):
        self.begin("CREATE")
        self.made("FAILED", "Transform AWS::Serverless-2016-10-31 failed")
        self.expect("cloudformation", "delete_change_set", {}, ChangeSetName=CHANGE_SET)
        self.assertEqual(
            self.change(exists=False), aws.Outcome(False, False, "Transform AWS::Serverless-2016-10-31 failed")
        )

    def test_a_roll_back_is_a_failure_with_its_reason(self):
        self.begin()
        self.made("CREATE_COMPLETE")
        self.execute()
        self.state("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE")
        with mock.patch.object(self.aws, "reason", return_value="an alarm"):
            self.assertEqual(self.change(), aws.Outcome(False, reason="an alarm"))

    def test_the_reason_is_what_failed_first_in_this_change(self):
        def event(name, status, reason, token="release-2"):
            return {
                "StackId": ARN,
                "EventId": name,
                "StackName": "people-staging",
                "LogicalResourceId": name,
                "Timestamp": NOW,
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
                "ClientRequestToken": token,
            }

        self.expect(
            "cloudformation",
            "describe_stack_events",
            {
                "StackEvents": [
                    event("Second", "CREATE_FAILED", "later"),
                    event("Other", "UPDATE_FAILED", "Resource update cancelled"),
                ],
                "NextToken": "2",
            },
            StackName="people-staging",
        )
        self.expect(
            "cloudformation",
            "describe_stack_events",
            {
                "StackEvents": [
                    event("MeAliaslive", "UPDATE_FAILED", "Rollback of d-ABC"),
                    event("MeAliaslive", "UPDATE_IN_PROGRESS", ""),
                    event("Me", "UPDATE_FAILED", "of another day", "release-1"),
                ],
                "NextToken": "3",
            },
            StackName="people-staging",
            NextToken="2",
        )
        self.assertEqual(self.aws.reason("release-2"), "MeAliaslive: Rollback of d-ABC; Second: later")


class Functions(Case):
    def test_version_and_revision_of_what_has_the_traffic(self):
        self.expect(
            "functions",
            "get_function_configuration",
            {"Version": "12", "Environment": {"Variables": {"REVISION": "a-b"}}},
            FunctionName="people-staging-me",
            Qualifier="live",
        )
        self.assertEqual(self.aws.live("people-staging-me"), ("12", "a-b"))

    def test_a_function_without_an_alias_has_neither(self):
        self.stubs["functions"].add_client_error(
            "get_function_configuration", "ResourceNotFoundException", "Function not found"
        )
        self.assertEqual(self.aws.live("people-staging-purge"), (None, None))

    def test_the_code_of_a_version_is_copied(self):
        self.expect(
            "functions",
            "get_function",
            {"Code": {"Location": "https://signed.example.com"}},
            FunctionName="people-staging-me",
            Qualifier="12",
        )
        self.expect("s3", "put_object", {}, Bucket="bucket", Key=ANY, Body=b"zip")
        with mock.patch("urllib.request.urlopen", return_value=io.BytesIO(b"zip")):
            self.assertRegex(
                self.aws.code_of_version("people-staging-me", "12", "bucket"),
                "^s3://bucket/people-staging/[0-9a-f]{32}$",
            )

    def test_a_version_that_does_not_exist_is_refused(self):
        self.stubs["functions"].add_client_error("get_function", "ResourceNotFoundException", "Function not found")
        with self.assertRaisesRegex(Refused, "people-staging-me has no version 99"):
            self.aws.code_of_version("people-staging-me", "99", "bucket")

    def test_a_run_is_started_without_waiting(self):
        self.stubs["functions"].add_response(
            "invoke",
            {"StatusCode": 202, "ResponseMetadata": {"RequestId": "8f1d"}},
            {"FunctionName": "people-staging-migrate", "InvocationType": "Event", "Payload": b"{}"},
        )
        invocation, since = self.aws.start("people-staging-migrate")
        self.assertEqual(invocation, "8f1d")
        self.assertLess(since, datetime.datetime.now().timestamp() * 1000)

    def test_lines_of_the_log(self):
        self.expect(
            "logs",
            "filter_log_events",
            {"events": [{"message": "a"}], "nextToken": "2"},
            logGroupName="/aws/lambda/people-staging-migrate",
            startTime=1,
            filterPattern='"8f1d"',
        )
        self.expect(
            "logs",
            "filter_log_events",
            {"events": [{"message": "b"}]},
            logGroupName="/aws/lambda/people-staging-migrate",
            startTime=1,
            filterPattern='"8f1d"',
            nextToken="2",
        )
        self.assertEqual(self.aws.lines("people-staging-migrate", "8f1d", 1), ["a", "b"])

    def test_the_latest_run(self):
        self.stubs["s3"].add_client_error("get_object", "NoSuchKey")
        self.assertEqual(self.aws.latest_run("bucket"), 0)
        self.expect("s3", "put_object", {}, Bucket="bucket", Key="people-staging/latest-run.json", Body=b'{"run": 7}')
        self.aws.set_latest_run("bucket", 7)
        self.expect(
            "s3",
            "get_object",
            {"Body": io.BytesIO(json.dumps({"run": 7}).encode())},
            Bucket="bucket",
            Key="people-staging/latest-run.json",
        )
        self.assertEqual(self.aws.latest_run("bucket"), 7)


class TheShift(Case):
    RESOURCES = {"ServerlessDeploymentApplication": "application", "MeDeploymentGroup": "group"}

    def about(self, deployment, minutes, **more):
        self.expect(
            "codedeploy",
            "get_deployment",
            {
                "deploymentInfo": {
                    "deploymentId": deployment,
                    "createTime": NOW + datetime.timedelta(minutes=minutes),
                    "status": "Stopped",
                    "deploymentConfigName": "CodeDeployDefault.LambdaCanary10Percent5Minutes",
                }
                | more
            },
            deploymentId=deployment,
        )

    def stop(self, *deployments, creator="CloudFormation"):
        self.expect(
            "codedeploy",
            "list_deployments",
            {"deployments": list(deployments)},
            applicationName="application",
            deploymentGroupName="group",
            includeOnlyStatuses=["Created", "Queued", "InProgress", "Ready"],
        )
        for deployment in deployments:
            self.about(deployment, 0, creator=creator)
        for deployment in deployments:
            if creator == "CloudFormation":
                self.expect("codedeploy", "stop_deployment", {}, deploymentId=deployment, autoRollbackEnabled=True)
        return self.aws.stop(self.RESOURCES, "Me")

    def test_one_that_is_under_way_is_stopped_and_goes_back(self):
        self.assertTrue(self.stop("d-1"))
        self.assertFalse(self.stop())

    def test_a_second_stop_does_not_stop_the_roll_back_of_the_first(self):
        for creator in ("codeDeployRollback", "CloudFormationRollback"):
            self.assertFalse(self.stop("d-2", creator=creator))

    def test_a_function_without_versions_has_none_to_stop(self):
        self.assertFalse(self.aws.stop(self.RESOURCES, "Purge"))

    def test_of_a_roll_back_the_first_is_meant(self):
        self.expect(
            "codedeploy",
            "list_deployments",
            {"deployments": ["d-2", "d-1"]},
            applicationName="application",
            deploymentGroupName="group",
            createTimeRange={"start": NOW},
        )
        self.about("d-2", 5)
        self.about("d-1", 0, errorInformation={"code": "ALARM_ACTIVE", "message": "an alarm is active"})
        self.assertEqual(
            self.aws.deployment(self.RESOURCES, "Me", NOW),
            {
                "id": "d-1",
                "status": "Stopped",
                "type": "CodeDeployDefault.LambdaCanary10Percent5Minutes",
                "problem": "an alarm is active",
            },
        )

    def test_there_may_be_none(self):
        self.assertIsNone(self.aws.deployment(self.RESOURCES, "Purge", NOW))
        self.expect(
            "codedeploy",
            "list_deployments",
            {"deployments": []},
            applicationName="application",
            deploymentGroupName="group",
            createTimeRange={"start": NOW},
        )
        self.assertIsNone(self.aws.deployment(self.RESOURCES, "Me", NOW))


if __name__ == "__main__":
    unittest.main()
