#!/usr/bin/env python3
"""Measures checks by the Redis module beside the same checks by the script: what each costs Redis, above a PING.

Starts a redis-server for the script and one for each --module, and a service at each, whose calls it records and then
repeats. Redis has the last core, the client the others. Sides are measured in turn in each round; figures are medians of
the rounds. CPU is the scheduler's count of the Redis process, so it contains reading the call and writing the response;
the time of the command alone is Redis' own. Writes bench/results/module.md.
"""

import argparse
import os
import re
import socket
import statistics
import time

from report import rows_of
from servers import HERE, ROOT, Redis, Service, thread_seconds
from units import Client, Tap, checked

KEYS, LONE, SIZES = 100_000, 2_000, (64, 100)
POLICIES = {"bench": "one throttle", "both": "throttle and quota"}
# A key of a subject among the words of a call.
KEY = re.compile(rb"\$\d+\r\ntg:\S+\r\n")
# Calls that are sent at once; the next as many follow before their responses are read.
WINDOW = 10


class Side:
    """A Redis, with the calls that a node makes of it."""

    def __init__(self, binary, core, module=None):
        self.redis = Redis(*["--loadmodule", module] if module else [])
        self.client = Client(self.redis, core)
        self.mark = b"TG.JUDGE" if module else b"EVALSHA"
        tap = Tap(self.redis.port)
        service = Service(binary, "--store", f"redis://127.0.0.1:{tap.port}", "--workers", "1", "--check-deadline", "2s", RUST_LOG="error")
        self.calls = {(policy, size): self.recorded(tap, service.port, policy, size) for policy in POLICIES for size in (1, *SIZES)}
        service.process.terminate()

    def recorded(self, tap, port, policy, size):
        check = lambda key: f'{{"policy":"{policy}","key":"user:{key}"}}'
        if size == 1:
            return checked(tap, port, "/check", [check(key) for key in range(0, KEYS, KEYS // LONE)], self.mark)
        bodies = ['{"checks":[' + ",".join(check(key) for key in range(first, first + size)) + "]}" for first in range(0, KEYS - size + 1, size)]
        return checked(tap, port, "/check/batch", bodies, self.mark)

    def lone(self, calls, connections):
        """CPU of a call by which one check comes alone, and the time of its command, in us."""
        self.redis.reset()
        cpu = self.client.repeat(calls, connections, 10 * LONE)
        count, micros = self.redis.scripts()
        return cpu, micros / max(1, count)

    def pipelined(self, calls, each, seconds):
        """CPU and the time of the command in us for each check, and checks per second: one connection, full of calls."""
        chunks = [b"".join(calls[first:first + WINDOW]) for first in range(0, len(calls) - WINDOW + 1, WINDOW)]
        [connection] = self.client.open(1)
        connection.sendall(calls[0])
        expected = WINDOW * len(connection.recv(1 << 16))
        # Rows that have drained are gone since the last round.
        for chunk in chunks:
            connection.sendall(chunk)
            self.read(connection, expected)
        self.redis.reset()
        before, began, sent = thread_seconds(self.redis.process), time.monotonic(), 1
        connection.sendall(chunks[0])
        while time.monotonic() - began < seconds:
            connection.sendall(chunks[sent % len(chunks)])
            sent += 1
            self.read(connection, expected)
        self.read(connection, expected)
        passed, cpu = time.monotonic() - began, thread_seconds(self.redis.process) - before
        connection.close()
        checks, micros = sent * WINDOW * each, self.redis.scripts()[1]
        return cpu / checks * 1e6, micros / checks, checks / passed

    @staticmethod
    def read(connection, expected):
        data = connection.recv(expected)
        while len(data) < expected:
            data += connection.recv(expected - len(data))
        if not data.startswith((b"$", b":")):
            raise SystemExit(f"an unexpected response: {data[:200]}")

    def sample(self, seconds):
        """One round: each figure with its values in us, and checks per second."""
        ping = {count: self.client.repeat([b"PING\r\n"], count, 10 * LONE) for count in (1, 64)}
        sample = {"PING on one connection · on 64, CPU us": tuple(ping.values())}
        for policy, limits in POLICIES.items():
            for count in (1, 64):
                cpu, command = self.lone(self.calls[policy, 1], count)
                name = f"{limits}, a lone check on {count} connection{'s' * (count > 1)}"
                sample[f"{name}: CPU us above PING · command"] = cpu - ping[count], command
            for size in SIZES:
                cpu, command, rate = self.pipelined(self.calls[policy, size], size, seconds)
                sample[f"{limits}, {size} in a call: CPU us · command · thousand checks/s"] = cpu, command, rate / 1e3
        touch = [b"*101\r\n$5\r\nTOUCH\r\n" + b"".join(KEY.findall(call)) for call in self.calls["both", 100]]
        sample["TOUCH of 100 such keys: CPU us for each"] = self.pipelined(touch, 100, seconds)[:1]
        return sample


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--module", type=os.path.abspath, action="append", default=[],
                        help="the module, built with --release; several are compared with each other")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each load with calls in a pipeline")
    options = parser.parse_args()
    socket.setdefaulttimeout(20)
    cores = sorted(os.sched_getaffinity(0))
    sides = [Side(options.binary, cores[-1], module) for module in (None, *options.module)]
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])
    rounds = [[side.sample(options.seconds) for side in sides] for _ in range(options.rounds)]
    middle = lambda place, figure: " · ".join(
        f"{statistics.median(values):.{0 if max(values) > 50 else 2}f}" for values in zip(*(samples[place][figure] for samples in rounds)))
    heads = ["figure", "script", *(f"module {number}" if len(sides) > 2 else "module" for number in range(1, len(sides)))]
    lines = [(figure, *(middle(place, figure) for place in range(len(sides)))) for figure in rounds[0][0]]
    text = rows_of([heads, ("---", *["---:"] * len(sides)), *lines])
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/module.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
