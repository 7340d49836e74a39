#!/usr/bin/env python3
"""Measures checks against a Redis that is a round trip away: rate in a closed loop, latency in an open one.

Redis is started with `late_replies.c`, a library by which each of its replies leaves later: no other process stands
between it and the service, which on two cores would take as much of them as both. It is no network: it loses nothing
and has no limit of bandwidth. The load is `load.c`. What a round trip really takes there is that of a PING, sent by
this program 100 times a second over a connection of its own while a load runs: it waits for Redis and for a core as a
call does. What HTTP and the load itself take at the same rate is the latency of the no-op of the same server. In a
closed loop, connections / round trip is an upper bound of the rate, so the last number of connections has to be large.
Latencies are measured at half of the rate without a delay, in an open loop over 2,000 connections. Redis' us (those of
late replies included) and script calls are those of the open loop. Everything shares this machine's cores.
"""

import argparse
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from servers import HERE, ROOT, Decisions, Redis, Service, cpu_seconds

BODY = '{"policy":"bench","key":"user:%d"}'
OPEN_CONNECTIONS = 2000
LONE_RATE = 200
PING_INTERVAL = 0.01


def compiled(name, *flags):
    """A C program or library of this directory, compiled into a temporary one."""
    target = pathlib.Path(BUILD.name) / name
    subprocess.check_call(["cc", "-O2", "-o", target, HERE / f"{name}.c", *flags])
    return str(target)


BUILD = tempfile.TemporaryDirectory()


class Pings:
    """Round trips of PING while a load runs, in ms."""

    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.times, self.ended = [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ended.wait(PING_INTERVAL):
            began = time.perf_counter()
            self.connection.sendall(b"PING\r\n")
            if not self.connection.recv(64):
                return
            self.times.append((time.perf_counter() - began) * 1e3)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.connection.close()


class Place:
    """A Redis whose replies are late, and a service."""

    def __init__(self, late, binary, round_trip_ms, workers):
        self.redis = Redis(LD_PRELOAD=late, LATE_US=str(round(round_trip_ms * 1000)))
        flags = ["--store", f"redis://127.0.0.1:{self.redis.port}", "--workers", str(workers)]
        # The default deadline, or more where it is shorter than the round trip.
        self.service = Service(binary, *flags)
        time.sleep(0.5)

    def no_op(self, load, connections, rate, seconds):
        """The latency of a POST that decides nothing."""
        out = subprocess.check_output(
            [load, str(self.service.port), "/noop", str(connections), str(rate), str(seconds), "1", BODY], text=True)
        _rate, p50, p99, p999, bad, _open = map(float, out.split())
        return {"p50": p50 / 1e3, "p99": p99 / 1e3, "p999": p999 / 1e3, "failed": bad}

    def load(self, load, connections, rate, seconds, keys):
        decisions = Decisions(self.service.port)
        self.redis.reset()
        cpu = cpu_seconds(self.service.process), cpu_seconds(self.redis.process)
        with Pings(self.redis.port) as pings:
            out = subprocess.check_output(
                [load, str(self.service.port), "/check", str(connections), str(rate), str(seconds), str(keys), BODY], text=True)
        cpu = [cpu_seconds(process) - before
               for process, before in zip((self.service.process, self.redis.process), cpu)]
        made, p50, p99, p999, bad, _open = map(float, out.split())
        judged, failed = decisions.count()
        checks = judged - decisions.judged
        calls, _micros = self.redis.scripts()
        return {"ping": statistics.median(pings.times), "rate": made, "p50": p50 / 1e3, "p99": p99 / 1e3, "p999": p999 / 1e3,
                "failed": bad + failed - decisions.failed, "per_call": checks / max(calls, 1),
                "service_us": cpu[0] / checks * 1e6, "redis_us": cpu[1] / checks * 1e6}

    def stop(self):
        for process in (self.service.process, self.redis.process):
            process.terminate()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", action="append", help="may be given twice, to compare two versions in turn")
    parser.add_argument("--round-trips", default="0,0.2,1,5,20", help="in ms; the first one is what the others are compared with")
    parser.add_argument("--connections", default="8,64,256,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=int, help="of the open loop, instead of half of the top rate")
    options = parser.parse_args()
    late, load = compiled("late_replies", "-shared", "-fPIC", "-ldl"), compiled("load", "-lm")
    binaries = options.binary or [str(ROOT / "target/release/tollgate")]
    trips = [float(part) for part in options.round_trips.split(",")]
    counts = [int(part) for part in options.connections.split(",") if part]
    samples, half = {}, options.rate

    def sample(place, key, connections, rate):
        samples.setdefault(key, []).append(place.load(load, connections, rate, options.seconds, options.keys))

    def at_half(place, key):
        sample(place, (*key, "open"), OPEN_CONNECTIONS, half)
        sample(place, (*key, "lone"), 64, LONE_RATE)
        samples.setdefault((*key, "no-op"), []).append(place.no_op(load, OPEN_CONNECTIONS, half, options.seconds))

    for trip in trips:
        places = [(binary, Place(late, binary, trip, options.workers)) for binary in binaries]
        for _, place in places:
            # A node takes only so many new keys of a policy in a second.
            place.load(load, 64, 8000, 1 + options.keys / 2500, options.keys)
        for round_ in range(options.rounds):
            first = round_ % len(places)
            for binary, place in places[first:] + places[:first]:
                for count in counts:
                    sample(place, (trip, binary, count), count, 0)
                if half:
                    at_half(place, (trip, binary))
        if not half:
            half = int(max(statistics.median(each["rate"] for each in samples[(trip, binary, count)])
                           for binary in binaries for count in counts if count >= 64) / 2)
            for _ in range(options.rounds):
                for binary, place in places:
                    at_half(place, (trip, binary))
        for _, place in places:
            place.stop()
    print(f"open loop: {half}/s")
    for trip in trips:
        for binary in binaries:
            middle = lambda name, figure: statistics.median(each[figure] for each in samples[(trip, binary, name)])
            latencies = lambda name: f"p50 {middle(name, 'p50'):.2f} p99 {middle(name, 'p99'):.2f} p99.9 {middle(name, 'p999'):.2f} ms"
            rates = " · ".join(f"{middle(count, 'rate'):,.0f}" for count in counts)
            failed = sum(each["failed"] for key, of in samples.items() if key[:2] == (trip, binary) for each in of)
            print(f"{trip} ms, {pathlib.Path(binary).name}: checks/s with {' · '.join(map(str, counts))} connections {rates}; "
                  f"at {middle('open', 'rate'):,.0f}/s PING {middle('open', 'ping'):.2f} {latencies('open')}, no-op {latencies('no-op')}; "
                  f"alone PING {middle('lone', 'ping'):.2f} {latencies('lone')}; "
                  f"{middle('open', 'per_call'):.1f} checks a call, CPU us a check: service {middle('open', 'service_us'):.1f}, Redis {middle('open', 'redis_us'):.1f}; "
                  f"failed {failed:.0f}")


if __name__ == "__main__":
    main()
