"""The check of a new version before its traffic shifts (deploy/verify)."""

import contextlib
import io
import json
import random
import unittest
from unittest import mock

from example import ROOT
import template as t
import verify

EVENT = {"DeploymentId": "d-ABC", "LifecycleEventHookExecutionId": "e-1"}
NO_STORE = {"content-type": "application/json", "Cache-Control": "no-store"}


def answer(status, code, data=None, **headers):
    return {
        "statusCode": status,
        "headers": NO_STORE | headers,
        "body": json.dumps({"code": code, "message": "a sentence", "data": data}),
    }


class CodeDeploy:
    """Answers as the API does, where the content of the revision is only in GetApplicationRevision."""

    def __init__(self, name="people-staging-me", kind="string", content=None):
        resource = {
            "Type": "AWS::Lambda::Function",
            "Properties": {"Name": name, "Alias": "live", "CurrentVersion": "11", "TargetVersion": "12"},
        }
        self.content = content or json.dumps(
            {"version": 0.0, "Resources": [{name: resource}], "Hooks": [{"BeforeAllowTraffic": "verify"}]}
        )
        self.kind, self.reported = kind, []

    def get_deployment(self, deploymentId):
        return {
            "deploymentInfo": {
                "applicationName": "application",
                "revision": {"revisionType": "String", self.kind: {"sha256": "00"}},
            }
        }

    def get_application_revision(self, applicationName, revision):
        assert (applicationName, revision[self.kind]) == ("application", {"sha256": "00"})
        return {"revision": revision | {self.kind: {"content": self.content, "sha256": "00"}}}

    def put_lifecycle_event_hook_execution_status(self, deploymentId, lifecycleEventHookExecutionId, status):
        assert (deploymentId, lifecycleEventHookExecutionId) == ("d-ABC", "e-1")
        self.reported.append(status)


class Functions:
    """Answers, or raises, one after the other; the last one again and again."""

    def __init__(self, *answers, error=None):
        self.answers, self.error, self.calls = list(answers), error, []

    def invoke(self, FunctionName, Qualifier, Payload):
        self.calls.append((FunctionName, Qualifier, json.loads(Payload)))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        payload = found if isinstance(found, bytes) else json.dumps(found).encode()
        return {"StatusCode": 200, "Payload": io.BytesIO(payload)} | (
            {"FunctionError": self.error} if self.error else {}
        )


class Context:
    def __init__(self, milliseconds=300_000):
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self):
        return self.milliseconds


def run(functions, codedeploy=None, context=None):
    """The outcome, what was reported, and the line of the log."""
    codedeploy = codedeploy or CodeDeploy()
    with mock.patch("time.sleep"), contextlib.redirect_stdout(io.StringIO()) as log:
        outcome = verify.verify(EVENT, context or Context(), codedeploy, functions)
    assert json.loads(log.getvalue()) == outcome and log.getvalue().count("\n") == 1
    return outcome, codedeploy.reported


ME = [answer(401, 40102), answer(401, 40103)]


class TheHook(unittest.TestCase):
    def test_the_new_version_is_called_and_success_reported(self):
        functions = Functions(*ME)
        outcome, reported = run(functions)
        self.assertEqual(
            outcome,
            {"deployment": "d-ABC", "passed": 2, "failed": [], "function": "people-staging-me", "version": "12"},
        )
        self.assertEqual(reported, ["Succeeded"])
        self.assertEqual([call[:2] for call in functions.calls], [("people-staging-me", "12")] * 2)
        self.assertEqual(functions.calls[0][2]["routeKey"], "GET /auth/me")

    def test_the_content_may_be_called_as_it_is_since_2019_and_the_name_an_arn(self):
        codedeploy = CodeDeploy("arn:aws:lambda:eu-central-1:123456789012:function:people-staging-me", "appSpecContent")
        self.assertEqual(run(Functions(*ME), codedeploy)[0]["function"], "people-staging-me")

    def test_a_wrong_answer_fails_the_deployment_and_says_which(self):
        for wrong, part in [
            (answer(500, 50001), "500 instead of 401"),
            (answer(401, 40103), "code 40103 instead of 40102"),
            (answer(401, 40102, **{"content-type": "text/html"}), "content-type text/html"),
            (answer(401, 40102, **{"Cache-Control": "max-age=60"}), "cache-control max-age=60"),
            (answer(401, 40102) | {"body": '{"detail": "no"}'}, "not the envelope: ['detail']"),
            (answer(401, 40102) | {"body": None}, "not an answer"),
            ({"isAuthorized": True}, "None instead of 401"),
            ([], "not an answer"),
            (b"", "not JSON"),
            (RuntimeError("throttled"), "RuntimeError: throttled"),
        ]:
            with self.subTest(part):
                outcome, reported = run(Functions(wrong))
                self.assertEqual(reported, ["Failed"])
                self.assertIn("GET /auth/me: ", outcome["failed"][0])
                self.assertIn(part, outcome["failed"][0])

    def test_a_crash_of_the_function_fails(self):
        outcome, reported = run(Functions({"errorType": "Runtime.ExitError"}, error="Unhandled"))
        self.assertEqual(reported, ["Failed"])
        self.assertIn("Unhandled: ", outcome["failed"][0])

    def test_what_passes_at_the_third_attempt_passes(self):
        functions = Functions(RuntimeError("throttled"), answer(503, 50301), *ME)
        self.assertEqual(run(functions)[1], ["Succeeded"])
        self.assertEqual(len(functions.calls), 4)

    def test_a_failure_of_the_hook_itself_is_reported_too(self):
        for codedeploy in (
            CodeDeploy(content="Resources:"),
            CodeDeploy(content='{"Resources": []}'),
            CodeDeploy("people-staging-nobody"),
            CodeDeploy(kind="s3Location"),
        ):
            outcome, reported = run(Functions(*ME), codedeploy)
            self.assertEqual(reported, ["Failed"])
            self.assertIn("the check itself failed", outcome["failed"][0])

    def test_it_stops_while_there_is_time_to_report(self):
        functions = Functions(*ME)
        outcome, reported = run(functions, context=Context(milliseconds=30_000))
        self.assertEqual((functions.calls, reported), ([], ["Failed"]))
        self.assertIn("no time left", outcome["failed"][0])

    def test_an_authorizer_that_lets_somebody_in_fails(self):
        authorizer = CodeDeploy("people-staging-authorizer")
        self.assertEqual(run(Functions({"isAuthorized": False}), authorizer)[1], ["Succeeded"])
        authorizer = CodeDeploy("people-staging-authorizer")
        self.assertEqual(run(Functions({"isAuthorized": True}), authorizer)[1], ["Failed"])

    def test_a_database_that_is_down_fails_health(self):
        for data, expected in [
            ({"status": "ok", "database": "up", "schema": "current"}, "Succeeded"),
            ({"status": "ok", "database": "up", "schema": "behind"}, "Failed"),
        ]:
            self.assertEqual(run(Functions(answer(200, 1, data)), CodeDeploy("people-staging-health"))[1], [expected])


class TheChecks(unittest.TestCase):
    """checks.json is next to the hook, with which it is deployed; it must agree with the rest of the repository."""

    recorded = staticmethod(
        lambda name: json.loads((ROOT / f"tests/events/{name}.json").read_text().replace("203.0.113.7", "ADDRESS"))
    )

    def test_the_events_are_the_recorded_ones(self):
        self.assertEqual(verify.CHECKS["event"], self.recorded("health"))
        self.assertEqual(verify.CHECKS["authorizer_event"], self.recorded("authorizer-http"))

    def test_they_become_the_requests_that_the_other_tests_make(self):
        import sys

        sys.path.append(str(ROOT / "tests"))
        import functions

        with mock.patch("random.randint", return_value=7), mock.patch("secrets.token_hex", return_value="x"):
            for checks in verify.CHECKS["functions"].values():
                for check in checks:
                    if "request" not in check or "form" in check:
                        continue
                    expected = functions.event_of(
                        *check["request"].split(), body=check.get("body"), token=check.get("token")
                    )
                    expected.pop("pathParameters")  # null, and so the same as absent
                    text = json.dumps(expected).replace("203.0.113.7", "192.0.2.7").replace("USERID", "verify-x")
                    expected = json.loads(text)
                    expected["requestContext"]["requestId"] = "verify-x"
                    self.assertEqual(verify.event_of(check), expected)

    def test_every_function_whose_traffic_shifts_has_checks_and_no_other(self):
        template = t.expanded(t.parsed((ROOT / "template.yaml").read_text()))
        names = {name.lower() for name, function in t.functions(template).items() if t.has_alias(function)}
        self.assertEqual(set(verify.CHECKS["functions"]), names)

    def test_each_request_is_one_that_the_function_serves(self):
        template = t.parsed((ROOT / "template.yaml").read_text())
        for name, checks in verify.CHECKS["functions"].items():
            events = template["Resources"][name.capitalize()]["Properties"].get("Events", {}).values()
            routes = {f"{event['Properties']['Method']} {event['Properties']['Path']}" for event in events}
            for check in checks:
                self.assertIn(check.get("request", "authorize"), routes or {"authorize"})

    def test_the_codes_are_those_of_the_description(self):
        described = json.loads((ROOT / "functions/docs/openapi.json").read_text())["paths"]
        for checks in verify.CHECKS["functions"].values():
            for check in checks:
                if "code" in check:
                    method, path = check["request"].split()
                    self.assertIn(str(check["status"]), described[path][method.lower()]["responses"])

    def test_counts_are_of_nobody_and_different_each_time(self):
        (login,) = (check for check in verify.CHECKS["functions"]["login"] if "body" in check)
        events = [verify.event_of(login) for _ in range(20)]
        self.assertEqual(len({event["body"] for event in events}), 20)
        self.assertTrue(all(event["requestContext"]["http"]["sourceIp"].startswith("192.0.2.") for event in events))
        self.assertNotIn("ADDRESS", json.dumps(events))
        self.assertNotIn("USERID", json.dumps(events))


if __name__ == "__main__":
    random.seed(1)
    unittest.main()
