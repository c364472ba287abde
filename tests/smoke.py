#!/usr/bin/env python3
"""Calls every route in functions/docs/openapi.json on a deployment.

    tests/smoke.py https://….execute-api.eu-central-1.amazonaws.com

It writes nothing except the count of one failed log-in. Where mail is not set up, its four routes must not exist.
"""

import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
JSON = {"content-type": "application/json"}
base, = sys.argv[1:]


def call(method, path, headers, body=None):
    request = urllib.request.Request(base.rstrip("/") + path, body and json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            return response.status, json.load(response)["code"]
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            return error.code, json.loads(text)["code"]
        except (ValueError, KeyError, TypeError):
            return error.code, text  # a response of the gateway
    except (OSError, ValueError, KeyError) as error:
        return 0, str(error)


MAIL = {"/auth/forgot", "/auth/reset", "/auth/email", "/auth/email/confirm"}
failures = 0


def expect(status, code, method, path, headers={}, body=None, tries=1):
    """Calls a route until it answers so. Any code will do if that is None: the response is the gateway's."""
    global failures
    for again in reversed(range(tries)):
        found = call(method, path, headers, body)
        passed = found[0] == status and code in (None, found[1])
        if passed or not again:
            break
        time.sleep(2)
    failures += not passed
    print(f"ok    {method} {path}: {code or status}" if passed else f"FAIL  {method} {path}: {found}, not {(status, code)}", flush=True)


expect(200, 1, "GET", "/health", tries=5)
mail = call("POST", "/auth/forgot", {})[0] != 404
for path, methods in json.loads((ROOT / "functions/docs/openapi.json").read_text())["paths"].items():
    path = re.sub(r"\{.*?\}", "00000000-0000-0000-0000-000000000000", path)
    for method, operation in methods.items():
        if path in MAIL and not mail:
            expect(404, None, method.upper(), path)
        # With neither a body nor a token.
        elif "requestBody" in operation:
            expect(415, 41501, method.upper(), path)
        elif operation["security"]:
            expect(401, 40102, method.upper(), path)
            expect(401, 40103, method.upper(), path, {"authorization": "Bearer x"})
        else:
            expect(200, 1, method.upper(), path)
expect(401, 40101, "POST", "/auth/login", JSON, {"userid": "smoke-test", "password": "there is no such account"})
sys.exit(failures > 0)
