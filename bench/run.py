#!/usr/bin/env python3
"""Measures Tollgate on this machine: all figures of one run, with the ratios that carry over.

Starts its own redis-server and services on free loopback ports, drives them with wrk and ends
them. Every variant runs in each round, one after the other, so that a noisy machine disturbs all
alike; what is printed are medians over the rounds. Nothing here asserts: a figure is not a test.
"""

import argparse
import atexit
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, **options):
    """A process that does not outlive this one, however it ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    atexit.register(lambda: (process.terminate(), process.wait()))
    return process


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
        self.process = start(
            ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--dir", self.dir.name, "--loglevel", "warning"])
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
    def __init__(self, binary, *flags, **env):
        self.port = free_port()
        self.process = start(
            [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--drain-delay", "0s",
             "--check-deadline", "1s", "--catalog", str(HERE / "catalog.yaml"), *flags],
            env={**os.environ, "RUST_LOG": "warn", **env})
        wait_for(self.port)


class Throttlecrab:
    """The peer in memory, where its server is installed (cargo install throttlecrab-server)."""

    BODY = '{"key":"user:%d","max_burst":1000000,"count_per_period":20,"period":1}'

    def __init__(self, binary):
        self.port = free_port()
        self.process = start(
            [binary, "--http", "--http-host", "127.0.0.1", "--http-port", str(self.port), "--log-level", "error"],
            stderr=subprocess.DEVNULL)
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


class Bench:
    """Two services, one Redis, and what is measured on them."""

    def __init__(self, binary):
        self.redis = Redis()
        url = f"redis://127.0.0.1:{self.redis.port}"
        self.memory, self.exact = Service(binary), Service(binary, "--store", url)
        self.single = Service(binary, "--store", url, BENCH_SINGLE="1")
        leased = {"BENCH_BODY": '{"policy":"leased","key":"hot"}', "BENCH_KEYS": 1}
        self.variants = {
            "no-op": (self.memory.port, {"BENCH_PATH": "/noop"}),
            "memory": (self.memory.port, {}),
            "Redis, exact": (self.exact.port, {}),
            "Redis, leased hot key": (self.exact.port, leased),
            "Redis, EVALSHA per check": (self.single.port, {}),
        }
        if peer := shutil.which("throttlecrab-server"):
            self.variants["throttlecrab-server, memory"] = (
                Throttlecrab(peer).port, {"BENCH_PATH": "/throttle", "BENCH_BODY": Throttlecrab.BODY})

    def load(self, port, connections, seconds, env):
        """A load with what Redis says of it; the heartbeat's one call a second is left out."""
        self.redis.reset()
        sample = wrk(port, connections, seconds, **env)
        calls, micros = self.redis.scripts()
        calls = calls if calls > 3 * seconds else 0
        sample["us"] = micros / sample["requests"] if calls else 0.0
        sample["calls"] = calls / sample["requests"] * 1000
        sample["calls_per_second"] = calls / seconds
        return sample

    def rounds(self, rounds, seconds, connections):
        for port, env in self.variants.values():
            wrk(port, 64, 1, **env)
        samples = {}
        for round_ in range(rounds):
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr)
            for count in connections:
                for name, (port, env) in self.variants.items():
                    sample = self.load(port, count, seconds, env)
                    samples.setdefault((name, count), []).append(sample)
        return {key: median(values) for key, values in samples.items()}

    def open_loop(self, oha, figures, seconds):
        """Latency beside the no-op's at half of the slowest variant's top rate, corrected for waiting."""
        bodies = {"no-op": ("/noop", "bench", self.memory), "Redis, exact": ("/check", "bench", self.exact),
                  "Redis, leased hot key": ("/check", "leased", self.exact)}
        rate = int(min(figures[(name, 64)]["rate"] for name in bodies) / 2)
        seen = {}
        for name, (path, policy, service) in bodies.items():
            out = subprocess.check_output(
                [oha, "--no-tui", "--output-format", "json", "-z", f"{2 * seconds}s", "-c", "64", "-q", str(rate),
                 "--latency-correction", "-m", "POST", "-T", "application/json", "-d",
                 json.dumps({"policy": policy, "key": "hot"}), f"http://127.0.0.1:{service.port}{path}"], text=True)
            percentiles = json.loads(out)["latencyPercentiles"]
            seen[name] = {key: percentiles[key] * 1e3 for key in ("p50", "p99")}
        base = seen.pop("no-op")
        return [(f"open loop at {rate:,}/s, {name}, ms over the no-op, p50 and p99",
                 " · ".join(f"{value[key] - base[key]:+.2f}" for key in ("p50", "p99")))
                for name, value in seen.items()]

    def come_and_go(self, keys):
        """Memory of the embedded store while so many keys live for a minute, and once they are gone."""
        def resident():
            status = pathlib.Path(f"/proc/{self.memory.process.pid}/status").read_text()
            return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

        def visit(part):
            connection = http.client.HTTPConnection("127.0.0.1", self.memory.port)
            for first in range(part * keys // 2, (part + 1) * keys // 2, 1000):
                checks = ",".join(f'{{"policy":"visitor","key":"{key}"}}' for key in range(first, first + 1000))
                connection.request("POST", "/check/batch", f'{{"checks":[{checks}]}}', {"content-type": "application/json"})
                connection.getresponse().read()

        before, began, most = resident(), time.monotonic(), 0
        visitors = [threading.Thread(target=visit, args=(part,)) for part in range(2)]
        for visitor in visitors:
            visitor.start()
        # The last have drained a minute after they came, and a sweep takes ten seconds.
        while any(visitor.is_alive() for visitor in visitors):
            time.sleep(0.2)
            most = max(most, resident())
        took = time.monotonic() - began
        time.sleep(75)
        left = resident() - before
        return [(f"{keys:,} keys within {took:.0f} s, embedded, bytes resident per key", f"{(most - before) / keys:.0f}"),
                ("the same once they are gone, part of it that is left", f"{left / (most - before):.2f}")]

    def single_figures(self, seconds):
        """What is not a matter of connections; one load each, beside one throttle in the same minute."""
        port = self.exact.port
        batch = self.load(port, 8, seconds, {"BENCH_PATH": "/check/batch", "BENCH_BATCH": 100})
        one = self.load(port, 64, seconds, {})
        both = self.load(port, 64, seconds, {"BENCH_BODY": '{"policy":"both","key":"user:%d"}'})
        over = self.load(port, 64, seconds, {"BENCH_BODY": '{"policy":"over","key":"hot"}', "BENCH_KEYS": 1})
        many = self.load(port, 2000, seconds, {})
        nothing = [self.load(self.memory.port, count, seconds, {"BENCH_PATH": "/noop"})["rate"] for count in (64, 2000)]
        return [
            ("batches of 100, checks/s", f"{batch['rate'] * 100:,.0f}"),
            ("batches of 100, Redis us per check", f"{batch['us'] / 100:.2f}"),
            ("throttle and day quota / one throttle, Redis us", f"{both['us'] / one['us']:.2f}"),
            ("a leased key far over its limit, Redis calls per second", f"{over['calls_per_second']:.0f}"),
            ("2,000 connections / 64, exact", f"{many['rate'] / one['rate']:.2f}"),
            ("2,000 connections / 64, no-op", f"{nothing[1] / nothing[0]:.2f}"),
        ]


def rows_of(lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(figures, connections):
    head = ["connections", "what", "checks/s", "/ no-op", "p50 ms", "p99 ms", "Redis us/check", "Redis calls/1000"]
    lines = [head, ["---:", "---"] + ["---:"] * 6]
    names = list(dict.fromkeys(name for name, _ in figures))
    for count in connections:
        for name in names:
            f = figures[(name, count)]
            ratio = f["rate"] / figures[("no-op", count)]["rate"]
            redis = [f"{f['us']:.2f}", f"{f['calls']:.1f}"] if f["us"] else ["", ""]
            lines.append([str(count), name, f"{f['rate']:,.0f}", f"{ratio:.2f}", f"{f['p50']:.2f}", f"{f['p99']:.2f}", *redis])
    return rows_of(lines)


def plot(figures, connections):
    """Checks per second and median latency against connections, as SVG."""
    names = list(dict.fromkeys(name for name, _ in figures))
    colours = ["#888888", "#1b7837", "#b2182b", "#2166ac", "#e08214", "#762a83"]
    width, height, left, top = 360, 220, 60, 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (width + left) + 60}" height="{height + 125}" font-family="sans-serif" font-size="12">']
    for panel, (key, title) in enumerate([("rate", "checks/s"), ("p50", "p50, ms")]):
        x0 = left + panel * (width + left + 20)
        most = max(f[key] for f in figures.values()) * 1.05
        parts.append(f'<text x="{x0}" y="{top - 15}" font-weight="bold">{title}</text>')
        for step in range(5):
            y = top + height - height * step / 4
            value = most * step / 4
            label = f"{value / 1000:.0f}k" if key == "rate" else f"{value:.1f}"
            parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
        place = {c: x0 + width * (i + 0.5) / len(connections) for i, c in enumerate(connections)}
        for count, x in place.items():
            parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{count}</text>')
        parts.append(f'<text x="{x0 + width / 2}" y="{top + height + 36}" text-anchor="middle">connections</text>')
        for name, colour in zip(names, colours):
            points = " ".join(f"{place[c]:.0f},{top + height - height * figures[(name, c)][key] / most:.0f}" for c in connections)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for index, (name, colour) in enumerate(zip(names, colours)):
        x, y = left + index % 4 * 210, height + 88 + index // 4 * 18
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 7}">{name}</text>')
    return "\n".join(parts + ["</svg>"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"),
                        help="a tollgate built with --release --features bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="per load")
    parser.add_argument("--keys", type=int, default=10_000_000, help="that come and go; 0 leaves that out")
    parser.add_argument("--connections", default="1,8,64,256")
    options = parser.parse_args()
    connections = [int(part) for part in options.connections.split(",")]
    bench = Bench(options.binary)
    figures = bench.rounds(options.rounds, options.seconds, connections)
    singles = bench.single_figures(options.seconds)
    if (oha := shutil.which("oha")) and 64 in connections:
        singles += bench.open_loop(oha, figures, options.seconds)
    if options.keys:
        singles += bench.come_and_go(options.keys)
    text = table(figures, connections) + "\n\n" + rows_of([("figure", "value"), ("---", "---:"), *singles])
    print(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.md").write_text(text + "\n")
    (results / "latest.svg").write_text(plot(figures, connections) + "\n")
    raw = {f"{name}/{count}": figure for (name, count), figure in figures.items()}
    (results / "latest.json").write_text(json.dumps(raw, indent=1) + "\n")


if __name__ == "__main__":
    main()
