#!/usr/bin/env python3
"""Finds the run of the workflow deploy that built this tag's commit and deployed it to staging, for production.

    deploy/find_build.py FUNCTION CODE      # as for release.py; prints `run-id=…`, empty if CODE is not build

Production gets the same binaries, and nothing that staging has not had: of a run by hand that deployed one function to
staging, only that function. Reads GITHUB_REF_TYPE, GITHUB_SHA, GITHUB_REPOSITORY, GITHUB_API_URL and GH_TOKEN.
"""

import json
import os
import sys
import urllib.request


class NotDeployed(Exception):
    """Production cannot have this, for the reason in the message."""


def choose(runs, function):
    """The newest successful run that has deployed this to staging. `display_title` is the workflow's run-name."""
    for run in sorted(runs, key=lambda run: run["run_number"], reverse=True):
        pushed = run["event"] == "push" and run["head_branch"] == "main"
        by_hand = run["event"] == "workflow_dispatch" and run["display_title"] in (
            "staging: all",
            f"staging: {function}",
        )
        if run["conclusion"] == "success" and (pushed or by_hand):
            return run["id"]
    return None


def find(environment, function, code, fetch):
    if environment["GITHUB_REF_TYPE"] != "tag":
        raise NotDeployed('production is deployed from a tag: choose one at "Use workflow from"')
    if code != "build":
        return ""  # code that production has had already
    commit, repository = environment["GITHUB_SHA"], environment["GITHUB_REPOSITORY"]
    path = f"/repos/{repository}/actions/workflows/deploy.yml/runs?head_sha={commit}&status=success&per_page=100"
    run = choose(fetch(path)["workflow_runs"], function)
    if run is None:
        what = "all functions" if function == "all" else function
        raise NotDeployed(
            f"{commit} has not been deployed to staging with {what}: merge it into main and wait for its "
            "deployment, or deploy its branch to staging by hand"
        )
    artifacts = fetch(f"/repos/{repository}/actions/runs/{run}/artifacts?name=build")["artifacts"]
    if not any(not artifact["expired"] for artifact in artifacts):
        raise NotDeployed(f"the build of run {run} is no longer kept: run the workflow on that commit again")
    return run


def main(arguments, environment):
    def fetch(path):
        headers = {"Authorization": f"Bearer {environment['GH_TOKEN']}", "Accept": "application/vnd.github+json"}
        url = environment.get("GITHUB_API_URL", "https://api.github.com") + path
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return json.load(response)

    try:
        print(f"run-id={find(environment, *arguments, fetch)}")
    except NotDeployed as error:
        print(f"::error::{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
