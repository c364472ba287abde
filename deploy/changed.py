#!/usr/bin/env python3
"""Prints which functions the commits since BASE (default: where this branch left main) can change, as Markdown.

    deploy/changed.py [BASE]

By the files that they touch, so more than really change: a release compares code and settings with what runs.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Compiled into several: all of them, unless it is known which.
EVERYWHERE = r"shared/|migrations/.*\.sql$|\.sqlx/|\.cargo/|Cargo\.(toml|lock)$|rust-toolchain\.toml$|functions/[^/]+$"
ONLY = {"functions/job.rs": {"Migrate", "Purge"}, "functions/list.rs": set()}
# What is not compiled into anything, in directories that are.
NOT_COMPILED = r".*\.md$|shared/(tests|benches)/"


def functions():
    """The functions, by the directories of their code."""
    return {path.parent.name.capitalize() for path in (ROOT / "functions").glob("*/main.rs")}


def changed(paths, functions):
    """Each function that one of the paths can change, with the first such path; and what else is deployed."""
    found, others = {}, []
    for path in sorted(paths):
        if path in ONLY:
            concerned = ONLY[path]
        elif re.match(NOT_COMPILED, path):
            concerned = set()
        elif re.match(EVERYWHERE, path):
            concerned = functions
        elif path.startswith("functions/"):
            concerned = {path.split("/")[1].capitalize()} & functions
        elif path.startswith("deploy/verify/"):
            concerned = {"Verify"}
        else:
            concerned = set()
        for name in concerned:
            found.setdefault(name, path)
        if path == "template.yaml":
            others.append("template.yaml: the stack, and each function whose settings it changes")
        if path == "samconfig.toml":
            others.append("samconfig.toml: the stack, and each function that a changed parameter concerns")
        if path == "deploy/database.yaml":
            others.append("deploy/database.yaml: nothing until somebody deploys it")
    return found, others


def markdown(found, others):
    lines = ["## Functions that this changes", ""]
    lines += [f"- {name} ({path})" for name, path in sorted(found.items())] or ["None."]
    return "\n".join(lines + [f"- {other}" for other in others]) + "\n"


def paths_since(base):
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    start = git("merge-base", base, "HEAD").strip()
    if start == git("rev-parse", "HEAD").strip():  # on main itself: what its last commit brought
        start = git("rev-parse", "HEAD^1").strip()
    return git("diff", "--name-only", start, "HEAD").splitlines()


if __name__ == "__main__":
    print(markdown(*changed(paths_since((sys.argv[1:] or ["origin/main"])[0]), functions())), end="")
