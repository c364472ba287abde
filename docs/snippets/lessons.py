"""A function behind the authorizer, on an HTTP API or a REST API: says who is calling."""

import json


def caller(event):
    context = event["requestContext"]["authorizer"]
    context = context.get("lambda", context)  # an HTTP API nests it
    roles = [role for role in context.get("roles", "").split(",") if role]
    return {"user_id": context["user_id"], "session_id": context["session_id"], "roles": roles}


def handler(event, _context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(caller(event))}
