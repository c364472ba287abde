"""The back ends that run.py measures: what each installs, how it is started, and its requests."""

import dataclasses
import filecmp
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "people-peers"
PROCESSORS = len(os.sched_getaffinity(0))
PASSWORD = "correct horse battery staple"
SECRET_KEY = "a key of this benchmark, with 32 bytes or more"


def run(*command, cwd=None, **environment):
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"SECRET_KEY": SECRET_KEY} | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def output(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def virtual_environment(name):
    directory, wanted = CACHE / name, HERE / name / "requirements.txt"
    have = directory / wanted.name
    if not have.exists() or not filecmp.cmp(wanted, have, shallow=False):
        run(sys.executable, "-m", "venv", "--clear", directory)
        run(directory / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        shutil.copy(wanted, have)
    return directory


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict
    body: str = ""

    @classmethod
    def json(cls, path, **members):
        return cls("POST", path, {"content-type": "application/json"}, json.dumps(members))

    def raw(self):
        head = {"host": "127.0.0.1"} | self.headers
        if self.body:
            head["content-length"] = len(self.body)
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join(lines) + "\r\n\r\n" + self.body


class Ours:
    name = "this service"
    about = "one process"
    hash = "Argon2id, 19 MiB, 2 passes, 1 lane"
    me_has, login_has = '"userid"', '"access_token"'

    def __init__(self, server):
        self.server = server

    def install(self):
        if self.server is None:
            run("cargo", "build", "--locked", "--release", "-p", "local", cwd=ROOT, SQLX_OFFLINE="true")
            self.server = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/local"
        return f"commit {output('git', 'rev-parse', '--short', 'HEAD', cwd=ROOT)}"

    def create_tables(self, _):
        pass  # at the first start

    def command(self, _):
        return [self.server]

    def environment(self, url, port):
        # 64 clients at one address have more log-ins in progress than the default, 50, allows. They are still counted.
        return {"DATABASE_URL": f"{url}?sslmode=disable", "PORT": str(port), "FAILURES_PER_ADDRESS": "1000"}

    def register(self, user):
        return Request.json("/user/register", userid=user, password=PASSWORD)

    def login(self, user):
        return Request.json("/auth/login", userid=user, password=PASSWORD)

    def me(self, headers, body):
        return Request("GET", "/auth/me", {"authorization": "Bearer " + json.loads(body)["data"]["access_token"]})


class Python:
    """A back end in app.py under uvicorn, with a worker for each processor."""

    about = f"uvicorn, {PROCESSORS} workers"

    def install(self):
        self.directory = virtual_environment(self.source)
        shutil.copy(HERE / self.source / "app.py", self.directory)
        pinned = (HERE / self.source / "requirements.txt").read_text()
        versions = dict(re.findall(r"^(\S+)==(\S+)$", pinned, re.MULTILINE))
        return ", ".join(f"{name} {versions[name]}" for name in [*self.shown, "uvicorn"])

    def create_tables(self, url):
        run(self.directory / "bin/python", self.directory / "app.py", **self.environment(url, 0))

    def command(self, port):
        return [
            self.directory / "bin/uvicorn",
            "app:app",
            "--app-dir",
            self.directory,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            str(PROCESSORS),
            "--no-access-log",
        ]

    def environment(self, url, _):
        return {"DATABASE_URL": url.replace("postgres:", f"postgresql+{self.driver}:")}


class Seed(Python):
    name = "the former back end"
    source, driver = "seed", "psycopg2"
    shown = ["fastapi", "SQLAlchemy", "psycopg2-binary", "passlib", "bcrypt", "python-jose"]
    hash = "bcrypt, cost 12"
    me_has, login_has = '"user_name"', '"access_token"'
    register, login, me = Ours.register, Ours.login, Ours.me


class Users(Python):
    name = "FastAPI-Users"
    source, driver = "users", "asyncpg"
    shown = ["fastapi-users", "fastapi", "SQLAlchemy", "asyncpg", "argon2-cffi"]
    hash = "Argon2id, 64 MiB, 3 passes, 4 lanes"
    me_has, login_has = '"email"', '"access_token"'

    def register(self, user):
        return Request.json("/auth/register", email=f"{user}@example.com", password=PASSWORD)

    def login(self, user):
        body = f"username={user}%40example.com&password={PASSWORD.replace(' ', '+')}"
        return Request("POST", "/auth/login", {"content-type": "application/x-www-form-urlencoded"}, body)

    def me(self, headers, body):
        return Request("GET", "/users/me", {"authorization": "Bearer " + json.loads(body)["access_token"]})


class BetterAuth:
    name = "better-auth"
    about = f"Node.js, {PROCESSORS} workers"
    hash = "scrypt, N=16384, r=16, p=1"
    me_has, login_has = '"email"', '"token"'

    def install(self):
        self.directory = CACHE / "better_auth"
        self.directory.mkdir(parents=True, exist_ok=True)
        source, lock = HERE / "better_auth", self.directory / "node_modules/package-lock.json"
        for file in ["package.json", "package-lock.json", "server.mjs"]:
            shutil.copy(source / file, self.directory)
        if not lock.exists() or not filecmp.cmp(source / lock.name, lock, shallow=False):
            run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=self.directory)
            shutil.copy(source / lock.name, lock)
        versions = json.loads((source / "package.json").read_text())["dependencies"]
        return ", ".join(
            [*(f"{name} {version}" for name, version in versions.items()), f"Node.js {output('node', '-v')[1:]}"]
        )

    def create_tables(self, url):
        run(*self.command(0), "migrate", **self.environment(url, 1))

    def command(self, _):
        return [shutil.which("node"), self.directory / "server.mjs"]

    def environment(self, url, port):
        return {"DATABASE_URL": url, "PORT": str(port), "NODE_ENV": "production", "BETTER_AUTH_TELEMETRY": "0"}

    def register(self, user):
        return Request.json("/api/auth/sign-up/email", name=user, email=f"{user}@example.com", password=PASSWORD)

    def login(self, user):
        return Request.json("/api/auth/sign-in/email", email=f"{user}@example.com", password=PASSWORD)

    def me(self, headers, body):
        return Request("GET", "/api/auth/get-session", {"cookie": headers["set-cookie"].split(";")[0]})
