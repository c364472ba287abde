"""The summary of a release, in Markdown: a line for each function."""

import json
from dataclasses import dataclass, field


@dataclass
class Line:
    """What became of a function."""

    name: str
    result: str = "unchanged"
    before: str = ""
    after: str = ""
    checks: str = ""
    shift: str = ""
    failed: bool = False


@dataclass
class Summary:
    environment: str
    build: str
    lines: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def line(self, name):
        return self.lines.setdefault(name, Line(name))

    @property
    def failed(self):
        return any(line.failed for line in self.lines.values())

    def markdown(self):
        rows = [
            f"| {line.name} | "
            + " | ".join(map(cell, (line.before, line.after, line.checks, line.shift, line.result)))
            + " |"
            for line in self.lines.values()
        ]
        table = (
            ["| function | before | now | checks of the new version | shift | result |", "|--|--|--|--|--|--|", *rows]
            if rows
            else []
        )
        notes = [f"- {cell(note)}" for note in self.notes]
        return (
            "\n".join([f"## {self.environment}: {self.build}", "", *notes, *([""] if notes and table else []), *table])
            + "\n"
        )


def cell(text):
    """A reason may be of any shape, and must not end the row or be taken for markup."""
    text = " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= 500 else text[:499] + "…"


def checks(lines, deployment):
    """What the hook (deploy/verify) logged about a deployment."""
    for text in reversed(lines):
        try:
            outcome = json.loads(text)
        except ValueError:
            continue
        if isinstance(outcome, dict) and outcome.get("deployment") == deployment:
            if outcome["failed"]:
                return "failed: " + "; ".join(outcome["failed"])
            return f"{outcome['passed']} passed"
    return ""


def shift(configuration):
    """`CodeDeployDefault.LambdaCanary10Percent5Minutes` in words."""
    return configuration.removeprefix("CodeDeployDefault.Lambda")
