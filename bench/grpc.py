#!/usr/bin/env python3
"""Measures Envoy's rate limit service over gRPC, and other services if they are installed.

h2load sends the requests of an Envoy: 8 connections with 16 concurrent requests each, one descriptor of one key.
h2load sees no status of gRPC, so each service has to have counted as many decisions as there were responses. Every
variant runs in each round, in a rotated order; figures are medians, ratios those of the rounds. CPU is that of the
processes: the service's and its Redis'. The latency is
measured at half of each service's top rate, over 20 connections that start a millisecond apart, since h2load sends
on each of them every 10 ms and these bursts should not coincide. The share of the client and of the machine is
measured in between: the latency of nghttpd (Debian's nghttp2-server, which serves a file) at half of the rate with
Redis, and the pauses of idle cores.

With ghz the checks are of 100,000 keys, in a closed loop and at ordinary rates. It is a client in Go that uses more CPU
than the service, so its closed loop's rates are its own; the CPU of the processes is not. bench/peers.md says how the
other services and ghz are built.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from report import median, rows_of
from servers import HERE, ROOT, Decisions, Redis, cpu_seconds, free_port, metrics, start, wait_for

CONNECTIONS, STREAMS = 8, 16
LIMIT = "domain: bench\ndescriptors:\n  - key: user\n    rate_limit: { unit: hour, requests_per_unit: 4000000000 }\n"


def field(number, payload):
    return bytes([number << 3 | 2, len(payload)]) + payload


def request():
    """A RateLimitRequest of the domain `bench` and the descriptor user=hot, framed as gRPC frames it."""
    entry = field(1, b"user") + field(2, b"hot")
    message = field(1, b"bench") + field(2, field(1, entry))
    return b"\0" + struct.pack(">I", len(message)) + message


class Variant:
    """A service. `counted` returns the decisions that it has made by its own count."""

    def __init__(self, port, process, redis=None, counted=None):
        self.port, self.process, self.redis, self.counted = port, process, redis, counted

    def cpu(self):
        return cpu_seconds(self.process), cpu_seconds(self.redis.process) if self.redis else 0.0

    def url(self):
        return f"http://127.0.0.1:{self.port}/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"


def tollgate(binary, folder, redis=None):
    port, http = free_port(), free_port()
    store = ["--store", f"redis://127.0.0.1:{redis.port}"] if redis else []
    process = start([binary, "serve", "--listen", f"127.0.0.1:{http}", "--listen-grpc", f"127.0.0.1:{port}",
                     "--envoy-config", folder, *store],
                    env={**os.environ, "RUST_LOG": "warn"})
    wait_for(port)
    return Variant(port, process, redis, lambda: Decisions(http).verified())


def ratelimit(binary, folder, redis):
    port, http, debug = free_port(), free_port(), free_port()
    config = pathlib.Path(folder, "ratelimit", "config")
    config.mkdir(parents=True)
    (config / "bench.yaml").write_text(LIMIT)
    process = start([binary], stderr=subprocess.DEVNULL, env={
        **os.environ, "RUNTIME_ROOT": folder, "RUNTIME_SUBDIRECTORY": "ratelimit", "LOG_LEVEL": "error",
        "RUNTIME_WATCH_ROOT": "false", "USE_STATSD": "false", "BACKEND_TYPE": "redis", "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": f"127.0.0.1:{redis.port}", "HOST": "127.0.0.1", "GRPC_HOST": "127.0.0.1",
        "DEBUG_HOST": "127.0.0.1", "PORT": str(http), "GRPC_PORT": str(port), "DEBUG_PORT": str(debug)})
    wait_for(port)
    return Variant(port, process, redis, lambda: redis.calls("incrby"))


def limitador(binary, folder, redis=None):
    port, http = free_port(), free_port()
    limits = pathlib.Path(folder, "limitador.yaml")
    limits.write_text("- namespace: bench\n  max_value: 4000000000\n  seconds: 3600\n"
                      "  conditions: []\n  variables: ['descriptors[0].user']\n")
    store = ["redis", f"redis://127.0.0.1:{redis.port}"] if redis else ["memory"]
    process = start([binary, "--rls-ip", "127.0.0.1", "--rls-port", str(port), "--http-ip", "127.0.0.1",
                     "--http-port", str(http), str(limits), *store], stderr=subprocess.DEVNULL)
    wait_for(port)
    return Variant(port, process, redis, lambda: sum(value for name, _, value in metrics(http) if name == "authorized_calls"))


def static(binary, folder):
    """A server in C that decides nothing, with one thread per core like the service."""
    port, file = free_port(), pathlib.Path(folder, "envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit")
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(40))
    process = start([binary, "--no-tls", "-a", "127.0.0.1", "-n", str(os.cpu_count()), "-d", folder, str(port)], stderr=subprocess.DEVNULL)
    wait_for(port)
    return Variant(port, process)


def h2load(variant, seconds, body):
    """Requests per second, and CPU microseconds of the service and of Redis for each."""
    before, counted = variant.cpu(), variant.counted()
    out = subprocess.check_output(
        ["h2load", "-c", str(CONNECTIONS), "-m", str(STREAMS), "-t", "1", "-d", body, "-D", str(seconds),
         "-H", "content-type: application/grpc", "-H", "te: trailers", variant.url()], text=True)
    after = variant.cpu()
    line = next(line for line in out.splitlines() if line.startswith("status codes:"))
    done, failed = (int(line.split()[place]) for place in (2, 6))
    counted = variant.counted() - counted
    if failed or not done or counted < done:
        sys.exit(f"{counted:.0f} decisions for {done} responses: this load measures nothing\n{out}")
    per = [(b - a) / done * 1e6 for a, b in zip(before, after)]
    return {"rate": done / seconds, "service_us": per[0], "redis_us": per[1]}


def by_ghz(ghz, variant, seconds, rate=None):
    """Requests per second on 100,000 keys, in a closed loop or at a rate: p50 and p99 in ms, CPU microseconds of the service and of Redis."""
    call = ["--rps", str(rate)] if rate else []
    descriptor = '{"entries":[{"key":"user","value":"{{randomInt 0 100000}}"}]}'
    before, counted = variant.cpu(), variant.counted()
    report = json.loads(subprocess.check_output(
        [ghz, "--insecure", "--proto", str(ROOT / "proto/ratelimit.proto"), "--format", "json", "-z", f"{seconds}s", *call,
         "--call", "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", "--connections", str(CONNECTIONS),
         "-c", str(CONNECTIONS * STREAMS), "-d", f'{{"domain":"bench","descriptors":[{descriptor}]}}',
         f"127.0.0.1:{variant.port}"], text=True))
    after = variant.cpu()
    done = report["statusCodeDistribution"].get("OK", 0)
    # ghz ends by cutting off the requests on their way.
    if report["count"] - done > CONNECTIONS * STREAMS or variant.counted() - counted < done:
        sys.exit(f"ghz had {report['statusCodeDistribution']}: this load measures nothing")
    at = {entry["percentage"]: entry["latency"] / 1e6 for entry in report["latencyDistribution"]}
    service, redis = ((b - a) / done * 1e6 for a, b in zip(before, after))
    return {"rate": report["rps"], "p50": at[50], "p99": at[99], "service_us": service, "redis_us": redis}


def half(variant, seconds, body, rate):
    """Percentiles in milliseconds at half of the rate."""
    connections, rate = 20, rate / 2
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        subprocess.check_output(
            ["h2load", "-c", str(connections), "-m", "100", "-t", "1", "-r", "1", "--rate-period", "1ms", "-d", body,
             "-n", str(int(2 * seconds * rate)), f"--rps={rate / connections:.0f}", f"--log-file={log}",
             "-H", "content-type: application/grpc", "-H", "te: trailers", variant.url()])
        micros = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    return {name: micros[int(len(micros) * part)] / 1e3 for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}


def missed(core, seconds, pauses):
    """Reports the pauses, in ns, of a thread that does nothing else on that core."""
    os.sched_setaffinity(0, {core})
    gaps, last = [], time.monotonic_ns()
    end = last + int(seconds * 1e9)
    while last < end:
        now = time.monotonic_ns()
        if now - last > 50_000:
            gaps.append(now - last)
        last = now
    pauses.put(gaps)


def machine(seconds):
    """The p99.9 in ms that the machine's pauses cause at half of a top rate, on the core with the most pauses.

    A pause of g holds up what comes within it, and a queue that is served at twice the rate at which it
    grows needs as long again to drain: what comes within 2 g waits, a share of 1 - d / g of it longer than d.
    """
    pauses, cores = multiprocessing.Queue(), sorted(os.sched_getaffinity(0))
    for core in cores:
        multiprocessing.Process(target=missed, args=(core, seconds, pauses)).start()

    def last_thousandth(gaps):
        waits = (step / 100 for step in range(100_000))
        return next(d for d in waits if sum(2 * (gap - d * 1e6) for gap in gaps if gap > d * 1e6) < seconds * 1e6)

    return max(last_thousandth(pauses.get()) for _ in cores)


def rotated(names, round_):
    """The names in the order of a round: each begins with another one, so that none always follows the same."""
    return names[round_ % len(names):] + names[:round_ % len(names)]


def many_keys(ghz, variants, options):
    """The table of checks of 100,000 keys: in a closed loop, and at ordinary rates."""
    lines = [("gRPC, 100,000 keys", "requests/s", "p50 · p99 ms", "service CPU us", "Redis CPU us"), ("---",) + ("---:",) * 4]
    for rate in (1_000, 4_000, 8_000, 16_000, None):
        samples = {name: [] for name in variants}
        for round_ in range(options.rounds):
            for name in rotated(list(variants), round_):
                samples[name].append(by_ghz(ghz, variants[name], options.seconds, rate))
        for name, of in samples.items():
            figures = median(of)
            lines.append((f"{name}, {f'at {rate:,}/s' if rate else 'closed loop'}", f"{figures['rate']:,.0f}",
                          f"{figures['p50']:.2f} · {figures['p99']:.2f}", f"{figures['service_us']:.1f}", f"{figures['redis_us']:.1f}"))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--ratelimit", default=shutil.which("ratelimit"), help="envoyproxy/ratelimit's service_cmd")
    parser.add_argument("--limitador", default=shutil.which("limitador-server"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="per load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limits, body = pathlib.Path(folder, "limits"), pathlib.Path(folder, "request")
        limits.mkdir()
        (limits / "bench.yaml").write_text(LIMIT)
        body.write_bytes(request())
        variants = {"memory": tollgate(options.binary, str(limits)),
                    "Redis, exact": tollgate(options.binary, str(limits), Redis())}
        if options.ratelimit:
            variants["envoyproxy/ratelimit, Redis"] = ratelimit(options.ratelimit, str(pathlib.Path(folder, "peer")), Redis())
        if options.limitador:
            variants["Limitador, memory"] = limitador(options.limitador, folder)
            variants["Limitador, Redis"] = limitador(options.limitador, folder, Redis())
        ghz, samples = shutil.which("ghz"), {name: [] for name in variants}
        names = list(variants)
        for round_ in range(options.rounds):
            print(f"round {round_ + 1} of {options.rounds}", file=sys.stderr)
            for name in rotated(names, round_):
                samples[name].append(h2load(variants[name], options.seconds, str(body)))
        lines = [("gRPC, 8 connections x 16, one key", "requests/s", "of the first's", "service CPU us", "Redis CPU us",
                  "p50 · p99 · p99.9 ms at half of that"), ("---", "---:", "---:", "---:", "---:", "---:")]
        tops = {name: median(of) for name, of in samples.items()}
        latencies, pauses, controls = {name: [] for name in variants}, [], []
        control = static(nghttpd, str(pathlib.Path(folder, "static"))) if (nghttpd := shutil.which("nghttpd")) else None
        for _ in range(options.rounds):
            pauses.append(machine(options.seconds))
            if control:
                controls.append(half(control, options.seconds, str(body), tops["Redis, exact"]["rate"]))
            for name in rotated(names, len(pauses)):
                latencies[name].append(half(variants[name], options.seconds, str(body), tops[name]["rate"]))
        for name in names:
            top, latency = tops[name], median(latencies[name])
            ratio = statistics.median(sample["rate"] / first["rate"] for sample, first in zip(samples[name], samples[names[0]]))
            lines.append((name, f"{top['rate']:,.0f}", f"{ratio:.2f}", f"{top['service_us']:.1f}", f"{top['redis_us']:.1f}",
                          " · ".join(f"{value:.2f}" for value in latency.values())))
        if controls:
            latency = " · ".join(f"{value:.2f}" for value in median(controls).values())
            lines.append(("nghttpd, a static response, at half of the rate with Redis", "", "", "", "", latency))
        lines.append(("the machine's own pauses, idle", "", "", "", "", f"{statistics.median(pauses):.2f}"))
        text = rows_of(lines)
        if ghz:
            text += "\n\n" + rows_of(many_keys(ghz, variants, options))
    print(text)
    (HERE / "results" / "grpc.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
