"""CodeDeploy's hook before the traffic of a function shifts: sends recorded requests to the new version and compares
the answers. A canary without traffic tests nothing; this does.

CodeDeploy invokes it with `{"DeploymentId", "LifecycleEventHookExecutionId"}` and waits, for up to an hour, for
`PutLifecycleEventHookExecutionStatus`. Therefore it reports a failure of its own, too, and stops in time.
https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html

The event does not tell the version. It is in the deployment's revision, the AppSpec that CloudFormation wrote:
https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_GetApplicationRevision.html
https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-resources.html

Permissions: `lambda:InvokeFunction` on the versions of the functions; `codedeploy:GetDeployment` and
`codedeploy:PutLifecycleEventHookExecutionStatus` on the stack's deployment groups; `codedeploy:GetApplicationRevision`
on its application; and its own log group.

The requests are in `checks.json`. They write nothing but a count of failed log-ins, for a userid that nobody has and an
address of the range for documentation (RFC 5737).
"""

import json
import pathlib
import random
import secrets
import time

CHECKS = json.loads((pathlib.Path(__file__).parent / "checks.json").read_text())
# A cold instance, a busy database or a limit of concurrency must not fail a deployment at the first attempt.
TRIES, PAUSE_SECONDS = 3, 2
# Kept free for the report, of the time that Lambda allows.
RESERVE_MILLISECONDS = 40_000


def handler(event, context):
    import boto3  # part of the runtime; not needed where the checks are only tested
    from botocore.config import Config

    # A function takes at most 15 s.
    aws = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
    return verify(event, context, boto3.client("codedeploy", config=aws), boto3.client("lambda", config=aws))


def verify(event, context, codedeploy, functions):
    """Runs the checks, and reports to CodeDeploy whatever happens. Returns the outcome and prints it, on one line."""
    outcome = {"deployment": event["DeploymentId"], "passed": 0, "failed": []}
    try:
        name, version = target(codedeploy, event["DeploymentId"])
        outcome |= {"function": name, "version": version}
        for check in checks_of(name):
            problem = attempt(check, lambda payload: invoke(functions, name, version, payload), context)
            if problem:
                outcome["failed"].append(f"{title(check)}: {problem}")
            else:
                outcome["passed"] += 1
    except Exception as error:  # otherwise CodeDeploy would wait for an hour
        outcome["failed"].append(f"the check itself failed: {type(error).__name__}: {error}")
    print(json.dumps(outcome), flush=True)
    codedeploy.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="Failed" if outcome["failed"] else "Succeeded",
    )
    return outcome


def target(codedeploy, deployment):
    """The function and its new version."""
    about = codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]
    # GetDeployment itself may tell only the digest of the revision.
    revision = codedeploy.get_application_revision(applicationName=about["applicationName"], revision=about["revision"])
    revision = revision["revision"]
    content = (revision.get("appSpecContent") or revision.get("string") or {}).get("content")
    if not content:
        raise ValueError(f"the revision of {deployment} has no content")
    functions = [resource["Properties"] for entry in json.loads(content)["Resources"] for resource in entry.values()]
    if len(functions) != 1:
        raise ValueError(f"{deployment} is about {len(functions)} functions")
    # A name, or an ARN that ends with it.
    return functions[0]["Name"].rpartition(":")[2], str(functions[0]["TargetVersion"])


def checks_of(name):
    """The checks of the function `people-staging-me`. To deploy a function without any is refused."""
    for function, checks in CHECKS["functions"].items():
        if name == function or name.endswith(f"-{function}"):
            return checks
    raise LookupError(f"no checks for {name} in checks.json")


def title(check):
    return check.get("request") or f"authorizer, {check['authorize']}"


def attempt(check, invoke, context):
    """What is wrong with the answer, or None. Tries again while there is time."""
    for again in reversed(range(TRIES)):
        if context.get_remaining_time_in_millis() < RESERVE_MILLISECONDS:
            return "no time left"
        answer, problem = invoke(event_of(check))
        try:
            problem = problem or difference(check, answer)
        except (ValueError, TypeError, KeyError, AttributeError):
            problem = f"not an answer: {json.dumps(answer)[:300]}"
        if not problem or not again:
            return problem
        time.sleep(PAUSE_SECONDS)


def event_of(check):
    """The recorded event of a gateway, as this request."""
    if "authorize" in check:
        return filled(CHECKS["authorizer_event"] | {}, {"Bearer TOKEN": check["authorize"]})
    event = json.loads(json.dumps(CHECKS["event"]))
    method, path = check["request"].split()
    event["routeKey"] = event["requestContext"]["routeKey"] = check["request"]
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["requestContext"]["http"]["method"] = method
    event["requestContext"]["requestId"] = f"verify-{secrets.token_hex(6)}"
    if "body" in check:
        event["headers"]["content-type"] = "application/json"
        event["body"] = json.dumps(check["body"])
    if "form" in check:
        event["headers"]["content-type"] = "application/x-www-form-urlencoded"
        event["body"] = check["form"]
    if "token" in check:
        event["headers"]["authorization"] = f"Bearer {check['token']}"
    return filled(event, {})


def filled(event, replacements):
    """Other counts each time, so that the checks of many deployments never wait for each other."""
    replacements = {
        "ADDRESS": f"192.0.2.{random.randint(1, 254)}",
        "USERID": f"verify-{secrets.token_hex(8)}",
    } | replacements
    text = json.dumps(event)
    for placeholder, value in replacements.items():
        text = text.replace(placeholder, value)
    return json.loads(text)


def invoke(functions, name, version, payload):
    """The answer, or else what went wrong."""
    try:
        answer = functions.invoke(FunctionName=name, Qualifier=version, Payload=json.dumps(payload).encode())
    except Exception as error:  # throttled, not permitted, no answer
        return None, f"{type(error).__name__}: {error}"
    text = answer["Payload"].read().decode(errors="replace")
    if answer.get("FunctionError"):
        return None, f"{answer['FunctionError']}: {text[:300]}"
    try:
        return json.loads(text), None
    except ValueError:
        return None, f"not JSON: {text[:300]}"


def difference(check, answer):
    """What is wrong with the answer, or None."""
    if "answer" in check:
        return None if answer == check["answer"] else f"{json.dumps(answer)[:300]}"
    if answer.get("statusCode") != check["status"]:
        return f"{answer.get('statusCode')} instead of {check['status']}: {str(answer.get('body'))[:300]}"
    headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
    for name, values in (answer.get("multiValueHeaders") or {}).items():
        headers[name.lower()] = values[0]
    expected = check.get("content_type", "application/json")
    if headers.get("content-type") != expected:
        return f"content-type {headers.get('content-type')} instead of {expected}"
    if "code" not in check and "error" not in check:
        return None  # a page
    if headers.get("cache-control") != "no-store":
        return f"cache-control {headers.get('cache-control')} instead of no-store"
    body = json.loads(answer["body"])
    if "error" in check:
        return None if body.get("error") == check["error"] else f"{body} instead of {check['error']}"
    if set(body) != {"code", "message", "data"}:
        return f"not the envelope: {sorted(body)}"
    if body["code"] != check["code"]:
        return f"code {body['code']} instead of {check['code']}"
    if "data" in check and body["data"] != check["data"]:
        return f"data {json.dumps(body['data'])[:300]}"
    return None
