"""A stand-in for the Lambda runtime for Python, where AWS's image with it cannot be pulled."""

import http.client
import importlib
import json
import os
import sys

sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", "/var/task"))
module, name = os.environ["_HANDLER"].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)


def call(method, path, body=None):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request(method, f"/2018-06-01/runtime/invocation/{path}", body)
    response = api.getresponse()
    return response.headers.get("lambda-runtime-aws-request-id"), response.read()


while True:
    invocation, event = call("GET", "next")
    try:
        call("POST", f"{invocation}/response", json.dumps(handler(json.loads(event), None)))
    except Exception as error:  # the handler's
        call("POST", f"{invocation}/error", json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}))
