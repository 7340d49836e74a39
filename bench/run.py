#!/usr/bin/env python3
"""Measures Tollgate on this machine: all figures of one run, with the ratios that carry over.

Starts its own redis-server and services on free loopback ports, drives them with wrk and ends
them. Every variant runs in each round, one after the other, so that a noisy machine disturbs all
alike; what is printed are medians over the rounds. Nothing here asserts: a figure is not a test.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


class Redis:
    """A redis-server without persistence, and what it says of itself."""

    def __init__(self):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", self.dir.name, "--loglevel", "warning"], stdout=subprocess.DEVNULL)
        wait_for(self.port)

    def cli(self, *words):
        return subprocess.check_output(["redis-cli", "-p", str(self.port), *words], text=True)

    def reset(self):
        self.cli("CONFIG", "RESETSTAT")

    def scripts(self):
        """Calls of scripts and their microseconds since the last reset."""
        calls = micros = 0
        for line in self.cli("INFO", "commandstats").splitlines():
            if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:")):
                fields = dict(field.split("=") for field in line.split(":")[1].split(","))
                calls += int(fields["calls"])
                micros += int(fields["usec"])
        return calls, micros


class Service:
    def __init__(self, binary, *flags):
        self.port = free_port()
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--drain-delay", "0s",
             "--check-deadline", "1s", "--catalog", str(HERE / "catalog.yaml"), *flags],
            stdout=subprocess.DEVNULL, env={**os.environ, "RUST_LOG": "warn"})
        wait_for(self.port)


def wrk(port, connections, seconds, **env):
    """One load: checks (or bodies) per second, p50 and p99 in milliseconds."""
    out = subprocess.check_output(
        ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s",
         "-s", str(HERE / "check.lua"), f"http://127.0.0.1:{port}"],
        env={**os.environ, **{key: str(value) for key, value in env.items()}}, text=True)
    line = next(line for line in out.splitlines() if line.startswith("RESULT"))
    requests, micros, p50, p99, bad, errors = map(int, line.split()[1:])
    if bad or errors:
        print(f"  {bad} unexpected answers and {errors} socket errors", file=sys.stderr)
    return {"rate": requests / micros * 1e6, "p50": p50 / 1e3, "p99": p99 / 1e3, "requests": requests}


def median(samples):
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def measure(binary, rounds, seconds, connections):
    redis = Redis()
    url = f"redis://127.0.0.1:{redis.port}"
    memory, exact = Service(binary), Service(binary, "--store", url)
    variants = {
        "no-op": (memory.port, {"BENCH_PATH": "/noop"}),
        "memory": (memory.port, {}),
        "redis": (exact.port, {}),
    }
    try:
        for port, env in variants.values():
            wrk(port, 64, 1, **env)
        samples = {}
        for round_ in range(rounds):
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
            for count in connections:
                for name, (port, env) in variants.items():
                    redis.reset()
                    sample = wrk(port, count, seconds, **env)
                    calls, micros = redis.scripts()
                    sample["us"] = micros / sample["requests"] if calls else 0.0
                    sample["per_call"] = sample["requests"] / calls if calls else 0.0
                    samples.setdefault((name, count), []).append(sample)
        return {key: median(values) for key, values in samples.items()}
    finally:
        for process in (memory.process, exact.process, redis.process):
            process.send_signal(signal.SIGTERM)
            process.wait()


def table(figures, connections):
    head = ["connections", "what", "checks/s", "/ no-op", "p50 ms", "p99 ms", "Redis us/check", "checks/call"]
    rows = [head, ["---:", "---"] + ["---:"] * 6]
    for count in connections:
        for name in ("no-op", "memory", "redis"):
            f = figures[(name, count)]
            ratio = f["rate"] / figures[("no-op", count)]["rate"]
            redis = [f"{f['us']:.2f}", f"{f['per_call']:.1f}"] if f["us"] else ["", ""]
            rows.append([str(count), name, f"{f['rate']:,.0f}", f"{ratio:.2f}", f"{f['p50']:.2f}", f"{f['p99']:.2f}", *redis])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"),
                        help="a tollgate built with --release --features bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="per load")
    parser.add_argument("--connections", default="1,8,64,256")
    options = parser.parse_args()
    connections = [int(part) for part in options.connections.split(",")]
    figures = measure(options.binary, options.rounds, options.seconds, connections)
    text = table(figures, connections)
    print(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.md").write_text(text + "\n")
    raw = {f"{name}/{count}": figure for (name, count), figure in figures.items()}
    (results / "latest.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
