"""Questions to the logs (deploy/logs.py)."""

import re
import unittest

import boto3
from botocore.stub import Stubber

from example import ROOT
import logs


class Queries(unittest.TestCase):
    def test_a_request_needs_its_id_and_nothing_else_does(self):
        self.assertIn('span.request_id = "JKJ=" or requestId = "JKJ="', logs.query("request", "JKJ="))
        for name, value in (("request", None), ("request", 'a" or 1=1'), ("failures", "JKJ=")):
            with self.subTest(name), self.assertRaises(ValueError):
                logs.query(name, value)

    def test_any_other_text_is_a_query(self):
        self.assertEqual(logs.query("limit 3", None), "limit 3")

    def test_they_ask_for_what_is_logged(self):
        source = "".join(
            path.read_text() for place in ("shared/src", "functions") for path in (ROOT / place).rglob("*.rs")
        )
        text = " ".join(logs.QUERIES.values())
        for word in set(re.findall(r'"(\w+)"', text)):
            self.assertIn(f'"{word}"', source)
        plain = {"user_id", "failures", "milliseconds", "cold", "status", "error"}
        for member in plain | set(re.findall(r"span\.(\w+)", text)):
            self.assertRegex(source, rf"\b{member}\b")
        self.assertIn('"requestId":"$context.requestId"', (ROOT / "template.yaml").read_text())


class Ask(unittest.TestCase):
    def setUp(self):
        self.client = boto3.session.Session("key", "secret", region_name="eu-central-1").client("logs")
        self.stub = self.enterContext(Stubber(self.client))

    def ask(self, *answers):
        for prefix, name in [
            ("/aws/lambda/people-staging-", "/aws/lambda/people-staging-me"),
            ("/aws/vendedlogs/apigateway/people-staging", "/aws/vendedlogs/apigateway/people-staging"),
        ]:
            found = {"logGroups": [{"logGroupName": name}]}
            self.stub.add_response("describe_log_groups", found, {"logGroupNamePrefix": prefix})
        self.stub.add_response(
            "start_query",
            {"queryId": "q"},
            {
                "logGroupNames": ["/aws/lambda/people-staging-me", "/aws/vendedlogs/apigateway/people-staging"],
                "startTime": 1000000 - 7200,
                "endTime": 1000000,
                "queryString": "limit 3",
            },
        )
        for answer in answers:
            self.stub.add_response("get_query_results", answer, {"queryId": "q"})
        rows = logs.ask(self.client, "people-staging", "limit 3", 2, 1000000, sleep=lambda _: None)
        self.stub.assert_no_pending_responses()
        return rows

    def test_the_rows_of_the_answer_when_there_is_one(self):
        row = [{"field": "user_id", "value": "7"}, {"field": "@ptr", "value": "x"}]
        rows = self.ask({"status": "Scheduled"}, {"status": "Running"}, {"status": "Complete", "results": [row]})
        self.assertEqual(rows, [{"user_id": "7"}])

    def test_a_query_that_failed_is_no_empty_answer(self):
        with self.assertRaisesRegex(RuntimeError, "Timeout"):
            self.ask({"status": "Timeout", "results": []})


if __name__ == "__main__":
    unittest.main()
