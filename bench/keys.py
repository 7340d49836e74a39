#!/usr/bin/env python3
"""Measures a million API keys: their memory in Redis, the cost of a cache miss, and of unknown keys.

Imports keys in AWS' CSV through the admin API, ten thousand at a time, changes one of them at the end,
and reads and checks some, sequentially on one connection.
"""

import argparse
import http.client
import json
import random
import statistics
import sys
import time

from servers import ROOT, Redis, Service, free_port, wait_for

BATCH = 10_000
TOKEN = "bench-admin-token"


class Admin:
    def __init__(self, port):
        wait_for(port)
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def call(self, method, path, body=None):
        self.connection.request(method, path, body, {"authorization": f"Bearer {TOKEN}"})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {content[:300]}")
        return json.loads(content)


class Checks:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(self, key):
        """The status, and the duration in microseconds."""
        began = time.perf_counter()
        self.connection.request("POST", "/check", json.dumps({"api_key": key}))
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1e6


def value(number):
    return f"key-{number:020}-of-many"


def lookups(redis):
    lines = redis.cli("INFO", "commandstats").splitlines()
    line = next((line for line in lines if line.startswith("cmdstat_hget:")), "calls=0,")
    return int(line.split("calls=")[1].split(",")[0])


def memory(redis):
    lines = redis.cli("INFO", "memory").splitlines()
    return int(next(line for line in lines if line.startswith("used_memory:")).split(":")[1])


def timed(answers):
    cuts = statistics.quantiles([micros for _, micros in answers], n=100)
    return f"p50 {cuts[49]:.0f} us, p99 {cuts[98]:.0f} us"


def load(redis, admin, keys):
    throttle = {"rateLimit": 1000, "burstLimit": 2000}
    plan = admin.call("POST", "/usageplans", json.dumps({"name": "p", "throttle": throttle}))["id"]
    before, began, ids = memory(redis), time.monotonic(), []
    for first in range(0, keys, BATCH):
        rows = "".join(f"k{number},{value(number)},{plan}\n" for number in range(first, min(first + BATCH, keys)))
        content = admin.call("POST", "/apikeys?mode=import&format=csv", "Name,Key,UsagePlanIds\n" + rows)
        if content["warnings"]:
            sys.exit(content["warnings"][:3])
        ids += content["ids"]
        print(f"\r{len(ids):,} keys", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"imported {keys / (time.monotonic() - began):,.0f} keys/s, "
          f"{(memory(redis) - before) / keys:.0f} bytes of Redis for each")
    return ids


def manage(admin, checks, ids):
    """Measures a page from the middle of the list, and the time until a disabled key is refused."""
    began = time.monotonic()
    page = admin.call("GET", f"/apikeys?limit=500&position={ids[len(ids) // 2]}")["item"]
    print(f"a page of {len(page)} keys in {(time.monotonic() - began) * 1e3:.0f} ms")
    patch = {"patchOperations": [{"op": "replace", "path": "/enabled", "value": "false"}]}
    began = time.monotonic()
    admin.call("PATCH", f"/apikeys/{ids[0]}", json.dumps(patch))
    while checks.ask(value(0))[0] != 403:
        pass
    print(f"a disabled key is refused {(time.monotonic() - began) * 1e3:.0f} ms later")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    redis, port = Redis(), free_port()
    service = Service(options.binary, "--store", f"redis://127.0.0.1:{redis.port}",
                      "--listen-admin", f"127.0.0.1:{port}", TOLLGATE_ADMIN_TOKEN=TOKEN)
    admin, checks = Admin(port), Checks(service.port)
    ids = load(redis, admin, options.keys)
    sample = random.sample(range(options.keys), min(2_000, options.keys // 2))
    for name in ("met first", "met again"):
        answers = [checks.ask(value(number)) for number in sample]
        if any(status != 200 for status, _ in answers):
            sys.exit("a key was refused")
        print(f"a key {name}: {timed(answers)}")
    manage(admin, checks, ids)
    asked = lookups(redis)
    for _ in range(1_000):
        checks.ask("the-same-guess")
    print(f"1,000 equal guesses: {lookups(redis) - asked} lookups")
    asked, began = lookups(redis), time.monotonic()
    statuses = [checks.ask(f"guess-{number}")[0] for number in range(20_000)]
    seconds = time.monotonic() - began
    print(f"{len(statuses) / seconds:,.0f} different guesses/s: {(lookups(redis) - asked) / seconds:,.0f} lookups/s, "
          f"{statuses.count(503) / len(statuses):.0%} refused without one")


if __name__ == "__main__":
    main()
