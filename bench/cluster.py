#!/usr/bin/env python3
"""Measures the cost of a check by the number of primaries, from one server to a Cluster of twelve, and by its limits.

On a machine of few cores, more primaries cannot raise the rate. So the figures are CPU times: those of all Redis processes
together and of the service, for each check. What a primary with a core of its own carries is the inverse of its share.
Primaries are pinned to the last core, the service and the load to the others. Places are loaded in turn in each
round, and figures are medians of the rounds; ratios are taken within a round.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

from servers import HERE, ROOT, Decisions, Redis, Service, free_port, start, thread_seconds, wait_for, wrk

KEYS = 5_000
# Two limits of two subjects: a key's plan, and a policy that the catalog gives the key. On a Cluster they lie in different
# slots, so the policy is charged ahead by a call of its own.
CATALOG = """
version: 1
plans: [ { id: plan, on_store_failure: closed, throttle: { rate: 20/s, burst: 1000000 } } ]
policies:
  - { name: one, on_store_failure: closed, throttle: { rate: 20/s, burst: 1000000 } }
  - { name: both, on_store_failure: closed, throttle: { rate: 20/s, burst: 1000000 }, quota: { limit: 1000000000, period: day } }
keys:
"""
BODIES = {
    "one throttle": '{"policy":"one","key":"user:%d"}',
    "throttle and quota": '{"policy":"both","key":"user:%d"}',
    "two subjects": '{"api_key":"key-%d"}',
}


class ClusterServer(Redis):
    """A primary of a Cluster, without persistence."""

    def __init__(self):
        self.port, self.bus = free_port(), free_port()
        self.dir = tempfile.TemporaryDirectory()
        self.process = start(
            ["redis-server", "--port", str(self.port), "--save", "", "--dir", self.dir.name,
             "--loglevel", "warning", "--cluster-enabled", "yes", "--cluster-port", str(self.bus)])
        wait_for(self.port)


def cluster(size):
    members = [ClusterServer() for _ in range(size)]
    for number, server in enumerate(members):
        server.cli("CLUSTER", "ADDSLOTSRANGE", str(16384 * number // size), str(16384 * (number + 1) // size - 1))
        server.cli("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for other in members[:number]:
            server.cli("CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.bus))
    while not all("cluster_state:ok" in server.cli("CLUSTER", "INFO") for server in members):
        time.sleep(0.05)
    return members


def address(members):
    if len(members) == 1:
        return f"redis://127.0.0.1:{members[0].port}"
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in members[:2])


class Place:
    """Some primaries, and a service in front of them."""

    def __init__(self, binary, size, catalog, workers):
        cores = sorted(os.sched_getaffinity(0))
        self.members = [Redis()] if size == 1 else cluster(size)
        for server in self.members:
            os.sched_setaffinity(server.process.pid, cores[-1:])
        flags = ["--store", address(self.members), "--workers", str(workers), "--check-deadline", "1s"]
        self.service = Service(binary, *flags, catalog=catalog or HERE / "catalog.yaml", RUST_LOG="error")
        self.idle = self.background()

    def background(self, seconds=4):
        """CPU in ms per second of the service, and of a primary, without any check."""
        before = self.cpu()
        time.sleep(seconds)
        service, redis = (after - before for after, before in zip(self.cpu(), before))
        return service / seconds * 1e3, redis / seconds / len(self.members) * 1e3

    def cpu(self):
        return (thread_seconds(self.service.process), sum(thread_seconds(server.process) for server in self.members))

    def load(self, connections, seconds, body):
        decisions, before = Decisions(self.service.port), self.cpu()
        for server in self.members:
            server.reset()
        figures = wrk(self.service.port, connections, seconds, BENCH_BODY=body, BENCH_KEYS=KEYS)
        service, redis = (after - before for after, before in zip(self.cpu(), before))
        judged, failed = decisions.count()
        # The responses that wrk no longer waits for at its end may be errors.
        if judged - decisions.judged < figures["requests"] or failed - decisions.failed > connections:
            sys.exit(f"{failed - decisions.failed:.0f} of {figures['requests']} checks were not judged: this load measures nothing")
        scripts = [server.scripts() for server in self.members]
        checks = figures["requests"]
        return {"redis": redis / checks * 1e6, "service": service / checks * 1e6, "rate": figures["rate"],
                "script": sum(micros for _, micros in scripts) / checks,
                "calls": sum(calls for calls, _ in scripts) / checks}

    def warm(self, body):
        """Until each key has begun: a node takes only so many new keys of a policy in a second."""
        for _ in range(30):
            decisions = Decisions(self.service.port)
            wrk(self.service.port, 64, 1, BENCH_BODY=body, BENCH_KEYS=KEYS, BENCH_REFUSED=1)
            judged, _failed = decisions.count()
            if judged > KEYS:
                return

    def connections(self):
        """Connections to a primary, in the mean, but those of the Cluster itself and of this program."""
        lists = [server.cli("CLIENT", "LIST", "TYPE", "NORMAL").splitlines() for server in self.members]
        return sum(len(lines) - 1 for lines in lists) / len(self.members)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--primaries", default="1,3,6,12", help="the first one is what the others are compared with")
    parser.add_argument("--connections", default="64,256")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    catalog = tempfile.NamedTemporaryFile("w", suffix=".yaml")
    catalog.write(CATALOG + "".join(f"  - {{ id: k{n}, value: key-{n}, plans: [plan], policies: {{ one: team{n} }} }}\n" for n in range(KEYS + 1)))
    catalog.flush()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        # Inherited by all that is started from here; the primaries are moved afterwards.
        os.sched_setaffinity(0, cores[:-1])
    sizes = [int(part) for part in options.primaries.split(",")]
    places = {size: Place(options.binary, size, catalog.name, options.workers) for size in sizes}
    samples = {}
    for place in places.values():
        for body in BODIES.values():
            place.warm(body)
    for round_ in range(options.rounds):
        for connections in map(int, options.connections.split(",")):
            for limits, body in BODIES.items():
                for size in sizes[round_ % len(sizes):] + sizes[:round_ % len(sizes)]:
                    sample = places[size].load(connections, options.seconds, body)
                    samples.setdefault((connections, limits, size), []).append(sample)
    for size, place in places.items():
        print(f"{size} primaries, idle: service {place.idle[0]:.1f} ms/s, each primary {place.idle[1]:.2f} ms/s, "
              f"{place.connections():.1f} connections to each")
    print("| connections | limits | primaries | Redis us | of that, scripts | x | script calls | service us | x | checks/s here | checks/s of these primaries |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (connections, limits, size), rounds in samples.items():
        middle = lambda figure: statistics.median(each[figure] for each in rounds)
        first = samples[(connections, limits, sizes[0])]
        ratio = lambda figure: statistics.median(each[figure] / one[figure] for each, one in zip(rounds, first))
        print(f"| {connections} | {limits} | {size} | {middle('redis'):.1f} | {middle('script'):.1f} | {ratio('redis'):.2f} | {middle('calls'):.2f} | "
              f"{middle('service'):.1f} | {ratio('service'):.2f} | {middle('rate'):,.0f} | {size * 1e6 / middle('redis'):,.0f} |")


if __name__ == "__main__":
    main()
