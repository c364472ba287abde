#!/usr/bin/env python3
"""`sam build`, `sam local invoke` of every function, the README's session against `sam local start-api`,
and the API of another team behind the authorizer.

    pip install aws-sam-cli==1.170.0 cargo-lambda==1.9.2
    tests/sam_local.py

It needs the programs of PostgreSQL (it starts and stops its own server) and Docker. If no Docker daemon is running, root
gets a temporary one in a separate network namespace. That one cannot pull images, so it runs the functions in a base
image made of the machine's C library and busybox.
"""

import argparse
import contextlib
import glob
import gzip
import io
import ipaddress
import json
import os
import pathlib
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

from functions import authorizer_event, delivery, event_of, functions

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASE_IMAGE = "localbase/provided:al2023"
PYTHON_IMAGE = "localpython/python:al2023"
OTHER_TEAM = ROOT / "tests/other_team/template.yaml"
INSIDE = "PEOPLE_SAM_LOCAL_INSIDE"
# The C library of Amazon Linux 2023. A binary that needs a newer one may run here, but not there.
NEWEST_GLIBC = 34

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--no-build", action="store_true", help="use the result of an earlier `sam build`")
options = parser.parse_args()

cleanup = contextlib.ExitStack()
environment = {name: value for name, value in os.environ.items()
               if not name.startswith("PG") and name not in ("DATABASE_URL", "SECRET_KEY")}
# No waiting for credentials from an instance's metadata service; no telemetry.
environment |= {"SAM_CLI_TELEMETRY": "0", "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "eu-central-1"}


def report(text):
    print(text, flush=True)


def check(what, passed, otherwise=""):
    if not passed:
        raise SystemExit(f"FAIL  {what}: {otherwise}")
    report(f"ok    {what}")


def run(*command, **keywords):
    keywords = {"check": True, "text": True, "env": environment, "cwd": ROOT} | keywords
    if "input" not in keywords:
        keywords["stdin"] = subprocess.DEVNULL
    return subprocess.run([str(part) for part in command], **keywords)


def start(log, *command, **keywords):
    """A process that ends with the script. It gets a SIGTERM first: a killed daemon would leave mounts and containers."""
    process = subprocess.Popen([str(part) for part in command], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
                               stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True, **keywords)

    def stop():
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    cleanup.callback(stop)
    return process


def wait(what, ready, process, log, seconds=60):
    for _ in range(seconds * 10):
        if ready():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"{what} did not start:\n{log.read_text()[-3000:]}")


def listens(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# --- Docker

def docker_answers():
    return shutil.which("docker") is not None and run("docker", "info", check=False, capture_output=True).returncode == 0


def own_docker(work):
    """A separate daemon, in the network namespace of this process."""
    run("ip", "link", "set", "lo", "up")
    log, address = work / "dockerd.log", f"unix://{work}/docker.sock"
    daemon = start(log, "dockerd", "--data-root", work / "data", "--exec-root", work / "exec", "--pidfile", work / "pid",
                   "--host", address, "--storage-driver", "vfs", "--iptables=false", "--ip6tables=false",
                   "--ip-masq=false", "--ip-forward=false")
    environment["DOCKER_HOST"] = address
    wait("dockerd", docker_answers, daemon, log)
    for name, image in [(BASE_IMAGE, base_image()), (PYTHON_IMAGE, base_image(python))]:
        run("docker", "import", "-", name, input=image, text=False, stdout=subprocess.DEVNULL)


def base_image(*additions):
    """A tar archive with what `sam local` and a Rust binary need from Amazon Linux."""
    busybox = shutil.which("busybox")
    machine = platform.machine()
    files = {"bin/busybox": busybox, "etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt"}
    for library in ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"):
        files[f"lib/{library}"] = f"/lib/{machine}-linux-gnu/{library}"
    loader, = glob.glob("/lib64/ld-linux-x86-64.so.2") or glob.glob("/lib/ld-linux-aarch64.so.1")
    files[loader.lstrip("/")] = loader
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, source in files.items():
            tar.add(os.path.realpath(source), name)
        for name in ("sh", "mv", "chmod", "mkdir", "ls", "cat"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "var/task", "var/runtime", "opt"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(directory)
        for add in additions:
            add(tar)
    return data.getvalue()


def python(tar):
    """Adds the Python that runs this script, and a stand-in for the Lambda runtime for Python."""
    interpreter, library = os.path.realpath(sys.executable), sysconfig.get_path("stdlib")
    unused = re.compile(r"/(__pycache__|test|(dist|site)-packages|idlelib|ensurepip|lib2to3|config-[^/]*)$")
    tar.add(interpreter, interpreter.lstrip("/"))
    tar.add(library, library.lstrip("/"), filter=lambda entry: None if unused.search(entry.name) else entry)
    needed_by = run("ldd", interpreter, *glob.glob(f"{library}/lib-dynload/*.so"), capture_output=True).stdout
    for needed in re.findall(r"=> (/\S+)", needed_by):
        name = f"lib/{pathlib.Path(needed).name}"
        if name not in tar.getnames():
            tar.add(os.path.realpath(needed), name)
    runtime = f"#!{interpreter}\n{(ROOT / 'tests/other_team/python_runtime.py').read_text()}".encode()
    bootstrap = tarfile.TarInfo("var/runtime/bootstrap")
    bootstrap.size, bootstrap.mode = len(runtime), 0o755
    tar.addfile(bootstrap, io.BytesIO(runtime))


# --- PostgreSQL

class Database:
    """A throw-away server that containers can reach."""

    def __init__(self, work, addresses):
        programs = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/opt/homebrew/opt/postgresql@*/bin")
        found = shutil.which("initdb")
        self.programs = pathlib.Path(found).resolve().parent if found else pathlib.Path(max(programs, key=len))
        self.port, self.password, data = free_port(), secrets.token_hex(16), work / "postgres"
        data.mkdir()
        password = work / "password"
        password.write_text(self.password)
        user = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            account = pwd.getpwnam("postgres")
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for path in (data, password):
                os.chown(path, account.pw_uid, account.pw_gid)
            work.chmod(0o711)
        run(self.programs / "initdb", "-D", data / "data", "-U", "people", "--auth=scram-sha-256", "--no-sync",
            "--encoding=UTF8", "--locale=C", "--pwfile", password, stdout=subprocess.DEVNULL, cwd="/", **user)
        with (data / "data/pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        log = work / "postgres.log"
        server = start(log, self.programs / "postgres", "-D", data / "data", "-F", "-p", self.port,
                       "-c", f"listen_addresses={','.join(addresses)}", "-c", "unix_socket_directories=", **user)
        wait("PostgreSQL", lambda: listens(addresses[0], self.port), server, log)
        self.address = addresses[0]
        self.psql("-d", "postgres", "-c", "CREATE DATABASE people")

    def psql(self, *arguments, **keywords):
        password = {"PGPASSWORD": self.password}
        return run(self.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.address, "-p", self.port,
                   "-U", "people", *arguments, env=environment | password, **keywords)

    def url(self, role, host):
        return f"postgres://{role}:{self.password}@{host}:{self.port}/people?sslmode=disable"


# --- SAM

class Sam:
    def __init__(self, work, database_url, arguments):
        settings = {name: "" for name in ("DATABASE_SECRET_ARN", "SECRET_KEY_ARN", "SECRET_KEY_PREVIOUS_ARN")}
        settings |= {"DATABASE_URL": database_url, "DATABASE_IAM_AUTH": "false", "DATABASE_POOLER": "none",
                     "SECRET_KEY": secrets.token_hex(32)}
        self.settings, self.work, self.arguments, self.invoked = work / "env.json", work, arguments, {"migrate"}
        self.settings.write_text(json.dumps({"Parameters": settings}))

    def invoke(self, function, event):
        self.invoked.add(function.lower())
        path = self.work / "event.json"
        path.write_text(json.dumps(event))
        done = run("sam", "local", "invoke", function, "--event", path, "--env-vars", self.settings, *self.arguments,
                   check=False, capture_output=True)
        try:
            return json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise SystemExit(f"FAIL  sam local invoke {function}: {done.stdout}\n{done.stderr[-3000:]}") from None

    def start_api(self, *more):
        """Starts the bundle's API, or the one that these arguments name. Returns its address."""
        port = free_port()
        log = self.work / f"start-api-{port}.log"
        api = start(log, "sam", "local", "start-api", "--port", port, "--env-vars", self.settings, *self.arguments, *more)
        wait("sam local start-api", lambda: listens("127.0.0.1", port), api, log)
        return f"http://127.0.0.1:{port}"


def build():
    run("sam", "build")
    for path in sorted((ROOT / ".aws-sam/build").glob("*/bootstrap")):
        versions = {int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", path.read_bytes())}
        check(f"{path.parent.name}: needs glibc 2.{max(versions)}", max(versions) <= NEWEST_GLIBC,
              f"Amazon Linux 2023 has 2.{NEWEST_GLIBC}")


def migrate(work, database, host, arguments):
    """Runs `migrate` as the owner, twice, and returns the URL for the role that it creates."""
    # On RDS that role is a member of this one, to sign in with IAM. Here it gets a password afterwards.
    database.psql("-d", "people", "-c", "CREATE ROLE rds_iam")
    sam = Sam(work, database.url("people", host), arguments)
    for time_ in ("once", "and again"):
        answer = sam.invoke("Migrate", {})
        check(f"sam local invoke Migrate, {time_}: {answer}", answer.get("role") == "people_app", answer)
    database.psql("-d", "people", "-c", f"ALTER ROLE people_app PASSWORD '{database.password}'")
    return database.url("people_app", host)


def event(name, token="none"):
    return json.loads((ROOT / "tests/events" / f"{name}.json").read_text().replace("TOKEN", token))


def invoke_every_function(sam):
    def expect(function, status, code, token="none", suffix=""):
        name = function.lower() + suffix
        answer = sam.invoke(function, event(name, token))
        body = json.loads(answer.get("body") or "null") or {}
        check(f"sam local invoke {function} -e tests/events/{name}.json: {status}",
              answer.get("statusCode") == status and body.get("code", 1) == code, answer)
        return body

    health = expect("Health", 200, 1)
    page = sam.invoke("Docs", event("docs"))
    check("sam local invoke Docs -e tests/events/docs.json: a page",
          page.get("statusCode") == 200 and page["body"].startswith("<!doctype html>"), page)
    check("health: current", health["data"] == {"status": "ok", "database": "up", "schema": "current"}, health)
    expect("Register", 200, 1)
    expect("Register", 409, 40901)
    expect("Login", 200, 1, suffix="-form")
    token = expect("Login", 200, 1)["data"]["access_token"]
    expect("Me", 200, 1, token)
    for function, route, status, code in [("Account", ("GET", "/auth/sessions"), 200, 1),
                                          ("Credentials", ("POST", "/user/delete", "", {"password": "wrong"}), 403, 40301)]:
        answer = sam.invoke(function, event_of(*route, token=token))
        check(f"sam local invoke {function}: {route[0]} {route[1]}: {status}",
              (answer.get("statusCode"), json.loads(answer["body"])["code"]) == (status, code), answer)
    answer = sam.invoke("Authorizer", authorizer_event("http", f"Bearer {token}"))
    check("sam local invoke Authorizer -e tests/events/authorizer-http.json: allowed", answer.get("isAuthorized"), answer)
    expect("Logout", 200, 1, token)
    expect("Me", 401, 40103, token)
    answer = sam.invoke("Authorizer", authorizer_event("http", f"Bearer {token}"))
    check("sam local invoke Authorizer after the log-out: refused", answer == {"isAuthorized": False}, answer)
    answer = sam.invoke("Admin", {"action": "find", "userid": "nobody", "by": "sam_local.py", "reason": "test"})
    check(f"sam local invoke Admin: {answer}", answer == {"users": []}, answer)
    answer = sam.invoke("Purge", {})
    check(f"sam local invoke Purge: {answer}", answer.get("sessions") == 0 and answer.get("complete"), answer)
    answer = sam.invoke("Outbox", {})
    check(f"sam local invoke Outbox: {answer}", answer == {"mails": [], "events": []}, answer)
    answer = sam.invoke("Courier", delivery(answer))
    check(f"sam local invoke Courier: {answer}", answer == {"sent": 0, "dropped": 0, "events": 0}, answer)
    expected = {function["name"] for function in functions()}
    check("every function of functions/lib.rs was invoked", expected == sam.invoked, expected ^ sam.invoked)


def session_of_the_readme(base):
    """Runs the session in the README against this address."""
    script, = re.findall(r"```sh\n(base=.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = re.sub(r"^base=\S+", f"base={base}", script)
    output = run("bash", "-euc", script, capture_output=True).stdout
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    check("the README's session: register, me, logout, me, health",
          [answer["code"] for answer in answers] == [1, 1, 1, 40103, 1], output)
    check("the README's session: me is alice", answers[1]["data"]["user_info"]["userid"] == "alice", answers[1])
    check("the README's session: ends with 401", re.search(r"^HTTP/1.1 401", output, re.MULTILINE), output)
    check("the README's session: the database is up", answers[4]["data"]["database"] == "up", answers[4])
    with urllib.request.urlopen(f"{base}/health") as response:
        check("start-api passes our headers through", response.headers["cache-control"] == "no-store", response.headers)
    with urllib.request.urlopen(f"{base}/openapi.json") as response:
        check("start-api: the description", json.load(response)["openapi"].startswith("3.1"))
    with urllib.request.urlopen(f"{base}/docs/swagger-ui.css") as response:
        check("start-api: a compressed file", b"swagger-ui" in gzip.decompress(response.read()))


def call(base, method, path, status, body=None, token=None):
    """Sends a request, checks the status, and returns the JSON in the response."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    request = urllib.request.Request(base + path, body and json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            found, answer = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        found, answer = error.code, json.load(error)
    check(f"start-api: {method} {path}: {status}", found == status, answer)
    return answer


def second_half(base):
    """Calls what an account's owner does later, at this address."""
    userid, old, new = f"sam-{secrets.token_hex(4)}", "correct horse battery staple", "six candles under the bridge"

    def send(method, path, status, body=None, token=None):
        return call(base, method, path, status, body, token)["data"]

    def log_in(password):
        return send("POST", "/auth/login", 200, {"userid": userid, "password": password})["access_token"]

    send("POST", "/user/register", 200, {"userid": userid, "password": old})
    phone, laptop = log_in(old), log_in(old)
    listed = send("GET", "/auth/sessions", 200, token=phone)["sessions"]
    other, = [session["session_id"] for session in listed if not session["current"]]
    send("DELETE", f"/auth/sessions/{other}", 200, token=phone)
    send("DELETE", f"/auth/sessions/{other}", 404, token=phone)
    send("GET", "/auth/me", 401, token=laptop)
    send("PATCH", "/auth/me", 200, {"job": "reader"}, phone)
    send("DELETE", "/auth/sessions", 200, token=phone)
    send("POST", "/auth/password", 200, {"current_password": old, "new_password": new}, phone)
    send("POST", "/user/delete", 200, {"password": new}, phone)
    send("GET", "/auth/me", 401, token=phone)


def other_team(people, api):
    """Calls an API of another team, behind the authorizer: with a session, after its log-out, and without one."""
    account = {"userid": f"sam-{secrets.token_hex(4)}", "password": "correct horse battery staple"}
    user = call(people, "POST", "/user/register", 200, account)["data"]["user_info"]
    for kind in ("http", "rest", "token"):
        token = call(people, "POST", "/auth/login", 200, account)["data"]["access_token"]
        caller = call(api, "GET", f"/{kind}/7", 200, token=token)
        check(f"another team's API knows who is calling: {caller}",
              (caller["user_id"], caller["roles"]) == (user["user_id"], []), user)
        call(people, "POST", "/auth/logout", 200, token=token)
        call(api, "GET", f"/{kind}/7", 403, token=token)
        call(api, "GET", f"/{kind}/7", 403, token="forged")
        call(api, "GET", f"/{kind}/7", 401)


def main():
    work = pathlib.Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="people-sam-", ignore_cleanup_errors=True)))
    if os.environ.get(INSIDE):
        own_docker(work)
        host, arguments = "172.17.0.1", ["--skip-pull-image", "--invoke-image", BASE_IMAGE]
        addresses, for_python = [host], ["--invoke-image", f"Lessons={PYTHON_IMAGE}"]
    else:
        host, arguments, for_python = "host.docker.internal", [], []
        addresses = ["127.0.0.1"]
        if platform.system() == "Linux":
            gateway = run("docker", "network", "inspect", "bridge", "--format",
                          "{{with index .IPAM.Config 0}}{{or .Gateway .Subnet}}{{end}}", capture_output=True).stdout.strip()
            if "/" in gateway:  # a new daemon reports only the subnet, of which it takes the first address
                gateway = str(next(ipaddress.ip_network(gateway).hosts()))
            addresses, arguments = [gateway], ["--add-host", f"{host}:{gateway}"]
    database = Database(work, addresses)
    sam = Sam(work, migrate(work, database, host, arguments), arguments)
    invoke_every_function(sam)
    base = sam.start_api()
    session_of_the_readme(base)
    second_half(base)
    other_team(base, sam.start_api("--template", OTHER_TEAM, *for_python))


# SIGTERM ends the script with an exception, like Ctrl-C, so that what it started is stopped.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

if not os.environ.get(INSIDE):
    if not options.no_build:
        build()
    if not docker_answers():
        if os.geteuid() != 0 or not shutil.which("dockerd"):
            raise SystemExit("no Docker daemon is running; start one, or run this as root with Docker and busybox installed")
        os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, __file__, "--no-build"],
                   os.environ | {INSIDE: "1"})
with cleanup:
    main()
report("all passed")
