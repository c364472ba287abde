#!/usr/bin/env python3
"""Asks the logs of an environment, of all functions and the gateway, by CloudWatch Logs Insights.

    deploy/logs.py production failures                     failures and their reasons
    deploy/logs.py production request JKJaXmPLvHcOUT4=     a request, by its x-request-id
    deploy/logs.py production guesses                      sources of password guesses
    deploy/logs.py production guessed                      log-ins that succeeded after many failures
    deploy/logs.py production latency                      latency and cold starts
    deploy/logs.py production operators                    what operators did
    deploy/logs.py production deleted                      accounts that were deleted
    deploy/logs.py production 'filter span.route = "GET /auth/me" | limit 3'
    … --hours 48                                           of the last two days (default: 3 hours)

Needs credentials for AWS, and the packages in deploy/requirements.txt.
"""

import argparse
import pathlib
import sys
import time

import boto3

import template as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUERIES = {
    "failures": "filter status >= 500 | stats count(*) as n by span.route, error, bin(5m) | sort n desc",
    "request": 'filter span.request_id = "{}" or requestId = "{}" | '
    "fields @log, @timestamp, @message | sort @timestamp",
    "guesses": 'filter event in ["authn_login_fail", "authn_login_fail_max"] | '
    "stats count(*) as n by span.source_address, event | sort n desc | limit 20",
    "guessed": 'filter event = "authn_login_successafterfail" and failures >= 5 | '
    "fields @timestamp, user_id, failures, span.source_address",
    "latency": 'filter message = "request" | '
    "stats pct(milliseconds, 50), pct(milliseconds, 95), pct(milliseconds, 99), count(*) by span.route, cold",
    "operators": 'filter event = "authz_admin" | '
    "fields @timestamp, by, action, outcome, user_id, reason, span.request_id | sort @timestamp desc",
    "deleted": 'filter event = "user_deleted" | fields @timestamp, user_id | sort @timestamp | limit 10000',
}
POLL_SECONDS = 1


def query(name, value):
    """The text of a query. A value goes into a string of it."""
    if value is not None and ('"' in value or "\\" in value):
        raise ValueError("a request id has no quotes")
    text = QUERIES.get(name, name)
    if ("{}" in text) != (value is not None):
        raise ValueError("`request` needs the id, and no other query has one")
    return text.replace("{}", value or "")


def groups(logs, stack):
    pages = logs.get_paginator("describe_log_groups")
    return [
        group["logGroupName"]
        for prefix in (f"/aws/lambda/{stack}-", f"/aws/vendedlogs/apigateway/{stack}")
        for page in pages.paginate(logGroupNamePrefix=prefix)
        for group in page["logGroups"]
    ]


def ask(logs, stack, text, hours, now, sleep=time.sleep):
    """The rows of the answer: name and value of each column."""
    begun = logs.start_query(
        logGroupNames=groups(logs, stack), startTime=int(now - 3600 * hours), endTime=int(now), queryString=text
    )
    while True:
        answer = logs.get_query_results(queryId=begun["queryId"])
        if answer["status"] not in ("Scheduled", "Running"):
            break
        sleep(POLL_SECONDS)
    if answer["status"] != "Complete":
        raise RuntimeError(f"the query ended as {answer['status']}")
    return [
        {column["field"]: column["value"] for column in row if column["field"] != "@ptr"} for row in answer["results"]
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a section of samconfig.toml")
    parser.add_argument("query", help=", ".join(QUERIES) + ", or a query of your own")
    parser.add_argument("value", nargs="?", help="of `request`")
    parser.add_argument("--hours", type=float, default=3)
    options = parser.parse_args(arguments)
    try:
        text = query(options.query, options.value)
    except ValueError as error:
        parser.error(str(error))
    settings = t.settings((ROOT / "samconfig.toml").read_text(), options.environment)
    logs = boto3.session.Session(region_name=settings["region"]).client("logs")
    rows = ask(logs, settings["stack"], text, options.hours, time.time())
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    print(f"{len(rows)} rows", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
