"""What a release asks of AWS. One object for one stack; every method is one question, or one change and its end."""

import datetime
import hashlib
import json
import time
import urllib.request
from dataclasses import dataclass

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from template import Refused, action, parsed

POLL_SECONDS = 5
# Under the three hours of the session of a deployment (role.yaml): a stack that somebody else is changing.
SETTLE_SECONDS = 3600
# After the longest run of a function, and what its log takes to arrive.
MIGRATION_SECONDS = 900 + 120
# Creators of a CodeDeploy deployment that takes back another.
ROLL_BACKS = ("codeDeployRollback", "CloudFormationRollback")
# Reasons of CloudFormation that only repeat that something else has failed.
FOLLOWING = ("Resource creation cancelled", "Resource update cancelled", "The following resource(s) failed")


def described(cloudformation, stack):
    """A stack, or None. A deleted one is found only by its id, so not here."""
    try:
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        # A ValidationError, which has no code of its own for this.
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise


def parameters_of(stack):
    return {parameter["ParameterKey"]: parameter.get("ParameterValue") for parameter in stack["Parameters"]}


def outputs_of(stack):
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


@dataclass
class Outcome:
    """How a change of the stack ended. `changed` is False if there was nothing to change."""

    done: bool
    changed: bool = True
    reason: str = ""


class Aws:
    def __init__(self, region, stack, sleep=time.sleep, session=None):
        session = session or boto3.session.Session(region_name=region)
        config = Config(retries={"mode": "standard", "total_max_attempts": 8})
        self.region, self.stack, self.sleep = region, stack, sleep
        self.cloudformation, self.s3, self.functions, self.logs, self.codedeploy = (
            session.client(name, config=config) for name in ("cloudformation", "s3", "lambda", "logs", "codedeploy")
        )

    # --- The stack ----------------------------------------------------------------------------------------------------

    def describe(self, stack=None):
        return described(self.cloudformation, stack or self.stack)

    def prepare(self):
        """Brings the stack into a state in which it can be changed. Returns whether it exists."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            found = self.describe()
            first = action(found and found["StackStatus"])
            if first == "delete":
                print(f"deletes what the first deployment left behind ({found['StackStatus']})", flush=True)
                self.cloudformation.delete_stack(StackName=self.stack)
            elif first != "wait":
                return first == "update"
            if time.monotonic() > deadline:
                raise Refused(f"the stack has been in the state {found['StackStatus']} for an hour")
            print(f"waits for the stack: {found['StackStatus']}", flush=True)
            self.sleep(POLL_SECONDS)

    def outputs(self, stack=None):
        found = self.describe(stack)
        return found and outputs_of(found)

    def parameters(self):
        return parameters_of(self.describe())

    def template(self):
        """As it was uploaded, before SAM's transformation."""
        return parsed(self.cloudformation.get_template(StackName=self.stack, TemplateStage="Original")["TemplateBody"])

    def resources(self):
        """The physical id of each resource, by logical id."""
        pages = self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.stack)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource.get("PhysicalResourceId") and resource["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def change(self, template, values, exists, bucket, role, tags):
        """Creates or updates the stack, with these values of parameters (None: the previous ones of all), and waits."""
        body = json.dumps(template, indent=1).encode()
        key = f"{self.stack}/template-{hashlib.sha256(body).hexdigest()[:20]}.json"
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        declared = template.get("Parameters", {})
        parameters = [
            {"ParameterKey": name, "UsePreviousValue": True}
            if values is None
            else {"ParameterKey": name, "ParameterValue": values[name]}
            for name in declared
        ]
        name = f"release-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S%f}"
        change_set = self.cloudformation.create_change_set(
            StackName=self.stack,
            ChangeSetName=name,
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateURL=f"https://{bucket}.s3.{self.region}.amazonaws.com/{key}",
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            RoleARN=role,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )["Id"]
        while True:
            made = self.cloudformation.describe_change_set(ChangeSetName=change_set)
            if made["Status"] == "CREATE_COMPLETE":
                break
            if made["Status"] == "FAILED":
                reason = made.get("StatusReason", "")
                # The second is said where only the transformed template is the same.
                unchanged = "didn't contain changes" in reason or "No updates are to be performed" in reason
                self.cloudformation.delete_change_set(ChangeSetName=change_set)
                return Outcome(done=unchanged, changed=False, reason="" if unchanged else reason)
            self.sleep(POLL_SECONDS)
        self.cloudformation.execute_change_set(ChangeSetName=change_set, ClientRequestToken=name)
        while True:
            status = self.describe()["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                done = status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
                return Outcome(done, reason="" if done else self.reason(name) or status)
            self.sleep(POLL_SECONDS)

    def reason(self, token):
        """Why the change with this token failed: the first reasons that CloudFormation tells."""
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.stack)
        found = []
        for page in pages:
            events = [event for event in page["StackEvents"] if event.get("ClientRequestToken") == token]
            found += [
                f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
                for event in events
                if event["ResourceStatus"].endswith("_FAILED")
                and event.get("ResourceStatusReason")
                and not event["ResourceStatusReason"].startswith(FOLLOWING)
            ]
            if len(events) < len(page["StackEvents"]):
                break  # newest first: the rest is older than this change
        return "; ".join(reversed(found))[:1000]

    def latest_run(self, bucket):
        """The number of the latest run of the pipeline that deployed here."""
        try:
            return json.load(self.s3.get_object(Bucket=bucket, Key=f"{self.stack}/latest-run.json")["Body"])["run"]
        except self.s3.exceptions.NoSuchKey:
            return 0

    def set_latest_run(self, bucket, run):
        self.s3.put_object(Bucket=bucket, Key=f"{self.stack}/latest-run.json", Body=json.dumps({"run": run}).encode())

    # --- Functions ----------------------------------------------------------------------------------------------------

    def live(self, function):
        """Version and REVISION of what has the traffic of this function; None and None if it has no alias."""
        try:
            found = self.functions.get_function_configuration(FunctionName=function, Qualifier="live")
        except self.functions.exceptions.ResourceNotFoundException:
            return None, None
        return found["Version"], found.get("Environment", {}).get("Variables", {}).get("REVISION")

    def code_of_version(self, function, version, bucket):
        """Copies the code of a published version to where CloudFormation can read it. Returns its address."""
        try:
            location = self.functions.get_function(FunctionName=function, Qualifier=version)["Code"]["Location"]
        except self.functions.exceptions.ResourceNotFoundException:
            raise Refused(f"{function} has no version {version}") from None
        with urllib.request.urlopen(location, timeout=60) as response:
            code = response.read()
        key = f"{self.stack}/{hashlib.sha256(code).hexdigest()[:32]}"
        self.s3.put_object(Bucket=bucket, Key=key, Body=code)
        return f"s3://{bucket}/{key}"

    def start(self, function):
        """Invokes it without waiting. Returns the id of the invocation and the time, for `lines`."""
        since = int(time.time() * 1000) - 60_000  # of clocks that differ
        answer = self.functions.invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")
        return answer["ResponseMetadata"]["RequestId"], since

    def lines(self, function, text, since):
        """The lines of a function's log with this text, oldest first."""
        pages = self.logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{function}", startTime=since, filterPattern=f'"{text}"'
        )
        try:
            return [event["message"] for page in pages for event in page["events"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    # --- CodeDeploy ---------------------------------------------------------------------------------------------------

    def deployment(self, resources, name, since):
        """The shift of traffic to a function's new version that began after `since`: its id, its state and, if there is
        one, what went wrong. None if there was none."""
        application, group = resources.get("ServerlessDeploymentApplication"), resources.get(f"{name}DeploymentGroup")
        if not application or not group:
            return None
        found = self.codedeploy.list_deployments(
            applicationName=application, deploymentGroupName=group, createTimeRange={"start": since}
        )["deployments"]
        about = [self.about(deployment) for deployment in found]
        if not about:
            return None
        # A roll-back is a deployment of its own, later than what it takes back.
        first = min(about, key=lambda info: info["createTime"])
        problem = first.get("errorInformation", {}).get("message", "") or first.get("rollbackInfo", {}).get(
            "rollbackMessage", ""
        )
        return {
            "id": first["deploymentId"],
            "status": first["status"],
            "type": first.get("deploymentConfigName", ""),
            "problem": problem,
        }

    def stop(self, resources, name):
        """Takes back the shift of a function that is under way. Returns whether there was one. A roll-back is none, so
        that a second stop does not stop it."""
        application, group = resources.get("ServerlessDeploymentApplication"), resources.get(f"{name}DeploymentGroup")
        if not application or not group:
            return False
        found = self.codedeploy.list_deployments(
            applicationName=application,
            deploymentGroupName=group,
            includeOnlyStatuses=["Created", "Queued", "InProgress", "Ready"],
        )["deployments"]
        about = [self.about(deployment) for deployment in found]
        shifts = [info["deploymentId"] for info in about if info.get("creator") not in ROLL_BACKS]
        for deployment in shifts:
            self.codedeploy.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)
        return bool(shifts)

    def about(self, deployment):
        return self.codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]
