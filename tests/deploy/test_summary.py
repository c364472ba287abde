"""The summary of a release (deploy/summary.py)."""

import unittest

import example  # noqa: F401
import summary


class Markdown(unittest.TestCase):
    def test_a_line_for_each_function(self):
        report = summary.Summary("staging", "1a2b3c4")
        report.line("Docs")
        line = report.line("Me")
        line.before, line.after, line.checks, line.shift, line.result = (
            "v1, version 11",
            "v2, version 12",
            "2 passed",
            "AllAtOnce",
            "deployed",
        )
        report.notes.append("migrate: {}")
        self.assertEqual(
            report.markdown(),
            """\
## staging: 1a2b3c4

- migrate: {}

| function | before | now | checks of the new version | shift | result |
|--|--|--|--|--|--|
| Docs |  |  |  |  | unchanged |
| Me | v1, version 11 | v2, version 12 | 2 passed | AllAtOnce | deployed |
""",
        )
        self.assertFalse(report.failed)
        line.failed = True
        self.assertTrue(report.failed)

    def test_a_reason_of_any_shape_stays_in_its_cell(self):
        self.assertEqual(summary.cell("a | b\n| c | <img>"), "a \\| b \\| c \\| &lt;img>")
        self.assertEqual(len(summary.cell("x" * 900)), 500)

    def test_the_outcome_of_the_checks(self):
        lines = [
            "START",
            "3",
            '{"deployment": "d-1", "passed": 0, "failed": ["GET /auth/me: 500", "b"]}',
            '{"deployment": "d-2", "passed": 2, "failed": []}',
        ]
        self.assertEqual(summary.checks(lines, "d-1"), "failed: GET /auth/me: 500; b")
        self.assertEqual(summary.checks(lines, "d-2"), "2 passed")
        self.assertEqual(summary.checks(lines, "d-3"), "")

    def test_the_shift_in_words(self):
        self.assertEqual(summary.shift("CodeDeployDefault.LambdaCanary10Percent5Minutes"), "Canary10Percent5Minutes")


if __name__ == "__main__":
    unittest.main()
