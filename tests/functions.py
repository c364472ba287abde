"""The list of functions in functions/lib.rs: `name`, `needs`, `routes` ([method, path]) and `pages` (paths) of each; and events
for their routes."""

import json
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def functions():
    # Without --package, so that it reuses a build of the workspace.
    command = ["cargo", "run", "--quiet", "--locked", "--example", "list"]
    # Check SQL against the committed .sqlx, whatever DATABASE_URL is.
    environment = os.environ | {"SQLX_OFFLINE": "true"}
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def event_of(method, path, suffix="", body=None, token=None, **parameters):
    """An event for any route, of an HTTP API, or with the suffix "-rest" of a REST API; a parameter of the path that is
    not given is 0."""
    event = json.loads((ROOT / f"tests/events/health{suffix}.json").read_text())
    context = event["requestContext"]
    parameters = {name: parameters.get(name, "0") for name in re.findall(r"\{(.*?)\}", path)}
    event["pathParameters"] = parameters or None
    headers = {}
    if body is not None:
        event["body"] = json.dumps(body)
        headers["content-type"] = "application/json"
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    event["headers"] |= headers
    if suffix:
        event["multiValueHeaders"] |= {name: [value] for name, value in headers.items()}
        event["httpMethod"] = context["httpMethod"] = method
        event["resource"] = context["resourcePath"] = path
        event["path"] = path.format(**parameters)
    else:
        event["routeKey"] = context["routeKey"] = f"{method} {path}"
        event["rawPath"] = context["http"]["path"] = path.format(**parameters)
        context["http"]["method"] = method
    return event


def delivery(answer):
    """What the Lambda service sends to the destination of a function that answered so."""
    return {"version": "1.0", "timestamp": "2026-11-26T03:00:00.000Z", "requestContext": {"condition": "Success"},
            "requestPayload": {}, "responseContext": {"statusCode": 200}, "responsePayload": answer}


def authorizer_event(kind, credentials):
    """An event for the authorizer, with this header `Authorization`: the name of a file in tests/events says of which gateway."""
    text = (ROOT / f"tests/events/authorizer-{kind}.json").read_text()
    return json.loads(text.replace("Bearer TOKEN", credentials))
