#!/usr/bin/env python3
"""Computes what the service costs, beside the former back end in a container and Cognito, and writes the tables of
docs/costs.md:

    python3 tests/benches/costs.py
    python3 tests/benches/costs.py --check     # fails if the page is not what this writes

Prices and assumptions are in prices.toml beside it. The CPU time of the former back end is what
tests/benches/peers/run.py measured. It needs Python 3.11 and nothing else.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/costs.md"
BEGIN, END = "<!-- begin: written by tests/benches/costs.py -->", "<!-- end -->"
HOURS = 730  # in a month
SECONDS = HOURS * 3600


def in_steps(amount, steps):
    """The price of an amount whose parts up to each limit have different prices."""
    price, below = 0.0, 0
    for limit, usd in steps:
        price += max(0, min(amount, limit) - below) * usd
        below = limit
    return price


def share_of_hashes(mix):
    return sum(mix[route] for route in mix["hashes"]) / sum(count for route, count in mix.items() if route != "hashes")


def service(month, data):
    """The rows of this service without a database, in USD a month."""
    price = {name: entry["usd"] for name, entry in data["prices"].items()}
    counts, functions, requests = data["template"], data["functions"], month["requests"]
    hashes = share_of_hashes(data["mix"]) * requests
    cold = month["cold_share"] * requests
    gb_seconds = (
        hashes * functions["hash_seconds"] * functions["hash_mb"]
        + (requests - hashes) * functions["other_seconds"] * functions["other_mb"]
        + cold * functions["cold_seconds"] * functions["other_mb"]
    ) / 1024
    scheduled = functions["scheduled_per_hour"] * HOURS
    scheduled_gb_seconds = scheduled * functions["other_seconds"] * functions["other_mb"] / 1024
    log_gb = functions["log_bytes"] / 1e9
    return {
        "gateway": requests / 1e6 * price["gateway"],
        "functions, requests": requests / 1e6 * price["invocation"],
        "functions, time": gb_seconds * price["duration"],
        "logs": requests * log_gb * price["logs"],
        f"alarms (priced as {counts['alarms']}), {counts['metrics']} metrics": counts["alarms"] * price["alarm"]
        + counts["metrics"] * price["metric"],
        f"{counts['secrets']} secrets, and reading them": counts["secrets"] * price["secret"]
        + cold * functions["secrets_per_cold_start"] / 1e6 * price["secret_read"],
        "`outbox`, `courier`, `purge`": scheduled / 1e6 * price["invocation"]
        + scheduled_gb_seconds * price["duration"]
        + scheduled * log_gb * price["logs"],
    }


def container(month, data, cpu_seconds):
    """The rows of the former back end in containers, in USD a month, and their number. `cpu_seconds`: of a request with a
    hash and of one without."""
    price = {name: entry["usd"] for name, entry in data["prices"].items()}
    settings, requests = data["container"], month["requests"]
    hashes = share_of_hashes(data["mix"])
    used = requests * (hashes * cpu_seconds[0] + (1 - hashes) * cpu_seconds[1]) / SECONDS
    tasks = max(settings["least_tasks"], math.ceil(used / settings["utilization"] / settings["vcpu"]))
    # Each request on a new connection: an upper limit.
    units = requests / SECONDS / 25
    return {
        "containers": tasks * HOURS * (settings["vcpu"] * price["vcpu"] + settings["gb"] * price["container_memory"]),
        "load balancer": HOURS * (price["load_balancer"] + units * price["lcu"]),
        "public addresses": (tasks + settings["load_balancer_addresses"]) * HOURS * price["ipv4"],
        "logs": requests * settings["log_bytes"] / 1e9 * price["logs"],
        "secrets": settings["secrets"] * price["secret"],
    }, tasks


def database(month, data):
    """In USD a month."""
    price = {name: entry["usd"] for name, entry in data["prices"].items()}
    return month["database_zones"] * (HOURS * price[month["database"]] + month["storage_gb"] * price["storage"])


def beside_database(data):
    """What the database's stack creates besides the database, in USD a month. Without a way to the internet, Secrets Manager needs an
    endpoint in each of two zones."""
    price = {name: entry["usd"] for name, entry in data["prices"].items()}
    counts = data["template"]["database"]
    return {
        "VPC endpoint for Secrets Manager, two zones": 2 * HOURS * price["endpoint"],
        f"{counts['alarms']} alarms, {counts['secrets']} secret, {counts['keys']} key": counts["alarms"] * price["alarm"]
        + counts["secrets"] * price["secret"]
        + counts["keys"] * price["key"],
    }


def total(rows):
    return sum(rows.values())


def break_even(data, cpu):
    """The millions of requests a month from which on containers cost less, with a database that exists anyway; None if that
    is above 999."""
    for millions in range(1, 1000):
        month = {"requests": millions * 1_000_000, "cold_share": data["month"][-1]["cold_share"]}
        if total(service(month, data)) > total(container(month, data, cpu)[0]):
            return millions
    return None


def cpu_seconds(peers):
    """Of the former back end: of a log-in and of `me`."""
    routes = peers["backends"]["the former back end"]
    times = []
    for route in ("login", "me"):
        cells = routes[route]["8"]
        if any(cell["wrong"] or cell["failed"] or not cell["answers"] for cell in cells):
            raise SystemExit(f"docs/performance/peers.json has no valid measurement of {route}")
        times.append(statistics.median(cell["cpu_ms"] for cell in cells) / 1e3)
    return times


def money(usd):
    return f"{usd:,.2f}"


def decimal(usd):
    """All digits, without an exponent."""
    return f"{usd:.10f}".rstrip("0").rstrip(".")


def table(heads, rows):
    return [f"| {' | '.join(heads)} |", "|--" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def sizes(data):
    names = {10_000: "10 thousand", 1_000_000: "1 million", 100_000_000: "100 million"}
    return [names.get(month["requests"], f"{month['requests']:,}") for month in data["month"]]


def tables(data, cpu):
    """The page between its markers."""
    months = data["month"]
    ours = [service(month, data) for month in months]
    theirs = [container(month, data, cpu) for month in months]
    databases = [database(month, data) for month in months]
    beside = beside_database(data)

    def row(name, values, form=money):
        return [name, *map(form, values)]

    def bold(name, values):
        return [f"**{each}**" for each in row(name, values)]

    totals = {
        "this service, its database included": [
            total(rows) + total(beside) + usd for rows, usd in zip(ours, databases, strict=True)
        ],
        "this service, with a database that exists anyway": [total(rows) for rows in ours],
        "the former back end in containers, its database included": [
            total(rows) + usd for (rows, _), usd in zip(theirs, databases, strict=True)
        ],
        "the former back end in containers, with a database that exists anyway": [total(rows) for rows, _ in theirs],
    }
    our_all, our_part, their_all, their_part = totals.values()
    sizes_of_database = "; ".join(
        f"{month['database'].removeprefix('db.t4g.')}, {month['storage_gb']} GB, "
        f"{month['database_zones']} zone{'s' * (month['database_zones'] > 1)}"
        for month in months
    )
    lines = ["**This service**, in USD a month:", ""]
    lines += table(
        ["requests a month", *sizes(data)],
        [
            *(row(name, [rows[name] for rows in ours]) for name in ours[0]),
            bold("without a database", our_part),
            *(row(name, [usd] * len(months)) for name, usd in beside.items()),
            row(f"database: {sizes_of_database}", databases),
            bold("with a database", our_all),
        ],
    )
    lines += ["**The former back end in containers**, in USD a month:", ""]
    lines += table(
        ["requests a month", *sizes(data)],
        [
            row("tasks", [tasks for _, tasks in theirs], str),
            *(row(name, [rows[name] for rows, _ in theirs]) for name in theirs[0][0]),
            bold("without a database", their_part),
            row("the same database", databases),
            bold("with it", their_all),
        ],
    )

    def per_million(usd):
        return [each / month["requests"] * 1e6 for each, month in zip(usd, months, strict=True)]

    lines += ["**A million requests**, in USD:", ""]
    lines += table(
        ["requests a month", *sizes(data)],
        [
            *(row(name, per_million(usd)) for name, usd in totals.items()),
            *(
                row(
                    f"{plan['name']}, {each:,} requests per active user",
                    per_million([in_steps(month["requests"] / each, plan["steps"]) for month in months]),
                )
                for plan in data["cognito"].values()
                for each in data["cognito_users"]["requests_per_user"]
            ),
        ],
    )
    even = break_even(data, cpu)
    lines += [
        "Containers never cost less, with a database that exists anyway."
        if even is None
        else f"From {even} million requests a month on, containers cost less, with a database that exists anyway.",
        "",
    ]
    hashes = share_of_hashes(data["mix"])
    average = hashes * cpu[0] + (1 - hashes) * cpu[1]
    lines += [
        f"CPU time of the former back end per request, measured: {cpu[0] * 1e3:,.0f} ms with a hash, {cpu[1] * 1e3:.1f} ms "
        f"without, so {average * 1e3:.0f} ms on average.",
        "",
        f"**Prices**, {data['region']}:",
        "",
    ]
    prices = [([entry["usd"]], entry["unit"], entry) for entry in data["prices"].values()]
    for plan in data["cognito"].values():
        (free, _), *paid = plan["steps"]
        prices.append(([usd for _, usd in paid], f"active user of {plan['name']}, above {free:,}", plan))
    lines += table(
        ["USD", "per", "source", "read in"],
        [
            [
                ", ".join(map(decimal, usd)),
                unit,
                f"[{entry['source'].removeprefix('https://')}]({entry['source']})",
                f"[{entry['date']}]({entry['read']})",
            ]
            for usd, unit, entry in prices
        ],
    )
    return "\n".join(lines).rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, and fail if the page is not what this writes"
    )
    options = parser.parse_args()
    data = tomllib.loads(pathlib.Path(__file__).with_name("prices.toml").read_text())
    cpu = cpu_seconds(json.loads((ROOT / "docs/performance/peers.json").read_text()))
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE} has lost its markers")
    new = f"{before}{BEGIN}\n\n{tables(data, cpu)}\n\n{END}{after}"
    if not options.check:
        PAGE.write_text(new)
    elif new != text:
        sys.exit("docs/costs.md is not what its prices and peers.json give: run python3 tests/benches/costs.py")


if __name__ == "__main__":
    main()
