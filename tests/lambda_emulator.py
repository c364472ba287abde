#!/usr/bin/env python3
"""Sends API Gateway events to the release binary of every function under the Lambda Runtime Interface Emulator.

    sam build
    DATABASE_URL=postgres://… tests/lambda_emulator.py --emulator PATH/aws-lambda-rie-x86_64

The emulator is part of the SAM CLI's Python package: samcli/local/rapid/aws-lambda-rie-x86_64.
The database must be migrated. Each run creates new accounts, so it can be repeated on the same database.
"""

import argparse
import base64
import gzip
import http.server
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from functions import authorizer_event, delivery, event_of, functions

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "deploy/verify"))
sys.dont_write_bytecode = True  # that directory is deployed as it is
import verify  # noqa: E402

ALL = {function["name"]: function for function in functions()}
FUNCTIONS = {name: function for name, function in ALL.items() if function["routes"]}
# Has neither settings nor a database.
DOCS = "docs"
# Invoked by gateways, without a route.
AUTHORIZER = "authorizer"
# Invoked by operators, without a route.
ADMIN = "admin"
HEADERS = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=63072000; includeSubDomains",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
INVALID_TOKEN = {"www-authenticate": 'Bearer realm="people", error="invalid_token"'}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
path = lambda text: pathlib.Path(text).resolve()  # the functions are started in another directory
parser.add_argument("--emulator", type=path, required=True)
parser.add_argument("--binaries", type=path, default=ROOT / ".aws-sam/build",
                    help="default: those of `sam build`; or cargo's, like target/debug")
parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="default: the variable DATABASE_URL")
options = parser.parse_args()
if not options.database_url:
    parser.error("set DATABASE_URL or give --database-url")

SECRET_KEY = secrets.token_hex(32)
MAIL = {"MAIL_FROM": "people@example.com", "APP_RESET_URL": "https://app.example.com/reset",
        "APP_EMAIL_URL": "https://app.example.com/email"}


def binary(function):
    built = options.binaries / function.capitalize() / "bootstrap"
    return built if built.exists() else options.binaries / function


work = tempfile.TemporaryDirectory(prefix="lambda-emulator-")
results = {True: 0, False: 0}


def check(what, passed, otherwise=""):
    results[bool(passed)] += 1
    print(f"ok    {what}" if passed else f"FAIL  {what}: {otherwise}", flush=True)


def environment(database_url, secret_key=SECRET_KEY):
    """The environment of the function: only PATH is inherited, so that no setting leaks in."""
    settings = {"DATABASE_URL": database_url, "SECRET_KEY": secret_key} | MAIL if database_url else {}
    return settings | {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_FUNCTION_NAME": "test",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    }


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Emulator:
    """One function under one emulator, which accepts one event at a time: a second one in parallel crashes it."""

    running = []

    def __init__(self, function, database_url, settings={}):
        self.port, runtime_port = free_ports(2)
        self.log = pathlib.Path(work.name) / f"{function}-{self.port}.log"
        self.process = subprocess.Popen(
            [options.emulator, "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}",
             "--runtime-api-address", f"127.0.0.1:{runtime_port}", binary(function)],
            env=environment(database_url) | settings, cwd=work.name, stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True)
        Emulator.running.append(self)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the emulator of {function} does not listen")

    def invoke(self, event):
        """The function's response to an event, and the seconds it took."""
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        started = time.monotonic()
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode()), timeout=30) as response:
            text = response.read().decode()
        try:
            return json.loads(text), time.monotonic() - started
        except ValueError:
            raise RuntimeError(f"not a response, see {self.log.name}: {text}")

    def kill(self):
        # The emulator starts the function in a new process group, but in the same session: kill the session.
        for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                session = int(entry.read_text().rpartition(")")[2].split()[3])
                if session == self.process.pid:
                    os.kill(int(entry.parent.name), signal.SIGKILL)
            except (OSError, ValueError):
                pass  # it has ended in the meantime
        self.process.wait()


def load(name, userid, token="none"):
    """An event in tests/events for this account. The userid has the same length, so content-length stays correct."""
    event = json.loads((ROOT / "tests/events" / f"{name}.json").read_text().replace("TOKEN", token))
    body = event.get("body") or ""
    if event["isBase64Encoded"]:
        event["body"] = base64.b64encode(base64.b64decode(body).replace(b"event-user", userid.encode())).decode()
    elif body:
        event["body"] = body.replace("event-user", userid)
    return event


def call(emulator, what, event, status, code, headers=(), seconds=30):
    """Sends an event, checks what every response must have, and returns the body."""
    answer, took = emulator.invoke(event)
    if "errorMessage" in answer or "errorType" in answer:
        check(what, False, f"an error of the runtime instead of a response: {answer}")
        return {}
    body = json.loads(answer.get("body") or "null") or {}
    found = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
    found |= {name.lower(): ", ".join(values) for name, values in (answer.get("multiValueHeaders") or {}).items()}
    expected = HEADERS | {"x-request-id": event["requestContext"]["requestId"]} | dict(headers)
    wrong = {name: found.get(name) for name, value in expected.items() if found.get(name) != value}
    check(f"{what}: status {status}", answer.get("statusCode") == status, answer)
    check(f"{what}: headers", not wrong, f"wrong or missing: {wrong}")
    if code is not None:
        check(f"{what}: envelope, code {code}",
              set(body) == {"code", "message", "data"} and body["code"] == code, body)
    if seconds < 30:
        check(f"{what}: within {seconds} s", took < seconds, f"{took:.2f} s")
    return body


def every_route(emulators):
    """Calls each route of the list with neither a body nor a token."""
    described = json.loads((ROOT / "functions/docs/openapi.json").read_text())["paths"]
    for name, function in FUNCTIONS.items():
        for method, path in function["routes"]:
            operation = described[path][method.lower()]
            if "requestBody" in operation:
                status, code = 415, 41501
            elif operation["security"]:
                status, code = 401, 40102
            else:
                status, code = 200, 1
            for suffix in ["", "-rest"]:
                call(emulators[name], f"{method} {path}{suffix}", event_of(method, path, suffix), status, code)


def session(emulators, suffix):
    """Registers an account, logs in twice and logs out once. Returns a live token."""
    userid = f"ev-{secrets.token_hex(4)[:7]}"
    what = "payload 1.0" if suffix else "payload 2.0"

    def send(name, title, status, code, token="none", headers=()):
        event = load(name + suffix, userid, token)
        emulator = emulators["login" if name == "token" else name.removesuffix("-form")]
        return call(emulator, f"{what}: {title}", event, status, code, headers)

    user = (send("register", "register", 200, 1).get("data") or {}).get("user_info") or {}
    check(f"{what}: register: the user is returned", user.get("userid") == userid, user)

    data = send("login", "login", 200, 1, headers={"pragma": "no-cache"}).get("data") or {}
    token = data.get("access_token", "none")
    check(f"{what}: login: a bearer token and the user",
          token.count(".") == 2 and data.get("token_type") == "bearer" and data.get("user_info") == user, sorted(data))

    form = send("login-form", "login by form", 200, None, headers={"pragma": "no-cache"})
    check(f"{what}: login by form: an OAuth2 token answer",
          set(form) == {"access_token", "token_type", "expires_in"}, sorted(form))

    grant = send("token", "the token endpoint", 200, None, headers={"pragma": "no-cache"})
    check(f"{what}: the token endpoint: an OAuth2 token answer", set(grant) == set(form), sorted(grant))

    data = send("me", "me", 200, 1, token).get("data") or {}
    check(f"{what}: me: the user is returned",
          data.get("user_info") == user and data.get("user_id") == user.get("user_id"), data)
    send("logout", "logout", 200, 1, token)
    send("me", "me after logout", 401, 40103, token, INVALID_TOKEN)
    send("me", "me by the other session", 200, 1, form.get("access_token", "none"))
    data = send("health", "health", 200, 1).get("data")
    check(f"{what}: health: ready", data == {"status": "ok", "database": "up", "schema": "current"}, data)
    return form.get("access_token", "none")


def account(emulators, suffix):
    """The second half of an account's life: sessions, profile, password, deletion."""
    userid = f"ev-{secrets.token_hex(4)[:7]}"
    what = "payload 1.0" if suffix else "payload 2.0"
    old, new = "correct horse battery staple", "six candles under the bridge"

    def send(function, method, path, status, code, body=None, token=None, **parameters):
        event = event_of(method, path, suffix, body, token, **parameters)
        return call(emulators[function], f"{what}: {method} {path}: {code}", event, status, code).get("data")

    def log_in(password):
        event = event_of("POST", "/auth/login", suffix, {"userid": userid, "password": password})
        return call(emulators["login"], f"{what}: another log-in", event, 200, 1)["data"]["access_token"]

    send("register", "POST", "/user/register", 200, 1, {"userid": userid, "password": old})
    phone, laptop, tablet = log_in(old), log_in(old), log_in(old)
    listed = send("account", "GET", "/auth/sessions", 200, 1, token=phone)["sessions"]
    check(f"{what}: three sessions, of which the oldest is this one",
          [session["current"] for session in listed] == [False, False, True], listed)
    check(f"{what}: a session has the gateway's address", listed[0]["address"] == "203.0.113.7", listed)
    send("account", "DELETE", "/auth/sessions/{session_id}", 200, 1, token=phone, session_id=listed[0]["session_id"])
    send("account", "DELETE", "/auth/sessions/{session_id}", 404, 40402, token=phone, session_id=listed[0]["session_id"])
    send("me", "GET", "/auth/me", 401, 40103, token=tablet)
    ended = send("account", "DELETE", "/auth/sessions", 200, 1, token=phone)
    check(f"{what}: one other session ended", ended == {"ended": 1, "more": False}, ended)
    send("me", "GET", "/auth/me", 401, 40103, token=laptop)
    changed = send("account", "PATCH", "/auth/me", 200, 1, {"job": "reader", "phone": None}, phone)["user_info"]
    check(f"{what}: the profile is changed", changed["job"] == "reader", changed)
    send("account", "PATCH", "/auth/me", 422, 42201, {"roles": ["admin"]}, phone)
    laptop = log_in(old)
    send("credentials", "POST", "/auth/password", 403, 40301, {"current_password": new, "new_password": new}, phone)
    send("credentials", "POST", "/auth/password", 200, 1, {"current_password": old, "new_password": new}, phone)
    send("me", "GET", "/auth/me", 401, 40103, token=laptop)
    send("credentials", "POST", "/user/delete", 403, 40301, {"password": old}, phone)
    send("credentials", "POST", "/user/delete", 200, 1, {"password": new}, phone)
    send("me", "GET", "/auth/me", 401, 40103, token=phone)


def authorizer(emulators, emulator):
    """What gateways are told of a session while it lives and afterwards, of nobody and of two at once."""
    userid = f"ev-{secrets.token_hex(4)[:7]}"
    before = emulator.log.read_text().count('"message":"request"')
    emulators["register"].invoke(load("register", userid))
    login = json.loads(emulators["login"].invoke(load("login", userid))[0]["body"])["data"]
    token, user_id = login["access_token"], login["user_info"]["user_id"]

    def decides(what, kind, credentials, allowed, code):
        answer, _ = emulator.invoke(authorizer_event(kind, credentials))
        what = f"authorizer, {kind} event: {what}: {'allowed' if allowed else 'refused'}"
        if kind == "http":
            passed = answer.get("isAuthorized") is allowed
        else:
            statement, = answer.get("policyDocument", {}).get("Statement", [{}])
            passed = (statement.get("Effect") == ("Allow" if allowed else "Deny") and isinstance(statement["Resource"], list)
                      and answer["principalId"] == (user_id if allowed else "anonymous"))
        context = answer.get("context", {})
        if allowed:
            passed = passed and set(context) == {"user_id", "session_id", "roles"} and context["user_id"] == user_id
        elif kind != "http":
            passed = passed and context == {"code": code}
        check(what, passed, answer)

    kinds = ["http", "http-1", "rest", "token", "websocket"]
    for kind in kinds:
        decides("a live session", kind, f"Bearer {token}", True, None)
        decides("no token", kind, "Basic none", False, "40102")
        decides("two", kind, f"Bearer {token}, Bearer {token}", False, "40103")
    emulators["logout"].invoke(load("logout", userid, token))
    for kind in kinds:
        decides("logged out", kind, f"Bearer {token}", False, "40103")
    answer, _ = emulator.invoke(load("me", userid, token))
    check("authorizer: an event of a route is an error", "errorMessage" in answer and "isAuthorized" not in answer, answer)
    time.sleep(0.2)  # the emulator copies the log
    log = emulator.log.read_text()
    lines = log.count('"message":"request"') - before
    check("authorizer: one line each", lines == 4 * len(kinds) + 1, f"{lines} lines")
    check("authorizer: logs no token", token not in log, "it does")


class Aws(http.server.BaseHTTPRequestHandler):
    """SES and EventBridge, which accept everything."""

    protocol_version = "HTTP/1.1"
    calls = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Aws.calls.append((self.path, body))
        entries = body.get("Entries")
        answer = {"MessageId": "1"} if entries is None else {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in entries]}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def forgotten_password(emulators):
    """From the request to the mail, and from its link to a log-in; then the event of the deletion."""
    userid = f"ev-{secrets.token_hex(4)[:7]}"
    address, old, new = f"{userid}@example.com", "correct horse battery staple", "six candles under the bridge"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Aws)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    outbox = Emulator("outbox", options.database_url)
    courier = Emulator("courier", None, {
        "MAIL_FROM": MAIL["MAIL_FROM"], "EVENT_BUS": "people", "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}"})

    def send(function, path, code, body, token=None):
        return call(emulators[function], f"mail: POST {path}: {code}", event_of("POST", path, "", body, token), 200, code)

    def deliver():
        answer, _ = outbox.invoke({})
        report, _ = courier.invoke(delivery(answer))
        check(f"mail: courier sends what outbox takes: {report}",
              report == {"sent": len(answer["mails"]), "dropped": 0, "events": len(answer["events"])}, answer)

    deliver()  # what other accounts have left
    Aws.calls.clear()
    send("register", "/user/register", 1, {"userid": userid, "password": old, "email": address})
    send("credentials", "/auth/forgot", 1, {"account": userid})
    deliver()
    (path, mail), = Aws.calls
    text = mail["Content"]["Simple"]["Body"]["Text"]["Data"]
    check("mail: one to the account's address", mail["Destination"] == {"ToAddresses": [address]}, mail)
    token = text.partition(f"{MAIL['APP_RESET_URL']}#token=")[2].split()[0]
    send("credentials", "/auth/reset", 1, {"token": token, "new_password": new})
    session = send("login", "/auth/login", 1, {"userid": userid, "password": new})["data"]["access_token"]
    Aws.calls.clear()
    send("credentials", "/user/delete", 1, {"password": new}, session)
    deliver()
    events = [entry for _, body in Aws.calls for entry in body.get("Entries", [])]
    check("mail: other services are told of the deletion",
          [(event["Source"], event["DetailType"], event["EventBusName"]) for event in events]
          == [("people", "user_deleted", "people")], events)
    time.sleep(0.2)  # the emulator copies the log
    for emulator in (outbox, courier):
        log = emulator.log.read_text()
        check(f"{emulator.log.name}: logs no address and no link", address not in log and token not in log, log)
    server.shutdown()


def administration(emulators, emulator):
    """An operator disables a user and enables the user again. Each invocation logs one line."""
    userid = f"ev-{secrets.token_hex(4)[:7]}"
    emulators["register"].invoke(load("register", userid))
    token = json.loads(emulators["login"].invoke(load("login", userid))[0]["body"])["data"]["access_token"]

    def invoke(**members):
        return emulator.invoke({"by": "emulator", "reason": "test"} | members)[0]

    for action, status, code in [("disable", 401, 40103), ("enable", 200, 1)]:
        users = invoke(action=action, userid=userid).get("users", [])
        check(f"admin: {action}", [user["disabled_at"] is None for user in users] == [action == "enable"], users)
        call(emulators["me"], f"admin: me after {action}", load("me", userid, token), status, code)
    for members, expected in [({"action": "enable", "userid": f"{userid}-x"}, "there is no such user"),
                              ({"action": "enable"}, "one of user_id, userid and email is required"),
                              ({"action": "ask_reset", "userid": userid}, "no mail is set up: MAIL_FROM is missing")]:
        answer = invoke(**members)
        check(f"admin: {expected}", answer == {"error": expected}, answer)
    time.sleep(0.2)  # the emulator copies the log
    log = emulator.log.read_text()
    check("admin: one line each", log.count('"event":"authz_admin"') == 5, log)
    check("admin: logs no userid", userid not in log, "it does")


def documentation(emulator):
    """Pages have other headers than the envelope, and compressed files are sent as Base64."""
    for suffix in ["", "-rest"]:
        for path, kind, encoding in [("/docs", "text/html; charset=utf-8", None), ("/openapi.json", "application/json", None),
                                     ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8", "gzip")]:
            event = json.loads((ROOT / f"tests/events/docs{suffix}.json").read_text().replace('/docs"', f'{path}"'))
            answer, _ = emulator.invoke(event)
            headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
            headers |= {name.lower(): ", ".join(value) for name, value in (answer.get("multiValueHeaders") or {}).items()}
            what = f"docs{suffix}: {path}"
            check(f"{what}: status 200", answer.get("statusCode") == 200, answer)
            check(f"{what}: headers", (headers.get("content-type"), headers.get("content-encoding")) == (kind, encoding), headers)
            body = base64.b64decode(answer["body"]) if answer.get("isBase64Encoded") else answer["body"].encode()
            check(f"{what}: complete", len(gzip.decompress(body) if encoding else body) > 500, len(body))
            check(f"{what}: fits into a response of Lambda", len(json.dumps(answer)) < 6_000_000)
            missing = {name for name in HEADERS if name not in headers}
            check(f"{what}: every header", not missing, missing)
        event = json.loads((ROOT / f"tests/events/docs{suffix}.json").read_text().replace('/docs"', '/docs/nothing"'))
        call(emulator, f"docs{suffix}: no such file", event, 404, 40401)


def odd_events(emulators, token):
    """Nothing that a client can put into an event changes the response or causes an error of the runtime. Each logs one line."""
    expected = {"register": (409, 40901), "login": (200, 1), "token": (200, None), "logout": (401, 40103), "me": (200, 1),
                "health": (200, 1)}
    # Path in the event, and value: those that make lambda_http panic, and invalid URLs, texts and numbers.
    odd = [(["rawQueryString"], 'x="'), (["rawQueryString"], "\0 %zz"), (["queryStringParameters"], {"x": '"', "y": None}),
           (["multiValueQueryStringParameters"], {"x": ['"', 7]}), (["headers", "x-forwarded-proto"], "https, https"),
           (["headers", "host"], "[ \u00e9"), (["headers", "x-bytes"], "\u0080\ud800\r\nx: y"), (["headers", "x-number"], 7),
           (["cookies"], ["\0", 1]), (["stageVariables"], "x"), (["pathParameters"], {"x": 1}),
           (["requestContext", "authorizer"], {"jwt": "x"}), (["requestContext", "timeEpoch"], "yesterday")]
    for suffix in ["", "-rest"]:
        userid = f"odd-{secrets.token_hex(4)[:6]}"
        emulators["register"].invoke(load("register" + suffix, userid))
        for name, (status, code) in expected.items():
            function = emulators["login" if name == "token" else name]
            before = function.log.read_text().count('"message":"request"')
            for place, value in odd:
                event = load(name + suffix, userid, "none" if name == "logout" else token)
                parent = event[place[0]] if place[1:] else event
                parent[place[-1]] = value
                if suffix and place[0] == "headers":
                    event["multiValueHeaders"][place[-1]] = [value]
                call(function, f"odd event: {name}{suffix}: {'.'.join(place)}", event, status, code)
            for bad in ["{}", "e30", 7, {"userid": "x"}]:
                event = load(name + suffix, userid, "none" if name == "logout" else token) | {"body": bad, "isBase64Encoded": True}
                if name in ("register", "login"):
                    call(function, f"odd event: {name}{suffix}: a body that cannot be decoded", event, 400, 40001)
                elif name == "token":
                    body = call(function, f"odd event: {name}{suffix}: a body that cannot be decoded", event, 400, None)
                    check("it is an invalid_request", body.get("error") == "invalid_request", body)
                else:
                    call(function, f"odd event: {name}{suffix}: an unused body", event, status, code)
            time.sleep(0.2)  # the emulator copies the log
            lines = function.log.read_text().count('"message":"request"') - before
            check(f"odd event: {name}{suffix}: one line each", lines == len(odd) + 4, f"{lines} lines")


def before_traffic(emulators):
    """What deploy/verify asks a new version before its traffic shifts is answered as it expects."""
    for name, checks in verify.CHECKS["functions"].items():
        for expected in checks:
            answer, _ = emulators[name].invoke(verify.event_of(expected))
            problem = verify.difference(expected, answer)
            check(f"before traffic: {name}: {verify.title(expected)}", not problem, problem)


def dead_database(title, database_url, token):
    for name in ["me", "health"]:
        emulator = Emulator(name, database_url)
        for suffix in ["", "-rest"]:
            call(emulator, f"database {title}: {name}{suffix}", load(name + suffix, "event-user", token),
                 503, 50301, {"retry-after": "1"}, seconds=3)
    answer, took = Emulator(AUTHORIZER, database_url).invoke(authorizer_event("http", f"Bearer {token}"))
    check(f"database {title}: authorizer fails", "errorMessage" in answer and "isAuthorized" not in answer, answer)
    check(f"database {title}: authorizer fails within 3 s", took < 3, f"{took:.2f} s")
    answer, _ = Emulator(ADMIN, database_url).invoke({"action": "find", "userid": "x", "by": "emulator", "reason": "test"})
    check(f"database {title}: admin fails", "errorMessage" in answer and "error" not in answer, answer)


def short_key(function):
    """With a signing key of 31 bytes the function must not start, and must say why without showing the key."""
    key = secrets.token_hex(16)[:31]
    # A runtime API that refuses connections: a function that starts ends immediately too, but with another message.
    runtime_api = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{free_ports(1)[0]}"}
    try:
        done = subprocess.run([binary(function)], env=environment(options.database_url, key) | runtime_api,
                              cwd=work.name, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        check(f"{function}: refuses a SECRET_KEY of 31 bytes", False, "it runs")
        return
    output = done.stdout + done.stderr
    check(f"{function}: refuses a SECRET_KEY of 31 bytes", done.returncode != 0 and "SECRET_KEY" in output, output)
    check(f"{function}: does not show the key", key not in output, "it does")


# SIGTERM ends the script with an exception, like Ctrl-C, so that what it started is stopped.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

try:
    emulators = {name: Emulator(name, options.database_url) for name in FUNCTIONS}
    session(emulators, "")
    token = session(emulators, "-rest")
    for suffix in ["", "-rest"]:
        account(emulators, suffix)
    every_route(emulators)
    odd_events(emulators, token)
    for name in FUNCTIONS:
        log = emulators[name].log.read_text()
        check(f"{name}: logs no token", token not in log, "it does")
    others = {AUTHORIZER: Emulator(AUTHORIZER, options.database_url), DOCS: Emulator(DOCS, database_url=None)}
    before_traffic(emulators | others)
    authorizer(emulators, others[AUTHORIZER])
    forgotten_password(emulators)
    administration(emulators, Emulator(ADMIN, options.database_url, {"MAIL_FROM": ""}))
    documentation(others[DOCS])
    for name, function in ALL.items():
        if "keys" in function["needs"]:
            short_key(name)
    dead_database("that refuses connections", f"postgres://nobody@127.0.0.1:{free_ports(1)[0]}/none", token)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead_database("that never answers", f"postgres://nobody@127.0.0.1:{silent.getsockname()[1]}/none", token)
except (Exception, KeyboardInterrupt, SystemExit) as problem:
    check("the run completes", False, f"{type(problem).__name__}: {problem}")
finally:
    for emulator in Emulator.running:
        emulator.kill()
if results[False]:
    for emulator in Emulator.running:
        print(f"--- last lines of {emulator.log.name}\n{emulator.log.read_text()[-2000:]}")
print(f"{results[True]} passed, {results[False]} failed")
sys.exit(1 if results[False] else 0)
