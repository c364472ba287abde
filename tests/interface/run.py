#!/usr/bin/env python3
"""Tests the interface from the outside: OpenAPI description, typed client, pages in a browser, stock OAuth2 clients.

    pip install -r tests/interface/requirements.txt
    tests/interface/run.py

It needs Node.js with npm, Chromium (path in CHROMIUM, default /usr/bin/chromium) and what `cargo run -p local` needs.
The service under test has its own database in a temporary directory.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DESCRIPTION = ROOT / "functions/docs/openapi.json"
PROGRAMS = HERE / "node_modules/.bin"
# None of the caller's settings, only variables that describe the machine.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PG_BINDIR", "CHROMIUM",
                                                   "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR") if name in os.environ}
# Cheap hashes, since they are not tested here; no limits, since all requests come from one address; and only one other
# origin is allowed.
SETTINGS = {"PORT": "0", "ARGON2_MEMORY_KIB": "8", "ARGON2_ITERATIONS": "1", "FAILURES_PER_ADDRESS": "0",
            "REGISTRATIONS_PER_ADDRESS_PER_HOUR": "0", "MAILS_PER_ADDRESS_PER_HOUR": "0",
            "CORS_ALLOWED_ORIGINS": "https://app.example"}
# Data that the schema allows may be a 422: common passwords and invisible characters are rejected, which a schema
# cannot express.
EXCLUDED_CHECKS = "positive_data_acceptance"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--screenshots", type=pathlib.Path, default=ROOT / "target/interface", metavar="DIRECTORY")
options = parser.parse_args()


def run(title, *command, cwd=HERE, **variables):
    print(f"--- {title}", flush=True)
    started = time.monotonic()
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=ENVIRONMENT | variables, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"FAIL  {title}: exit code {done.returncode}")
    print(f"ok    {title} ({time.monotonic() - started:.0f} s)", flush=True)


def prepare():
    """Prepares what the tests need: the programs of package-lock.json, the typed client, `local`."""
    installed = HERE / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
        run("npm ci", "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
    run("the description is OpenAPI 3.1", sys.executable, "-m", "openapi_spec_validator", "--schema", "3.1", DESCRIPTION)
    run("the description by redocly's rules", PROGRAMS / "redocly", "lint", DESCRIPTION, "--config", HERE / "redocly.yaml",
        REDOCLY_TELEMETRY="off", REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    run("a typed client", PROGRAMS / "openapi-typescript", DESCRIPTION, "--output", HERE / "generated/people.d.ts")
    run("the TypeScript of docs/authorizer.md compiles", PROGRAMS / "tsc", "--project", HERE / "tsconfig.snippets.json")
    run("the example and the tests compile with it", PROGRAMS / "tsc", "--project", HERE)
    run("cargo build", "cargo", "build", "--quiet", "--locked", "--workspace", "--bin", "local", cwd=ROOT)


class Service:
    """`local` in a temporary directory, so that it uses a new database."""

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="people-interface-"))
        binary = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/local"
        # Mails are printed there.
        self.output = self.directory / "output"
        with self.output.open("w") as output, (self.directory / "log").open("w") as log:
            self.process = subprocess.Popen([binary], cwd=self.directory, env=ENVIRONMENT | SETTINGS, stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=log)
        while not (found := re.match(r"Listening on (http://\S+)(?s:.*)^Try: .*\n", self.output.read_text(), re.MULTILINE)):
            if self.process.poll() is not None:
                self.__exit__()
                sys.exit("FAIL  local does not start")
            time.sleep(0.05)
        self.base = found.group(1)
        return self

    def __exit__(self, *_):
        self.process.terminate()  # it stops its database
        self.process.wait()
        shutil.rmtree(self.directory)


def test(service, scratch):
    base = service.base
    run("a session with the typed client", "node", HERE / "client.js", base, service.output)
    run("the TypeScript of docs/authorizer.md", "node", HERE / "lessons.js")
    run("the smoke test of a deployment", sys.executable, ROOT / "tests/smoke.py", base)
    run("stock OAuth2 clients", sys.executable, HERE / "oauth2_clients.py", base)
    run("the pages, and hostile ones, in a browser", "node", HERE / "browser.js", base, options.screenshots.resolve(),
        service.output)
    print(f"      screenshots are in {options.screenshots}")
    schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
    run("every response is documented", schemathesis, "--config-file", HERE / "schemathesis.toml", "run", DESCRIPTION,
        "--url", base, "--seed", "1", "--max-examples", "100", "--request-timeout", "10",
        "--exclude-checks", EXCLUDED_CHECKS, cwd=scratch,
        PEOPLE_URL=base, SCHEMATHESIS_HOOKS="schemathesis_login", PYTHONPATH=str(HERE), PYTHONDONTWRITEBYTECODE="1")


# SIGTERM ends the script with an exception, like Ctrl-C, so that what it started is stopped.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
prepare()
with tempfile.TemporaryDirectory(prefix="people-interface-") as scratch, Service() as service:
    test(service, scratch)
print("all passed")
