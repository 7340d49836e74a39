#!/usr/bin/env python3
"""Measures reservations on one primary: reserve and settle, compared with a check of the same limits.

Starts a redis-server and a service, and stops them. The script's time is measured in turn: calls of 64 that reserve,
settle, or check subjects with and without marks, in rounds; ratios are medians of the rounds' ratios. Pairs per second
are measured with wrk, end to end. Then the memory of open reservations. Nothing is asserted.
"""

import argparse
import http.client
import json
import statistics

from report import rows_of
from servers import HERE, ROOT, Redis, Service, wrk

BATCH = 64


class Reservations:
    def __init__(self, binary):
        self.redis = Redis()
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

    def settle(self, opened):
        handles = [result["reservation"]["handle"] for result in opened]
        return self.post("/reservations/settle", {
            "reservations": [{"handle": handle, "actual": {"total_tokens": 1618}} for handle in handles]})[1]

    def rounds(self, rounds):
        """Times of each operation, on subjects that are in steady use: their limits have all eight marks."""
        plain, reserved = ([f"{kind}-{i}" for i in range(BATCH)] for kind in ("plain", "reserved"))
        self.check(plain)
        for _ in range(10):
            self.check(reserved, reservation={})
        samples = []
        while len(samples) < rounds:
            check, (opened, reserve) = self.check(plain)[1], self.check(reserved, reservation={})
            marked, settle = self.check(reserved)[1], self.settle(opened)
            if all((check, reserve, marked, settle)):
                samples.append({"check": check, "reserve": reserve, "marked": marked, "settle": settle})
        return samples

    def bytes_open(self, count=20_000, subjects=2_000):
        """Bytes of Redis for each reservation, by MEMORY USAGE, and for each by the whole memory."""
        def used():
            return int(self.redis.cli("INFO", "memory").split("used_memory:")[1].split()[0])

        def usage(pattern, sample=200):
            keys = self.redis.cli("--scan", "--pattern", pattern).split()[:sample]
            return statistics.mean(int(self.redis.cli("MEMORY", "USAGE", key)) for key in keys)

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


def lines_of(samples):
    middle = {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
    pair = statistics.median((sample["reserve"] + sample["settle"]) / sample["check"] for sample in samples)
    marked = statistics.median(sample["marked"] / sample["check"] for sample in samples)
    return [
        ("check · reserve · settle, Redis us", " · ".join(f"{middle[k]:.2f}" for k in ("check", "reserve", "settle"))),
        ("(reserve + settle) / check", f"{pair:.2f}"),
        ("a plain check with marks / without", f"{marked:.2f}"),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"), help="a tollgate built with --release")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=5, help="of each load with wrk")
    options = parser.parse_args()
    bench = Reservations(options.binary)
    lines = lines_of(bench.rounds(options.rounds))
    url = f"redis://127.0.0.1:{bench.redis.port}"
    service = Service(options.binary, "--store", url)
    loads = []
    for _ in range(3):
        bench.redis.reset()
        load = wrk(service.port, 16, options.seconds, script="reservations.lua", BENCH_BATCH=BATCH)
        load["us"] = bench.redis.scripts()[1] / load["requests"]
        loads.append(load)
    rate = statistics.median(load["rate"] for load in loads)
    micros = statistics.median(load["us"] for load in loads)
    lines += [("end to end in batches of 64, pairs/s", f"{rate:,.0f}"),
              ("the same, Redis us per pair", f"{micros:.1f}"),
              ("the same, part of what Redis' core can do of that script", f"{rate * micros / 1e6:.2f}")]
    lines += bench.bytes_open()
    text = rows_of([("figure", "value"), ("---", "---:"), *lines])
    print(text)
    (HERE / "results/reservations.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
