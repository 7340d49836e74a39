#!/usr/bin/env python3
"""Compares the cost of a check on a Redis Cluster and on one server: script calls and Redis' microseconds.

Three primaries and a single server, each with a service in front, are measured in turn; figures are medians of
the rounds. The servers share the machine's cores, so the rates are not the capacity of a Cluster.
"""

import argparse
import statistics
import tempfile
import time

from servers import ROOT, Redis, Service, free_port, start, wait_for, wrk


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
    servers = [ClusterServer() for _ in range(size)]
    for number, server in enumerate(servers):
        server.cli("CLUSTER", "ADDSLOTSRANGE", str(16384 * number // size), str(16384 * (number + 1) // size - 1))
        server.cli("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for other in servers[:number]:
            server.cli("CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.bus))
    while not all("cluster_state:ok" in server.cli("CLUSTER", "INFO") for server in servers):
        time.sleep(0.05)
    return servers


def load(servers, service, connections, seconds):
    for server in servers:
        server.reset()
    figures = wrk(service.port, connections, seconds)
    scripts = [server.scripts() for server in servers]
    micros = sum(micros for _, micros in scripts) / figures["requests"]
    calls = sum(calls for calls, _ in scripts) / figures["requests"]
    return {"micros": micros, "calls": calls, "rate": figures["rate"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    one, many = [Redis()], cluster(3)
    to_one = Service(options.binary, "--store", f"redis://127.0.0.1:{one[0].port}")
    seeds = ",".join(f"127.0.0.1:{server.port}" for server in many[:2])
    to_many = Service(options.binary, "--store", f"redis+cluster://{seeds}")
    for connections in (64, 256):
        rounds = [(load(one, to_one, connections, options.seconds), load(many, to_many, connections, options.seconds))
                  for _ in range(options.rounds)]
        middle = lambda place, key: statistics.median(each[place][key] for each in rounds)
        ratio = lambda key: statistics.median(many[key] / one[key] for one, many in rounds)
        print(f"{connections} connections: Redis us per check {middle(0, 'micros'):.2f} on one, "
              f"{middle(1, 'micros'):.2f} on three (x {ratio('micros'):.2f}); script calls per check "
              f"{middle(0, 'calls'):.2f} and {middle(1, 'calls'):.2f}; checks/s x {ratio('rate'):.2f}")


if __name__ == "__main__":
    main()
