"""Finds the result of an asynchronous run of `migrate` in its log."""

import json


def outcome(lines, invocation):
    """(True, result), (False, reason), or None while the run has not ended.

    The function writes one line at its end (functions/job.rs). Of a run that was killed there are only Lambda's own:
    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
    """
    killed = None
    for text in lines:
        if invocation not in text:
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = {}
        if not isinstance(line, dict):
            continue
        record = line.get("record")
        if (line.get("span") or {}).get("request_id") == invocation:
            if line.get("message") == "done":
                return True, line.get("result", "")
            if line.get("message") == "failed":
                return False, line.get("error", "")
        elif isinstance(record, dict) and record.get("requestId") == invocation:
            if (
                line.get("type") in ("platform.runtimeDone", "platform.report")
                and record.get("status", "success") != "success"
            ):
                killed = " ".join(filter(None, ["Lambda ended it:", record["status"], record.get("errorType")]))
        elif not line and any(sign in text for sign in ("Task timed out", "Runtime exited", "Error: ")):
            killed = text.strip()
    return None if killed is None else (False, killed)
