#!/usr/bin/env python3
"""Invokes the function `admin`, which does what operators do with accounts. docs/operations.md lists the actions.

    deploy/admin.py production find userid=alice reason='ticket 7'
    deploy/admin.py production set_roles userid=alice roles='["teacher"]' reason='new teacher' by=Mei
    deploy/admin.py production end_sessions --token reason='leaked token' < token
    deploy/admin.py production import users.json reason='move from the old system'             tries, and makes nobody
    deploy/admin.py production import users.json reason='move from the old system' --make

`local` instead of production is a development machine. `by` is who is logged in, unless it is given. The exit status is
1 if anything was refused. Needs credentials for AWS, and the packages in deploy/requirements.txt.
"""

import argparse
import base64
import getpass
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The most that one invocation takes.
USERS = 5000
# Members that are not texts.
JSON = {"roles", "user_ids"}


def member(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("not NAME=VALUE")
    return name, json.loads(value) if name in JSON else value


def user_of(token):
    """The user whose token it is; nobody checks its signature."""
    claims = token.strip().split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["user_id"]


def on_aws(environment):
    # Only here, since a development machine has no need for the packages.
    import boto3
    import template
    from botocore.config import Config

    settings = template.settings((ROOT / "samconfig.toml").read_text(), environment)
    # Without retries: an import that takes longer would be repeated beside itself.
    config = Config(read_timeout=120, retries={"total_max_attempts": 1})
    client = boto3.session.Session(region_name=settings["region"]).client("lambda", config=config)
    return of_lambda(client, f"{settings['stack']}-admin")


def of_lambda(client, function):
    def invoke(event):
        answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        content = json.load(answer["Payload"])
        if "FunctionError" in answer:
            return {"error": f"the database failed, or the function; invoke it again: {content.get('errorMessage')}"}
        return content

    return invoke


def locally(event):
    run = subprocess.run(
        ["cargo", "run", "--quiet", "--package", "local", "--", "admin", "-"],
        cwd=ROOT,
        input=json.dumps(event),
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(run.stdout) if run.stdout.strip() else {"error": "no answer"}


def bring(invoke, users, event, make):
    """Imports users in batches. Returns whether all were accepted; the index of a refused one is that in `users`."""
    accepted = True
    for start in range(0, len(users), USERS):
        answer = invoke(event | {"users": users[start : start + USERS], "dry_run": not make})
        refused = [entry | {"index": start + entry["index"]} for entry in answer.get("refused", [])]
        counts = {name: len(answer[name]) for name in ("made", "present") if name in answer}
        problems = {name: value for name, value in (("refused", refused), ("error", answer.get("error"))) if value}
        print(json.dumps({"users": f"{start}-{min(start + USERS, len(users)) - 1}", **counts, **problems}), flush=True)
        accepted = accepted and not problems
    return accepted


def main(arguments=None, invoke=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml, or local")
    parser.add_argument("action")
    parser.add_argument("members", nargs="*", metavar="NAME=VALUE", help="of import, first a file: an array of users")
    parser.add_argument("--token", action="store_true", help="the user whose token is on standard input")
    parser.add_argument("--make", action="store_true", help="of import")
    options = parser.parse_intermixed_args(arguments)
    given = options.members
    try:
        path = given.pop(0) if options.action == "import" else None
        event = {"action": options.action, "by": getpass.getuser()} | dict(map(member, given))
        if options.token:
            event["user_id"] = user_of(sys.stdin.read())
        users = path and json.loads(pathlib.Path(path).read_text())
    except (ValueError, LookupError, OSError) as error:
        parser.error(str(error))
    invoke = invoke or (locally if options.environment == "local" else on_aws(options.environment))
    if path:
        return 0 if bring(invoke, users, event, options.make) else 1
    answer = invoke(event)
    print(json.dumps(answer, indent=1, ensure_ascii=False))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
