"""What operators do with accounts (deploy/admin.py)."""

import base64
import contextlib
import io
import json
import pathlib
import re
import tempfile
import unittest
from unittest import mock

import boto3
from botocore.stub import Stubber

from example import ROOT
import admin


def go(invoke, *arguments, stdin=""):
    """Exit status, and what is printed."""
    with (
        mock.patch("getpass.getuser", return_value="mei"),
        mock.patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return admin.main(["production", *arguments], invoke), output.getvalue()


class Actions(unittest.TestCase):
    def invoke(self, event):
        self.event = event
        return {"users": []}

    def test_members_are_texts_but_for_lists(self):
        status, output = go(self.invoke, "set_roles", "userid=7", 'roles=["teacher"]', "reason=a=b")
        self.assertEqual((status, json.loads(output)), (0, {"users": []}))
        self.assertEqual(
            self.event, {"action": "set_roles", "by": "mei", "userid": "7", "roles": ["teacher"], "reason": "a=b"}
        )

    def test_by_can_be_somebody_else(self):
        go(self.invoke, "find", "userid=alice", "by=Mei", "reason=r")
        self.assertEqual(self.event["by"], "Mei")

    def test_the_user_of_a_token(self):
        for user in ("0b7e6c1a", "0b7e6c1a-"):  # with and without padding
            claims = base64.urlsafe_b64encode(json.dumps({"user_id": user}).encode()).decode().rstrip("=")
            go(self.invoke, "end_sessions", "--token", "reason=leaked", stdin=f"e30.{claims}.signature\n")
            self.assertEqual(self.event["user_id"], user)

    def test_what_was_refused_is_a_failure(self):
        self.assertEqual(go(lambda event: {"error": "no such user"}, "find", "userid=alice", "reason=r")[0], 1)

    def test_arguments_that_make_no_sense_are_refused(self):
        for arguments in (["find", "alice"], ["set_roles", "roles=teacher"], ["import"], ["import", "/nowhere"]):
            with self.subTest(arguments), self.assertRaises(SystemExit):
                go(self.invoke, *arguments)
        with self.assertRaises(SystemExit):
            go(self.invoke, "end_sessions", "--token", stdin="not a token")

    def test_the_lists_are_those_of_the_function(self):
        source = (ROOT / "functions/admin/event.rs").read_text()
        self.assertEqual(set(re.findall(r"fn (\w+)\(value: Value\) -> Result<Vec<", source)), admin.JSON)


class Import(unittest.TestCase):
    def bring(self, count, *arguments, answer=lambda users: {"made": users, "present": [], "refused": []}):
        self.events = []

        def invoke(event):
            self.events.append(event)
            return answer(event["users"])

        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "users.json"
            path.write_text(json.dumps([{"userid": str(number)} for number in range(count)]))
            status, output = go(invoke, "import", str(path), "reason=move", *arguments)
        return status, [json.loads(line) for line in output.splitlines()]

    def test_in_batches_and_first_without_making_anybody(self):
        status, lines = self.bring(5002)
        self.assertEqual([(len(event["users"]), event["dry_run"]) for event in self.events], [(5000, True), (2, True)])
        self.assertEqual(lines[1], {"users": "5000-5001", "made": 2, "present": 0})
        self.assertEqual(status, 0)

    def test_then_for_real(self):
        self.bring(1, "--make")
        self.assertIs(self.events[0]["dry_run"], False)

    def test_a_refused_one_is_named_by_its_place_in_the_file(self):
        refused = [{"index": 1, "message": "too long"}]
        status, lines = self.bring(5002, answer=lambda users: {"made": [], "present": [], "refused": refused})
        self.assertEqual(status, 1)
        self.assertEqual([line["refused"][0]["index"] for line in lines], [1, 5001])

    def test_an_error_of_a_batch_does_not_hide_the_next(self):
        status, lines = self.bring(5001, answer=lambda users: {"error": "busy"})
        self.assertEqual((status, [line["error"] for line in lines]), (1, ["busy", "busy"]))


class OnAws(unittest.TestCase):
    def answer(self, content, **more):
        client = boto3.session.Session("key", "secret", region_name="eu-central-1").client("lambda")
        with Stubber(client) as stub:
            stub.add_response(
                "invoke",
                {"Payload": io.BytesIO(json.dumps(content).encode()), **more},
                {"FunctionName": "people-production-admin", "Payload": b'{"action": "find"}'},
            )
            return admin.of_lambda(client, "people-production-admin")({"action": "find"})

    def test_the_answer_of_the_function(self):
        self.assertEqual(self.answer({"users": []}), {"users": []})

    def test_a_failed_invocation_is_an_error(self):
        answer = self.answer({"errorMessage": "timed out"}, FunctionError="Unhandled")
        self.assertRegex(answer["error"], "invoke it again: timed out")


if __name__ == "__main__":
    unittest.main()
