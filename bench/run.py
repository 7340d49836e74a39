#!/usr/bin/env python3
"""Measures Tollgate on this machine: the figures of one run, and the ratios, which are comparable between machines.

Starts its own redis-server and services on free loopback ports, loads them with wrk and stops
them. Every variant runs in each round, one after the other, so that noise affects all of them. Figures and ratios
are medians of the rounds. Nothing is asserted: a measurement is not a test.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time

from report import beside, median, plot, rows_of, table
from servers import HERE, ROOT, Decisions, Redis, Service, Throttlecrab, batches, cpu_seconds, wrk


class Bench:
    """The services, their Redis, and the measurements."""

    def __init__(self, binary):
        self.redis = Redis()
        url = f"redis://127.0.0.1:{self.redis.port}"
        self.memory, self.exact = Service(binary), Service(binary, "--store", url)
        self.single = Service(binary, "--store", url, BENCH_SINGLE="1")
        # 2,000 connections begin with as many checks at once, of which the last ones wait for longer than 50 ms.
        self.patient = Service(binary, "--store", url, "--check-deadline", "1s")
        one = {"BENCH_KEYS": 1}
        leased = {"BENCH_BODY": '{"policy":"leased","key":"hot"}', "BENCH_KEYS": 1}
        self.variants = {
            "no-op": (self.memory.port, {"BENCH_PATH": "/noop"}),
            "memory": (self.memory.port, {}),
            "Redis, exact": (self.exact.port, {}),
            "Redis, exact, one key": (self.exact.port, one),
            "Redis, leased hot key": (self.exact.port, leased),
            "Redis, EVALSHA per check": (self.single.port, {}),
        }
        if peer := shutil.which("throttlecrab-server"):
            self.variants["throttlecrab-server, memory"] = (
                Throttlecrab(peer).port, {"BENCH_PATH": "/throttle", "BENCH_BODY": Throttlecrab.BODY})

    def load(self, port, connections, seconds, env):
        """Runs a load, and reads what Redis and its process have spent on it."""
        self.redis.reset()
        decides = env.get("BENCH_PATH") != "/noop" and port in (self.memory.port, self.exact.port, self.single.port, self.patient.port)
        decisions, cpu = Decisions(port) if decides else None, cpu_seconds(self.redis.process)
        sample = wrk(port, connections, seconds, **env)
        cpu = cpu_seconds(self.redis.process) - cpu
        if decisions:
            decisions.verify(sample["requests"] * env.get("BENCH_BATCH", 1))
        # Background calls of the services are left out of the loads without Redis.
        calls, micros = self.redis.scripts() if decides and port != self.memory.port else (0, 0)
        sample["us"] = micros / sample["requests"]
        sample["process_us"] = cpu / sample["requests"] * 1e6 if calls else 0.0
        sample["calls"] = calls / sample["requests"] * 1000
        sample["calls_per_second"] = calls / seconds
        return sample

    def rounds(self, rounds, seconds, connections):
        for port, env in self.variants.values():
            wrk(port, 64, 1, **env)
        samples = {}
        for round_ in range(rounds):
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
            names = list(self.variants)
            for count in connections:
                # Each round begins with another variant, so that none always follows the same one.
                for name in names[round_ % len(names):] + names[:round_ % len(names)]:
                    port, env = self.variants[name]
                    sample = self.load(port, count, seconds, env)
                    samples.setdefault((name, count), []).append(sample)
        return samples

    def open_loop(self, oha, figures, seconds):
        """Latency at half of the slowest variant's top rate, in an open loop, compared with the no-op's."""
        bodies = {"no-op": ("/noop", "bench", self.memory), "Redis, exact": ("/check", "bench", self.exact),
                  "Redis, leased hot key": ("/check", "leased", self.exact)}
        rate = int(min(figures[(name, 64)]["rate"] for name in bodies) / 2)
        seen = {}
        for name, (path, policy, service) in bodies.items():
            out = subprocess.check_output(
                [oha, "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-c", "64", "-q", str(rate),
                 "--latency-correction", "-m", "POST", "-T", "application/json", "-d",
                 json.dumps({"policy": policy, "key": "hot"}), f"http://127.0.0.1:{service.port}{path}"], text=True)
            percentiles = json.loads(out)["latencyPercentiles"]
            seen[name] = {key: percentiles[key] * 1e3 for key in ("p50", "p99")}
        base = seen.pop("no-op")
        return [(f"open loop at {rate:,}/s, {name}, ms over the no-op, p50 and p99",
                 " · ".join(f"{value[key] - base[key]:+.2f}" for key in ("p50", "p99")))
                for name, value in seen.items()]

    def come_and_go(self, keys):
        """Memory of the memory store with this many keys, and after they have expired."""
        def resident():
            status = pathlib.Path(f"/proc/{self.memory.process.pid}/status").read_text()
            return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

        def visit(part):
            batches(self.memory.port, "visitor", range(part * keys // 2, (part + 1) * keys // 2))

        before, began, most = resident(), time.monotonic(), 0
        visitors = [threading.Thread(target=visit, args=(part,)) for part in range(2)]
        for visitor in visitors:
            visitor.start()
        # Keys drain within a minute, and a sweep takes ten seconds.
        while any(visitor.is_alive() for visitor in visitors):
            time.sleep(0.2)
            most = max(most, resident())
        took = time.monotonic() - began
        time.sleep(75)
        left = resident() - before
        return [(f"{keys:,} keys within {took:.0f} s, embedded, bytes resident per key", f"{(most - before) / keys:.0f}"),
                ("the same once they are gone, part of it that is left", f"{left / (most - before):.2f}")]

    def bytes_in_redis(self, keys=100_000):
        """All memory of Redis per live key: name, value, entries in the tables."""
        def used():
            return int(self.redis.cli("INFO", "memory").split("used_memory:")[1].split()[0])

        lines = []
        for limits, policy in (("one limit", "bench"), ("three limits", "three")):
            self.redis.cli("FLUSHALL")
            before = used()
            batches(self.exact.port, policy, range(keys))
            taken = (used() - before) / int(self.redis.cli("DBSIZE"))
            lines.append((f"{keys:,} keys with {limits}, bytes of Redis per key", f"{taken:.0f}"))
        return lines

    def single_figures(self, seconds):
        """Figures that do not depend on the number of connections; one load each, compared with one throttle in the same minute."""
        port = self.exact.port
        batch = self.load(port, 8, seconds, {"BENCH_PATH": "/check/batch", "BENCH_BATCH": 100})
        one = self.load(port, 64, seconds, {})
        both = self.load(port, 64, seconds, {"BENCH_BODY": '{"policy":"both","key":"user:%d"}'})
        over = self.load(port, 64, seconds, {"BENCH_BODY": '{"policy":"over","key":"hot"}', "BENCH_KEYS": 1, "BENCH_REFUSED": 1})
        share = batch["rate"] * batch["us"] / 1e6
        few, many = (self.load(self.patient.port, count, seconds, {}) for count in (64, 2000))
        nothing = [self.load(self.memory.port, count, seconds, {"BENCH_PATH": "/noop"})["rate"] for count in (64, 2000)]
        return [
            ("batches of 100, checks/s", f"{batch['rate'] * 100:,.0f}"),
            ("batches of 100, Redis us per check", f"{batch['us'] / 100:.2f}"),
            ("batches of 100, CPU us of the Redis process per check", f"{batch['process_us'] / 100:.2f}"),
            ("batches of 100, part of what Redis' core can do of that script", f"{share:.2f}"),
            ("throttle and day quota / one throttle, Redis us", f"{both['us'] / one['us']:.2f}"),
            ("a leased key far over its limit, Redis calls per second", f"{over['calls_per_second']:.0f}"),
            ("2,000 connections / 64, exact", f"{many['rate'] / few['rate']:.2f}"),
            ("2,000 connections / 64, no-op", f"{nothing[1] / nothing[0]:.2f}"),
        ]


def compared(samples):
    """The ratios of the table's variants and their reference."""
    pairs = [("Redis, exact", "Redis, EVALSHA per check"), ("memory", "throttlecrab-server, memory")]
    counts = sorted({count for _, count in samples if count > 1})
    return [(f"{name} / {other}, {' · '.join(map(str, counts))} connections",
             " · ".join(f"{beside(samples, name, other, count):.2f}" for count in counts))
            for name, other in pairs if (other, counts[0]) in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"),
                        help="a tollgate built with --release --features bench")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=int, default=1, help="per load; what is measured once takes three times as long")
    parser.add_argument("--keys", type=int, default=10_000_000, help="that come and go; 0 leaves that out")
    parser.add_argument("--connections", default="1,8,64,256")
    options = parser.parse_args()
    connections = [int(part) for part in options.connections.split(",")]
    bench = Bench(options.binary)
    samples = bench.rounds(options.rounds, options.seconds, connections)
    figures = {key: median(of) for key, of in samples.items()}
    singles = compared(samples) + bench.single_figures(3 * options.seconds) + bench.bytes_in_redis()
    if (oha := shutil.which("oha")) and 64 in connections:
        singles += bench.open_loop(oha, figures, 6 * options.seconds)
    if options.keys:
        singles += bench.come_and_go(options.keys)
    text = table(samples, figures, connections) + "\n\n" + rows_of([("figure", "value"), ("---", "---:"), *singles])
    print(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.md").write_text(text + "\n")
    (results / "latest.svg").write_text(plot(figures, connections) + "\n")
    raw = {f"{name}/{count}": figure for (name, count), figure in figures.items()}
    (results / "latest.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
