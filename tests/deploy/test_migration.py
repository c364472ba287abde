"""The result of a migration, found in its log (deploy/migration.py)."""

import json
import unittest

import example  # noqa: F401
import migration

ID = "8f1d2c3b-1111-4222-8333-444455556666"


def ours(message, invocation=ID, **more):
    return json.dumps(
        {
            "timestamp": "2026-11-26T07:03:31Z",
            "level": "INFO",
            "message": message,
            **more,
            "span": {"name": "invocation", "request_id": invocation},
        }
    )


def platform(kind, invocation=ID, **record):
    """A line of Lambda's own where the format of the log is JSON."""
    return json.dumps(
        {"time": "2026-11-26T07:03:31.000Z", "type": f"platform.{kind}", "record": {"requestId": invocation, **record}}
    )


class Outcome(unittest.TestCase):
    def outcome(self, *lines):
        return migration.outcome(lines, ID)

    def test_it_has_not_ended(self):
        self.assertIsNone(self.outcome())
        self.assertIsNone(self.outcome(platform("start"), ours("notice"), "", "not JSON", "[1]", f'"{ID}"'))

    def test_done_with_its_result(self):
        self.assertEqual(
            self.outcome(platform("start"), ours("done", result='{"applied":[8]}')), (True, '{"applied":[8]}')
        )

    def test_failed_with_its_reason(self):
        lines = [
            ours("failed", error="a table is locked"),
            platform("report", status="error", errorType="Runtime.Unknown"),
        ]
        self.assertEqual(self.outcome(*lines), (False, "a table is locked"))
        self.assertEqual(self.outcome(*reversed(lines)), (False, "a table is locked"))

    def test_another_run_is_not_meant(self):
        self.assertIsNone(self.outcome(ours("done", invocation="another", result="{}")))
        self.assertIsNone(self.outcome(ours("done", invocation="another", result=ID)))
        self.assertIsNone(self.outcome("2026-11-26T07:18:31Z another Task timed out after 900.00 seconds"))

    def test_a_run_that_was_killed(self):
        self.assertEqual(self.outcome(platform("runtimeDone", status="timeout")), (False, "Lambda ended it: timeout"))
        self.assertEqual(
            self.outcome(platform("report", status="error", errorType="Runtime.ExitError")),
            (False, "Lambda ended it: error Runtime.ExitError"),
        )
        text = f"2026-11-26T07:18:31Z {ID} Task timed out after 900.00 seconds\n"
        self.assertEqual(self.outcome(text), (False, text.strip()))

    def test_a_report_of_success_alone_is_no_result(self):
        self.assertIsNone(self.outcome(platform("runtimeDone", status="success"), platform("report", status="success")))


if __name__ == "__main__":
    unittest.main()
