#!/usr/bin/env python3
"""Measures this service beside what people would use instead, on the same PostgreSQL with durable commits:

    python3 tests/benches/peers/run.py
    python3 tests/benches/peers/run.py --server target/release/local --seconds 2 --rounds 1 --output /tmp/peers

The back ends run one after the other, as often as --rounds says. It takes twenty minutes after the build, and writes the
tables between the markers of docs/performance/peers.md, peers.json and peers.svg. A cell in which a response was not 200
with the expected content does not count: it is reported, and the exit status is 1. Run tests/benches/costs.py afterwards.

It needs Linux, Python 3.11 with venv, Node.js with npm, PostgreSQL's programs (or PG_BINDIR), and wrk (`apt-get install
wrk`). What the others need is installed from the package registries, in the versions pinned here, into
~/.cache/people-peers (0.6 GB).
"""

import argparse
import datetime
import glob
import http.client
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

from backends import (
    CACHE,
    HERE,
    PROCESSORS,
    ROOT,
    SECRET_KEY,
    BetterAuth,
    Ours,
    Request,
    Seed,
    Users,
    output,
    run,
    virtual_environment,
)

CLIENTS = [1, 8, 64]
# The number of clients for which the CPU time per response is shown.
CPU_TIME_CLIENTS = 8
# More than the clients, so that two of them hardly ever log in as the same user; what one address may register in an
# hour.
USERS = 96
# Of each round, without the first one after the installation.
STARTS = 3
START_TIMEOUT = 60
# Above any latency to be expected.
WRK_TIMEOUT = 30


# --- Processes --------------------------------------------------------------------------------------------------------


class Process:
    """A program that has its processes in a session of its own, and writes to a log."""

    def __init__(self, command, log, **options):
        self.log = log
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, **options
            )

    def fail(self, problem):
        sys.exit(f"{self.log.stem}: {problem}\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self, signal_number=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(signal_number)
        try:
            self.child.wait(15)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.child.pid, signal.SIGKILL)  # what is left of its session
        except ProcessLookupError:
            pass
        self.child.wait()


def stat(pid):
    """The fields of /proc/PID/stat after the name, from the state on."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def descendants(pid):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(stat(entry)[1])
            except OSError:
                pass  # ended meanwhile
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def processor_seconds(pid):
    """Of a process and its descendants, also of those that have ended."""
    ticks = 0
    for each in [pid, *descendants(pid)]:
        try:
            ticks += sum(map(int, stat(each)[11:15]))
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """Of all processors of the machine."""
    user, nice, system, _, _, interrupts, soft, _ = map(
        int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    """Of a process and its descendants; memory that several share counts for each."""
    total = 0
    for each in [pid, *descendants(pid)]:
        try:
            status = pathlib.Path(f"/proc/{each}/status").read_text()
            total += int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1])
        except OSError:
            pass
    return total / 1024


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Postgres:
    """A temporary server with PostgreSQL's defaults, so with durable commits."""

    def __init__(self, scratch):
        self.bin = pathlib.Path(os.environ.get("PG_BINDIR") or self.installed())
        # PostgreSQL refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        directory = scratch / "postgres"
        directory.mkdir()
        if self.user:
            shutil.chown(directory, "postgres", "postgres")
        self.port = free_port()
        subprocess.run(
            [
                self.bin / "initdb",
                "-D",
                directory / "data",
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **self.user,
        )
        self.process = Process(
            [
                self.bin / "postgres",
                "-D",
                directory / "data",
                "-p",
                str(self.port),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ],
            scratch / "postgres.log",
            cwd="/",
            **self.user,
        )
        until = time.monotonic() + START_TIMEOUT
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode:
            if self.process.child.poll() is not None or time.monotonic() > until:
                self.process.fail("does not start")
            time.sleep(0.05)

    @staticmethod
    def installed():
        found = glob.glob("/usr/lib/postgresql/*/bin")
        if found:
            return max(found, key=lambda path: int(path.split("/")[4]))
        return output("pg_config", "--bindir")

    def create(self, name):
        run(self.bin / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"

    def version(self):
        return output(self.bin / "postgres", "--version").split()[2]


# --- Measuring --------------------------------------------------------------------------------------------------------


class Target:
    """A back end with its database."""

    def __init__(self, backend, postgres, scratch):
        self.backend, self.postgres, self.scratch = backend, postgres, scratch
        self.versions = backend.install()
        self.url = postgres.create(type(backend).__name__.lower())
        backend.create_tables(self.url)
        self.process, self.requests = None, {}
        self.users = [f"learner-{number}" for number in range(USERS)]
        self.registered = False

    def start(self, ready):
        """Starts it, and returns the seconds until `ready` is answered with 200, or else any answer."""
        self.port = free_port()
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = kept | {"SECRET_KEY": SECRET_KEY} | self.backend.environment(self.url, self.port)
        started = time.monotonic()
        self.process = Process(
            self.backend.command(self.port),
            self.scratch / f"{self.backend.name}.log",
            cwd=self.scratch,
            env=environment,
        )
        while True:
            try:
                status = self.send(ready or Request("GET", "/", {}))[0]
            except (OSError, http.client.HTTPException):
                status = None
            if status == 200 or status and not ready:
                return time.monotonic() - started
            if self.process.child.poll() is not None or time.monotonic() > started + START_TIMEOUT:
                self.process.fail(f"does not start, its answer is {status}")
            time.sleep(0.002)

    def stop(self):
        if self.process:
            self.process.stop()

    def send(self, request):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WRK_TIMEOUT)
        try:
            connection.request(request.method, request.path, request.body or None, request.headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def must(self, request):
        status, headers, body = self.send(request)
        if status not in (200, 201):
            self.process.fail(f"{request.method} {request.path}: {status} {body}")
        return headers, body

    def prepare(self):
        """Registers everybody the first time, and logs everybody in."""
        with ThreadPoolExecutor(PROCESSORS) as pool:
            if not self.registered:
                list(pool.map(lambda user: self.must(self.backend.register(user)), self.users))
                self.registered = True
            logins = [self.backend.login(user) for user in self.users]
            self.requests = {
                "me": [self.backend.me(*response) for response in pool.map(self.must, logins)],
                "login": logins,
            }

    def load(self, route, clients, seconds):
        """Has clients in a closed loop send requests, each user's in turn."""
        file = self.scratch / "requests"
        file.write_text("".join(request.raw() + "\0" for request in self.requests[route]))
        ours = [self.process.child.pid, self.postgres.process.child.pid]
        before, busy = [processor_seconds(pid) for pid in ours], busy_seconds()
        used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [
                "wrk",
                "--threads",
                "1",
                "--connections",
                str(clients),
                "--duration",
                str(seconds),
                "--timeout",
                str(WRK_TIMEOUT),
                "--script",
                HERE / "wrk.lua",
                f"http://127.0.0.1:{self.port}",
                "--",
                file,
                self.backend.me_has if route == "me" else self.backend.login_has,
            ],
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        )
        elapsed = time.monotonic() - started
        used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - sum(used[:2])
        spent = [processor_seconds(pid) - earlier for pid, earlier in zip(ours, before, strict=True)]
        seen = json.loads(done.stdout.splitlines()[-1])
        # Not of all responses, if some were wrong.
        seen["rate"] = seen["answers"] / seen["seconds"]
        seen["cpu_ms"], seen["postgresql_cpu_ms"] = [each * 1e3 / max(1, seen["answers"]) for each in spent]
        seen["busy"] = (busy_seconds() - busy) / (elapsed * PROCESSORS)
        seen["clients_busy"] = used / elapsed
        seen["others_busy"] = max(0, seen["busy"] - (sum(spent) + used) / (elapsed * PROCESSORS))
        return seen


def take_turn(target, seconds, result):
    """One back end, from its start to its end."""
    target.start(None)
    target.prepare()
    for _ in range(STARTS):
        target.stop()
        result["start_s"].append(target.start(target.requests["me"][0]))
    for route in ("me", "login"):
        target.load(route, PROCESSORS, 2)  # to open connections
    for route in ("me", "login"):
        for clients in CLIENTS:
            # A bcrypt takes a quarter of a second, and 64 clients wait for one another.
            factor = 1 if route == "me" else 2 if clients < 64 else 4
            seen = target.load(route, clients, seconds * factor)
            print(
                f"{target.backend.name:20} {route:6} {clients:3} clients: {seen['rate']:9.1f}/s  "
                f"p50 {seen['p50_ms']:9.2f} ms  p99 {seen['p99_ms']:9.2f} ms  "
                f"not right {seen['wrong'] + seen['failed']}, others busy {seen['others_busy']:.0%}",
                flush=True,
            )
            result[route].setdefault(str(clients), []).append(seen)
    result["memory_mib"].append(resident_mib(target.process.child.pid))
    target.stop()


# --- The report -------------------------------------------------------------------------------------------------------


def counted(cells):
    """Whether all responses in all rounds were right."""
    return all(cell["answers"] and not cell["wrong"] and not cell["failed"] for cell in cells)


def median(cells, name):
    return statistics.median(cell[name] for cell in cells)


def percentile(cells, name, clients):
    """In milliseconds, or a dash if there were too few responses: those that were still outstanding at the end, one of each
    client, are not counted, and are probably the slow ones."""
    answers = sum(cell["answers"] for cell in cells) / len(cells)
    enough = 2 * clients if name == "p50_ms" else max(100, 10 * clients)
    return number(median(cells, name)) if answers >= enough else "–"


def number(value):
    """Three significant digits, at most two decimals."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tables(results):
    """The page between its markers."""
    machine = results["machine"]
    summary = (
        f"On {machine['date']}: {machine['processors']} processors ({machine['model']}), PostgreSQL {machine['postgresql']}; "
        f"rounds: {results['rounds']}; seconds per round: {results['seconds']} for `me`, twice that for `login`, four times for "
        f"`login` with 64 clients. Other programs used {machine['others_median']:.0%} of the processors in the median cell, and "
        f"at most {machine['others_max']:.0%}; wrk used at most {machine['clients_max']:.0%} of one."
    )
    lines = [
        textwrap.fill(summary, 120),
        "",
        *(
            textwrap.fill(
                f"- **{name}** ({one['about']}): {one['versions']}", 120, subsequent_indent="  ", break_on_hyphens=False
            )
            for name, one in results["backends"].items()
        ),
        "",
        "| | start | memory | hash | CPU time of `me`: back end + PostgreSQL | of `login` |",
        "|--|--|--|--|--|--|",
    ]
    for name, one in results["backends"].items():
        times = []
        for route in ("me", "login"):
            cells = one[route][str(CPU_TIME_CLIENTS)]
            times.append(
                f"{number(median(cells, 'cpu_ms'))} + {number(median(cells, 'postgresql_cpu_ms'))} ms"
                if counted(cells)
                else "not counted"
            )
        lines.append(
            f"| {name} | {statistics.median(one['start_s']):.2f} s | {max(one['memory_mib']):.0f} MiB | {one['hash']} | "
            f"{' | '.join(times)} |"
        )
    for route in ("me", "login"):
        heads = [f"{clients}: per second | p50 | p99" for clients in CLIENTS]
        lines += [
            "",
            f"`{route}` by the number of clients, in responses per second and milliseconds:",
            "",
            f"| | {' | '.join(heads)} |",
            "|--" * (1 + 3 * len(CLIENTS)) + "|",
        ]
        for name, one in results["backends"].items():
            row = [name]
            for clients in CLIENTS:
                cells = one[route][str(clients)]
                row += (
                    [
                        number(median(cells, "rate")),
                        *(percentile(cells, name, clients) for name in ("p50_ms", "p99_ms")),
                    ]
                    if counted(cells)
                    else ["not counted", "", ""]
                )
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def write(results, directory):
    """The files; the page keeps what is around its markers."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    page = directory / "peers.md"
    begin, end = "<!-- begin: written by tests/benches/peers/run.py -->", "<!-- end -->"
    text = page.read_text() if page.exists() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n\n{tables(results)}\n\n{end}{after}")
    picture = virtual_environment("picture")
    run(picture / "bin/python", HERE / "picture/plot.py", directory / "peers.json", directory / "peers.svg")


def machine(postgres, cells):
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    others = [cell["others_busy"] for cell in cells]
    return {
        "date": datetime.date.today().isoformat(),
        "processors": PROCESSORS,
        "model": model[1] if model else platform.machine(),
        "postgresql": postgres.version(),
        "others_median": statistics.median(others),
        "others_max": max(others),
        "clients_max": max(cell["clients_busy"] for cell in cells),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--server",
        type=lambda path: pathlib.Path(path).resolve(strict=True),
        help="a release build of `local`; default: it is built",
    )
    parser.add_argument("--seconds", type=int, default=10, help="of a cell of `me`, default 10")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/performance", help="a directory")
    options = parser.parse_args()
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    for program in ("wrk", "npm", "node"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing (Debian: apt-get install wrk npm)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    CACHE.mkdir(parents=True, exist_ok=True)
    # PostgreSQL's user must be able to enter it.
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="people-peers-"))
    scratch.chmod(0o755)
    targets, postgres = [], None
    try:
        postgres = Postgres(scratch)
        for backend in (Ours(options.server), Seed(), Users(), BetterAuth()):
            targets.append(Target(backend, postgres, scratch))
        results = {
            target.backend.name: {
                "versions": target.versions,
                "about": target.backend.about,
                "hash": target.backend.hash,
                "start_s": [],
                "memory_mib": [],
                "me": {},
                "login": {},
            }
            for target in targets
        }
        for _ in range(options.rounds):
            for target in targets:
                take_turn(target, options.seconds, results[target.backend.name])
        cells = [
            (f"{name}, {route}, {clients} clients", cells)
            for name, one in results.items()
            for route in ("me", "login")
            for clients, cells in one[route].items()
        ]
        write(
            {
                "machine": machine(postgres, [cell for _, rounds in cells for cell in rounds]),
                "rounds": options.rounds,
                "seconds": options.seconds,
                "backends": results,
            },
            options.output,
        )
        refused = [where for where, rounds in cells if not counted(rounds)]
        if refused:
            sys.exit("not counted, since not all responses were right:\n" + "\n".join(refused))
    finally:
        for target in targets:
            target.stop()
        if postgres:
            postgres.process.stop(signal.SIGINT)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
