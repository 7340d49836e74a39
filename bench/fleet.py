#!/usr/bin/env python3
"""A simulation of many nodes on a Redis Cluster of many primaries, from unit costs that `units.py` has measured.

One primary is simulated exactly: all its connections, checks at random times (seeded), one call in flight on each, and a
Redis that reads all ready connections in turn. All primaries have the same load, so it stands for each of them. What
happens seldom (polls, renewals, restarts, the loss of a primary) is arithmetic with the same costs. Costs are those of the
machine on which units.json was written; the network has no limit but the bandwidth that is named. Nothing is measured here.
"""

import argparse
import heapq
import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
# What this simulation takes from the sources: intervals in seconds, and numbers of a node.
SLOTS_INTERVAL, MEMORY_INTERVAL, POLL_INTERVAL, HEARTBEAT_INTERVAL = 1.55, 1, 0.2, 1
POOLED, MOST_POOLED, CACHED_KEYS, MAX_CLIENTS = 1, 8, 100_000, 10_000
# Renewals of leases for each node with a hot key in a second: of a key within its limit every 100 ms at least (half of a
# lease of 200 ms), of a key far over its limit one for each pause of 250 ms.
RENEWALS_WITHIN, RENEWALS_OVER = 10, 4
# A primary is full when one check in a hundred waits for this many us longer than its round trip.
LATE, BUSY = 1_000, 0.8
# A limit is leased if the share of each node in what it allows within a lease (s) is this many units.
LEASE_UNITS, LEASE_LIFETIME = 16, 0.2


class Costs:
    """The costs of one primary in us, by the parts of a call."""

    def __init__(self, units, limits, clients):
        costs = units["us of Redis"]
        self.all, self.per_node, self.start_trips = costs, units["per second and node"], units["round trips"]["start, each primary"]
        pipelines = {int(name.rsplit(" ", 1)[1]): cost for name, cost in costs.items() if ", pipelines of " in name}
        longest = max(pipelines)
        # Of the measured numbers of connections, the nearer one.
        many = f"{64 if clients < 250 else 800} connections"
        extra = costs[f"{limits}, {many}"] - costs[f"one throttle, {many}"]
        # In a long pipeline, reading and writing of the connection is shared by many calls.
        self.call = pipelines[longest] + max(extra, 0)
        self.connection = max(costs[f"one throttle, {many}"] - pipelines[longest], 0)
        # Redis slept before: the machine wakes it.
        self.wake = max(costs["one throttle, 1 connections"] - costs["one throttle, 64 connections"], 0)

    def slots(self, primaries):
        """CLUSTER SLOTS, between the sizes that were measured."""
        known = sorted((int(name.rsplit(" ", 1)[1]), cost) for name, cost in self.all.items() if name.startswith("CLUSTER SLOTS"))
        for (low, cheap), (high, dear) in zip(known, known[1:]):
            if primaries <= high or high == known[-1][0]:
                return cheap + (dear - cheap) * (primaries - low) / (high - low)
        return known[-1][1]


def primary(costs, connections, rate, round_trip, checks, background, seed):
    """One primary under `rate` checks/s: its core's use, checks in a pipeline, and latencies beyond the round trip, in us."""
    draw = random.Random(seed)
    waiting, in_flight = {}, set()
    events, number = [], 0

    def push(at, kind, what):
        nonlocal number
        number += 1
        heapq.heappush(events, (at, number, kind, what))

    ready, free_at, busy, calls, latencies = [], 0.0, 0.0, 0, []
    is_running, half = False, round_trip / 2
    mean = 1e6 / rate
    push(draw.expovariate(1) * mean, "check", None)
    arrived = 0
    while events:
        now, _, kind, what = heapq.heappop(events)
        if kind == "check":
            arrived += 1
            if arrived < checks:
                push(now + draw.expovariate(1) * mean, "check", None)
            connection = draw.randrange(connections)
            waiting.setdefault(connection, []).append(now)
            if connection in in_flight:
                continue
            in_flight.add(connection)
            push(now + half, "call", (connection, waiting.pop(connection)))
        elif kind == "call":
            ready.append(what)
            if not is_running:
                is_running = True
                push(now, "loop", costs.wake)
        elif kind == "loop":
            # What is ready is run in turn, and the responses leave together. What arrives meanwhile is run next.
            if not ready:
                is_running = False
                continue
            turn, ready = ready, []
            took = what + sum(costs.connection + costs.call * len(batch) for _, batch in turn)
            took *= 1 + background
            busy, calls = busy + took, calls + len(turn)
            push(now + took, "loop", 0)
            for connection, batch in turn:
                push(now + took + half, "reply", (connection, batch))
        else:
            connection, batch = what
            latencies += [now - at - round_trip for at in batch]
            in_flight.discard(connection)
            if connection in waiting:
                in_flight.add(connection)
                push(now + half, "call", (connection, waiting.pop(connection)))
            free_at = now
    latencies.sort()
    return {"use": busy / free_at, "batch": len(latencies) / calls, "p50": latencies[len(latencies) // 2],
            "p99": latencies[len(latencies) * 99 // 100], "cost": busy / len(latencies)}


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(title, *columns):
    print(f"\n{title}\n")
    row(*columns)
    row(*("---" if number == 0 else "---:" for number in range(len(columns))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", default=str(HERE / "results/units.json"))
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--primaries", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8, help="of each node")
    parser.add_argument("--limits", default="one throttle", choices=("one throttle", "throttle and quota"))
    parser.add_argument("--round-trip", type=float, default=0.3, help="between a node and a primary, in ms")
    parser.add_argument("--service-us", type=float, default=24, help="CPU of a node for a check: bench/cluster.py measures it")
    parser.add_argument("--active-keys", type=int, default=CACHED_KEYS, help="API keys of the registry that each node sees")
    parser.add_argument("--document-mib", type=float, default=1, help="size of the registry's document of APIs and plans")
    parser.add_argument("--gigabits", type=float, default=10, help="network of a primary")
    parser.add_argument("--checks", type=int, default=20_000, help="simulated for each load")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    path = pathlib.Path(options.units)
    if not path.exists():
        sys.exit(f"{path} is missing: bench/units.py writes it")
    units = json.loads(path.read_text())
    nodes, primaries, clients = options.nodes, options.primaries, options.nodes * options.workers
    costs = Costs(units, options.limits, clients)
    us = costs.all
    share = lambda per_second, cost: per_second * cost / 1e6

    slots, memory = share(nodes / SLOTS_INTERVAL, costs.slots(primaries)), share(nodes / MEMORY_INTERVAL, us["memory"])
    polls, beats = share(nodes / POLL_INTERVAL, us["registry poll"]), share(nodes / HEARTBEAT_INTERVAL, us["heartbeat"])
    print(f"{nodes} nodes of {options.workers} workers, {primaries} primaries, {options.limits}, a round trip of {options.round_trip} ms, "
          f"seed {options.seed}")
    head("Without a check, of the core of each primary", "", "a second", "us", "% of a core")
    row("connections", f"{nodes * (options.workers + POOLED):,} to {nodes * (options.workers + MOST_POOLED):,}", "", "")
    row("CLUSTER SLOTS", f"{nodes / SLOTS_INTERVAL:.0f}", f"{costs.slots(primaries):.0f}", f"{slots * 100:.2f}")
    row("INFO memory (ten times as often from 60 % of maxmemory on)", f"{nodes / MEMORY_INTERVAL:.0f}", f"{us['memory']:.0f}", f"{memory * 100:.2f}")
    row("polls of the registry, on one primary", f"{nodes / POLL_INTERVAL:.0f}", f"{us['registry poll']:.0f}", f"{polls * 100:.2f}")
    row("heartbeats, on one primary", f"{nodes / HEARTBEAT_INTERVAL:.0f}", f"{us['heartbeat']:.0f}", f"{beats * 100:.2f}")

    background, capacity = slots + memory, 0
    head("A primary by its load", "checks/s of all", "of one primary", "checks in a pipeline", "us a check", "% of its core",
         "p50 ms beyond the round trip", "p99")
    for load in (1_000, 5_000, 10_000, 20_000, 40_000, 45_000, 50_000, 55_000, 60_000, 65_000, 70_000, 75_000, 80_000, 90_000, 100_000, 120_000, 140_000):
        figures = primary(costs, clients, load, options.round_trip * 1e3, options.checks, background, options.seed)
        row(f"{load * primaries:,}", f"{load:,}", f"{figures['batch']:.2f}", f"{figures['cost']:.1f}", f"{figures['use'] * 100:.0f}",
            f"{figures['p50'] / 1e3:.2f}", f"{figures['p99'] / 1e3:.2f}")
        if figures["p99"] > LATE:
            break
        capacity = load
    if not capacity:
        sys.exit("a primary is full at the smallest load")

    alone = us[f"{options.limits}, 800 connections"]
    within, over = share(nodes * RENEWALS_WITHIN, alone), share(nodes * RENEWALS_OVER, alone)
    lookups = nodes * options.active_keys * 2 * us["key lookup, HGET"] / 1e6
    document = us["document of 1 MiB"] * options.document_mib
    to_send = nodes * options.document_mib * 8 * 1.048576 / 1e3 / options.gigabits
    lost = costs.per_node["one of six primaries lost"]["cluster|slots"]
    head("Seldom", "", "of", "seconds of its core")
    row("all nodes start at once: connections, each with its probe", "each primary", f"{nodes * (options.workers + POOLED) * us['connection'] / 1e6:.2f}")
    row("the same on a Redis that has restarted: the script's source on each connection of a worker, compiled once", "each primary",
        f"{(us['cold script'] + clients * us.get('script source again', 0)) / 1e6:.2f}")
    row(f"their documents of {options.document_mib:g} MiB", "the registry's primary", f"{max(nodes * document / 1e6, to_send):.2f}")
    row(f"their empty caches: {options.active_keys:,} keys each, two HGETs a key", "the registry's primary", f"{lookups:.1f}")
    row("an edit of the document: all nodes fetch it within 0.2 s", "the registry's primary", f"{max(nodes * document / 1e6, to_send):.2f}")
    row("all nodes ask for the slots at the same moment", "each primary", f"{nodes * costs.slots(primaries) / 1e6:.4f}")
    row("a primary lost: CLUSTER SLOTS while it is gone, a second", "each other primary", f"{share(nodes * lost, costs.slots(primaries)):.3f}")
    row("its successor: connections of all workers, the script's source", "the new primary", f"{(clients * us['connection'] + us['cold script']) / 1e6:.2f}")

    trips = costs.start_trips
    print(f"\nThe start of a node asks one primary after the other: {primaries} x {trips} round trips are "
          f"{primaries * trips * options.round_trip / 1e3:.2f} s.")

    bytes_of_check = units["bytes"]["check"] + 150
    walls = [
        (primaries * capacity, f"the core of every primary ({capacity:,} checks/s each)"),
        (primaries * capacity * max(0, 1 - polls - beats), "the core of the primary that has the registry and the nodes' list"),
        (nodes * options.workers * 1e6 / options.service_us * BUSY, f"the workers' cores of the nodes ({options.service_us:g} us a check)"),
        (primaries * options.gigabits * 1e9 / 8 / bytes_of_check, f"the network of every primary ({options.gigabits:g} Gbit/s, {bytes_of_check} bytes a check)"),
    ]
    head("Walls as the load grows, in order", "checks/s of all", "what is full")
    for load, wall in sorted(walls):
        row(f"{load:,.0f}", wall)
    hot = [
        (1e6 / us["one throttle, 16 in a call"], "checks/s", "of one exact key: its primary, with 16 checks in a call"),
        (1e6 / us["one throttle, 800 connections"], "checks/s", "of one exact key, if each check comes alone on its connection"),
        (BUSY / within, "keys", f"that all nodes lease, within their limits, on one primary ({within * 100:.0f} % of its core each)"),
        (BUSY / over, "keys", f"that all nodes lease, far over their limits ({over * 100:.0f} % each)"),
        (LEASE_UNITS * nodes / LEASE_LIFETIME, "units/s", "is the smallest rate of a limit that these nodes lease: a smaller one is exact, with a call for each check"),
        (MAX_CLIENTS / (options.workers + POOLED), "nodes", f"until a primary has Redis' default of {MAX_CLIENTS:,} clients"),
        (1e6 / (us["key lookup, HGET"] * 2), "keys/s", "of all nodes that are looked up anew: the registry's primary"),
        (BUSY / ((slots + memory) / nodes), "nodes", "until polls alone fill each primary"),
        (BUSY / ((slots + memory + polls + beats) / nodes), "nodes", "until polls alone fill the registry's primary"),
    ]
    head("Walls that do not depend on the load of all", "number", "")
    for most, unit, why in hot:
        row(f"{most:,.0f} {unit}", why)


if __name__ == "__main__":
    main()
