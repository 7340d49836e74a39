#!/usr/bin/env python3
"""Measures reservations on one primary: reserve and settle, compared with a check of the same limits.

Starts a redis-server and a service, and stops them; with --module a second pair, whose Redis has loaded the module. The
time of Redis is measured in turn: calls of 64 that reserve, settle, or check subjects with and without marks, and calls
of 16 that reserve beside slots in use, in rounds of both; ratios are medians of the rounds' ratios. Pairs per second are
measured with wrk, end to end, with the CPU time of each process. Then the memory of open reservations. Nothing is asserted.
"""

import argparse
import http.client
import json
import os
import resource
import statistics

from report import rows_of
from servers import HERE, ROOT, Redis, Service, cpu_seconds, wrk

BATCH = 64
# Slots in use of a limit of 400, of which each round takes one more; and subjects of a round.
SLOTS, SLOT_BATCH = (0, 50, 399), 16


class Reservations:
    def __init__(self, binary, module=None):
        self.redis = Redis(*["--loadmodule", module] if module else [])
        self.service = Service(binary, "--store", f"redis://127.0.0.1:{self.redis.port}", "--workers", "1")
        self.connection = http.client.HTTPConnection("127.0.0.1", self.service.port)

    def post(self, path, body):
        """The results of a batch, and the microseconds of Redis for each of them."""
        self.redis.reset()
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        results = json.loads(self.connection.getresponse().read())["results"]
        assert all(result["status"] == 200 for result in results), results
        calls, micros = self.redis.scripts()
        # The heartbeat may have added a call, and a batch may have been divided.
        return results, micros / len(results) if calls == 1 else None

    def check(self, keys, **members):
        check = {"policy": "tokens", "cost": {"total_tokens": 5296}, **members}
        return self.post("/check/batch", {"checks": [{**check, "key": key} for key in keys]})

    def settle(self, opened, **actual):
        handles = [result["reservation"]["handle"] for result in opened]
        return self.post("/reservations/settle", {
            "reservations": [{"handle": handle, "actual": actual} for handle in handles]})[1]

    def slots(self, in_use):
        """Takes a slot of each of some subjects."""
        keys = [f"slots-{in_use}-{i}" for i in range(SLOT_BATCH)]
        return self.check(keys, policy="streams", cost=1, reservation={"ttl_ms": 3_600_000})

    def prepare(self):
        """Subjects in steady use, whose limits have all eight marks; and others with slots in use."""
        self.plain, self.reserved = ([f"{kind}-{i}" for i in range(BATCH)] for kind in ("plain", "reserved"))
        self.check(self.plain)
        for _ in range(10):
            self.check(self.reserved, reservation={})
        for in_use in SLOTS:
            for _ in range(in_use):
                self.slots(in_use)

    def sample(self):
        """Times of each operation; None if one of them was not measured."""
        check, (opened, reserve) = self.check(self.plain)[1], self.check(self.reserved, reservation={})
        marked, settle = self.check(self.reserved)[1], self.settle(opened, total_tokens=1618)
        sample = {"check": check, "reserve": reserve, "marked": marked, "settle": settle}
        for in_use in SLOTS:
            opened, sample[f"slots {in_use}"] = self.slots(in_use)
            sample[f"free {in_use}"] = self.settle(opened, requests=1)
        return sample if all(sample.values()) else None

    def bytes_open(self, count=20_000, subjects=2_000):
        """Bytes of Redis for each reservation, by MEMORY USAGE, and for each by the whole memory."""
        def used():
            return int(self.redis.cli("INFO", "memory").split("used_memory:")[1].split()[0])

        def usage(pattern, sample=200):
            keys = self.redis.cli("--scan", "--pattern", pattern).split()[:sample]
            return statistics.mean(int(self.redis.cli("MEMORY", "USAGE", key)) for key in keys)

        # The service has closed the connection if the loads before took a minute.
        self.connection.close()
        self.redis.cli("FLUSHALL")
        self.check(["one"])
        before = used()
        for _ in range(count // 500):
            self.check(["one"] * 500, reservation={})
        of_one = (used() - before) / count
        subject = "tg:{%s}" % ("?" * 22)
        self.redis.cli("FLUSHALL")
        for first in range(0, subjects, 500):
            self.check([f"m{i}" for i in range(first, first + 500)])
        before, subject_before = used(), usage(subject)
        for round_ in range(count // subjects):
            for first in range(0, subjects, 500):
                self.check([f"m{i}" for i in range(first, first + 500)], reservation={})
            if round_ == 0:
                subject_first = usage(subject)
        texts = self.redis.cli("--scan", "--pattern", "tg:*:r:*").split()
        lengths = [int(self.redis.cli("STRLEN", key)) for key in texts[:100]]
        return [
            ("a reservation with two charges, bytes of its string", f"{statistics.mean(lengths):.0f}"),
            ("the same, its key and entries included (MEMORY USAGE)", f"{usage('tg:*:r:*'):.0f}"),
            ("growth of a subject by its first reservation · by its tenth (MEMORY USAGE)",
             f"{subject_first - subject_before:.0f} · {usage(subject) - subject_before:.0f}"),
            (f"all of Redis' memory for each of {count:,} open reservations of one client", f"{of_one:.0f}"),
            (f"all of Redis' memory for each of {count:,} open reservations, ten to a subject",
             f"{(used() - before) / count:.0f}"),
        ]


def samples_of(sides, rounds):
    """Samples of all sides, which are measured in turn."""
    for side in sides:
        side.prepare()
    samples = []
    while len(samples) < rounds:
        sample = [side.sample() for side in sides]
        if all(sample):
            samples.append(sample)
    return [list(of_side) for of_side in zip(*samples)]


def lines_of(samples):
    def middle(*keys):
        return " · ".join(f"{statistics.median(sample[key] for sample in samples):.2f}" for key in keys)

    pair = statistics.median((sample["reserve"] + sample["settle"]) / sample["check"] for sample in samples)
    marked = statistics.median(sample["marked"] / sample["check"] for sample in samples)
    in_use = " · ".join(map(str, SLOTS))
    return [
        ("check · reserve · settle, Redis us", middle("check", "reserve", "settle")),
        ("(reserve + settle) / check", f"{pair:.2f}"),
        ("a plain check with marks / without", f"{marked:.2f}"),
        (f"reserve beside {in_use} slots in use, Redis us", middle(*(f"slots {count}" for count in SLOTS))),
        (f"settle beside {in_use} slots in use, Redis us", middle(*(f"free {count}" for count in SLOTS))),
    ]


def children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def load_of(side, service, seconds):
    """One load with wrk: pairs per second, and microseconds of CPU for each pair by process."""
    side.redis.reset()
    processes = [side.redis.process, service.process]
    before, client = [cpu_seconds(process) for process in processes], children()
    load = wrk(service.port, 16, seconds, script="reservations.lua", BENCH_BATCH=BATCH)
    micros = side.redis.scripts()[1]
    # redis-cli is a child too, and takes a hundredth of the client's time.
    cpu = [cpu_seconds(process) - was for process, was in zip(processes, before)] + [children() - client]
    return {"rate": load["rate"], "us": micros / load["requests"], "cpu": [1e6 * part / load["requests"] for part in cpu]}


def load_lines(loads):
    rate, micros = (statistics.median(load[key] for load in loads) for key in ("rate", "us"))
    cpu = [statistics.median(load["cpu"][place] for load in loads) for place in range(3)]
    return [
        ("end to end in batches of 64, pairs/s", f"{rate:,.0f}"),
        ("the same, Redis us per pair by its commands", f"{micros:.1f}"),
        ("the same, CPU us per pair: Redis · service · wrk", " · ".join(f"{part:.1f}" for part in cpu)),
        ("the same, part of what Redis' core can do of that", f"{rate * micros / 1e6:.2f}"),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"), help="a tollgate built with --release")
    parser.add_argument("--module", type=os.path.abspath, help="the module for a second Redis, built with --release")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=5, help="of each load with wrk")
    options = parser.parse_args()
    sides = [Reservations(options.binary, module) for module in (None, options.module)[:2 if options.module else 1]]
    columns = [lines_of(samples) for samples in samples_of(sides, options.rounds)]
    services = [Service(options.binary, "--store", f"redis://127.0.0.1:{side.redis.port}") for side in sides]
    loads = [[load_of(*side, options.seconds) for side in zip(sides, services)] for _ in range(3)]
    for column, of_side, side in zip(columns, zip(*loads), sides):
        column += load_lines(of_side) + side.bytes_open()
    lines = [(figure, *(column[place][1] for column in columns)) for place, (figure, _) in enumerate(columns[0])]
    heads = ("figure", "script", "module")[:1 + len(sides)]
    text = rows_of([heads, ("---", *["---:"] * len(sides)), *lines])
    print(text)
    (HERE / "results/reservations.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
