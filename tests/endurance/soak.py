#!/usr/bin/env python3
"""Runs both stores under a moderate load for an hour, and fails where something grew or a response was wrong.

Two nodes with --data-dir, and three nodes on one Redis. Each store has 500,000 keys. Checks, reservations and Envoy's
requests arrive at a fixed rate, whatever the responses do; besides there are edits of the admin API, reloads of a
changed catalog, scrapes, and restarts of nodes and of Redis. A node of each store is never restarted. Memory, open
files, threads and tasks are sampled; medians of the first quarter are compared with those of the last.

A 5xx or a broken connection is allowed during a restart only, or where the machine itself stood still for a second. A
subject that was admitted more often than its limit allows, in any window of the run, is never allowed. SOAK_SECONDS, SOAK_KEYS and SOAK_RATE (requests per second of each
store) change the run. TOLLGATE is the binary: target/release/tollgate unless it is set.
"""

import asyncio
import collections
import contextlib
import json
import math
import os
import random
import signal
import statistics
import sys
import time

from clients import Grpc, Http
from servers import ADMIN_TOKEN, Node, Redis

SECONDS = int(os.environ.get("SOAK_SECONDS", "3600"))
KEYS = int(os.environ.get("SOAK_KEYS", "500000"))
RATE = float(os.environ.get("SOAK_RATE", "100"))
SAMPLE_EVERY = min(10.0, SECONDS / 40)
# Responses that are late because of the machine are not the subject of this test.
DEADLINE = "2s"
# After a restart, requests that were sent during it may still end.
SETTLE_SECONDS = 5.0

# The growth that is allowed from the first quarter to the last: a part of it, and an amount. RSS has the largest amount, for memory
# that the allocator keeps after a peak.
TOLERANCES = {"RSS, MiB": (0.15, 16), "fds": (0, 24), "threads": (0, 2), "tasks": (0, 24), "memory, MiB": (0.1, 8)}

ENVOY = "domain: soak\ndescriptors:\n  - key: user\n    rate_limit: { unit: hour, requests_per_unit: 4000000000 }\n"
HOT = {"hot": (2.0, 20), "scarce": (1 / 3600, 200)}


def catalog(edition):
    """The catalog. `edited` has another rate with each edition; nothing is checked against it."""
    return f"""
version: 1
policies:
  - name: wide
    throttle: {{ rate: 1/h, burst: 100000 }}
    quota: {{ limit: 1000000, period: month }}
    on_store_failure: closed
    new_keys: 1000000/s
  - {{ name: hot, throttle: {{ rate: 2/s, burst: 20 }}, on_store_failure: closed }}
  - {{ name: scarce, throttle: {{ rate: 1/h, burst: 200 }}, on_store_failure: closed }}
  - {{ name: leased, throttle: {{ rate: 1000000/s, burst: 1000000 }}, consistency: leased, on_store_failure: closed }}
  - {{ name: edited, throttle: {{ rate: {edition % 100 + 1}/s, burst: 100 }} }}
  - name: tokens
    on_store_failure: closed
    limits: [{{ name: tpm, unit: total_tokens, throttle: {{ rate: 1000000000/min, burst: 1000000000 }} }}]
"""


class Bound:
    """The requests that one subject was admitted, in the order of their responses. One is sent at a time."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.admitted, self.lowest, self.excess = rate, burst, 0, math.inf, 0.0
        self.refused, self.unknown = 0, 0

    def record(self, sent, received):
        """An admission between two times. The most that any window held above `rate` times its length is kept."""
        self.lowest = min(self.lowest, self.admitted - self.rate * sent)
        self.admitted += 1
        self.excess = max(self.excess, self.admitted - self.rate * received - self.lowest)

    def faults(self):
        if self.excess > self.burst:
            yield f"admitted {self.excess:.1f} above its rate, with a burst of {self.burst}"
        # A request without a response may have been charged.
        if self.refused and self.admitted + self.unknown < self.burst:
            yield f"refused after {self.admitted} admissions and {self.unknown} lost responses, with a burst of {self.burst}"


class Member:
    """A node, its clients, and the times at which it may fail."""

    def __init__(self, name, node):
        self.name, self.node = name, node
        self.http, self.grpc = Http(node.http), Grpc(node.grpc, "soak", "user")
        self.admin = Http(node.admin, 30, {"authorization": f"Bearer {ADMIN_TOKEN}"})
        self.disturbed = False

    def close(self):
        for client in (self.http, self.grpc, self.admin):
            client.close()


class Fleet:
    """The nodes of one store, and everything that is asked of them."""

    def __init__(self, name, members, redis=None, shared=True):
        self.name, self.members, self.redis, self.shared = name, members, redis, shared
        self.outcomes, self.wrong, self.latencies = collections.Counter(), [], []
        self.bounds = {(member if not shared else None, policy): Bound(*HOT[policy]) for member in members for policy in HOT}
        self.busy, self.store_disturbed, self.edition = set(), False, 0
        self.random = random.Random(1)

    def excused(self, member):
        return member.disturbed or self.store_disturbed

    async def send(self, member, what, request, expected):
        """Sends one request, and records its end. Returns its status and body; `None` if the connection broke."""
        excused_before, began = self.excused(member), time.monotonic()
        try:
            response = await request
        except OSError as error:
            if excused_before or self.excused(member):
                self.outcomes["broken or 5xx during a restart"] += 1
            else:
                self.add_wrong(member, what, began, f"{type(error).__name__} {error}")
            return None
        status = response if isinstance(response, int) else response[0]
        if status in expected:
            self.outcomes[f"{what} {status}"] += 1
            self.latencies.append(time.monotonic() - began)
        elif excused_before or self.excused(member):
            self.outcomes["broken or 5xx during a restart"] += 1
        else:
            self.add_wrong(member, what, began, response)
        return response

    def add_wrong(self, member, what, began, response):
        ended = time.monotonic()
        self.wrong.append((began, ended, f"{time.strftime('%T')} {member.name} {what} after {ended - began:.3f} s: {response}"))

    async def check_wide(self, member):
        key = f"k{self.random.randrange(KEYS)}"
        policy = "wide" if self.random.random() < 0.9 else "leased"
        await self.send(member, policy, member.http.request("POST", "/check", {"policy": policy, "key": key}), (200,))

    async def check_hot(self, member):
        """One request of a limited subject. Every node asks for the same, one request at a time."""
        policy = self.random.choice(list(HOT))
        subject = (None if self.shared else member, policy)
        if subject in self.busy:
            return
        self.busy.add(subject)
        sent = time.time()
        try:
            body = {"policy": policy, "key": "the-only-one"}
            response = await self.send(member, policy, member.http.request("POST", "/check", body), (200, 429))
        finally:
            self.busy.discard(subject)
        bound = self.bounds[subject]
        if response and response[0] == 200:
            bound.record(sent, time.time())
        elif response and response[0] == 429:
            bound.refused += 1
        else:
            bound.unknown += 1

    async def reserve(self, member):
        key = f"k{self.random.randrange(1000)}"
        check = {"policy": "tokens", "key": key, "cost": {"total_tokens": 500}, "reservation": {"ttl_ms": 5000}}
        response = await self.send(member, "reserve", member.http.request("POST", "/check", check), (200,))
        await asyncio.sleep(self.random.random() * 2)
        # A few are never settled: a client that was lost.
        if not response or response[0] != 200 or self.random.random() < 0.05:
            return
        settled = {"handle": json.loads(response[1])["reservation"]["handle"], "actual": {"total_tokens": 320}}
        member = self.random.choice(self.members) if self.shared else member
        await self.send(member, "settle", member.http.request("POST", "/reservations/settle", settled), (200,))

    async def ask_envoy(self, member):
        await self.send(member, "gRPC", member.grpc.request(f"u{self.random.randrange(1000)}"), (1,))

    async def edit(self, member):
        """Makes a plan and a key, checks the key, changes the plan, and removes both."""
        async def admin(method, path, body=None):
            response = await self.send(member, "edit", member.admin.request(method, path, body), (200, 201, 202, 204))
            return json.loads(response[1]) if response and response[0] in (200, 201) and response[1] else {}
        plan = await admin("POST", "/usageplans", {"name": "soak", "throttle": {"rateLimit": 100, "burstLimit": 100}})
        key = await admin("POST", "/apikeys", {"name": "soak", "enabled": True})
        if plan and key:
            await admin("POST", f"/usageplans/{plan['id']}/keys", {"keyId": key["id"], "keyType": "API_KEY"})
            await self.send(member, "API key", member.http.request("POST", "/check", {"api_key": key["value"]}), (200,))
            change = {"op": "replace", "path": "/throttle/rateLimit", "value": str(self.random.randrange(50, 500))}
            await admin("PATCH", f"/usageplans/{plan['id']}", {"patchOperations": [change]})
        if key:
            await admin("DELETE", f"/apikeys/{key['id']}")
        if plan:
            await admin("DELETE", f"/usageplans/{plan['id']}")

    async def reload(self, member):
        del member
        self.edition += 1
        for each in self.members:
            (each.node.dir / "catalog.yaml").write_text(catalog(self.edition))
            if each.node.is_alive() and not each.disturbed:
                each.node.process.send_signal(signal.SIGHUP)

    async def scrape(self, member):
        for each in self.members:
            for path in ("/metrics", "/readyz"):
                await self.send(each, path, each.http.request("GET", path), (200,))

    async def arrivals(self, kind, rate, seconds):
        """Open loop: requests are sent at their times, whether or not the ones before have ended."""
        loop, tasks = asyncio.get_running_loop(), set()
        start = loop.time()
        for turn in range(int(seconds * rate)):
            await asyncio.sleep(start + turn / rate - loop.time())
            task = asyncio.ensure_future(kind(self.members[turn % len(self.members)]))
            tasks.add(task)
            task.add_done_callback(self.report_fault)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks, return_exceptions=True)

    def report_fault(self, task):
        """A fault of this program is one of the run as well."""
        if not task.cancelled() and task.exception():
            now = time.monotonic()
            self.wrong.append((now, now, f"the soak itself: {task.exception()!r}"))

    def loads(self, seconds):
        """All requests of this store: each kind, at its part of the rate."""
        parts = [(self.check_wide, RATE * 0.7), (self.check_hot, RATE * 0.1), (self.reserve, RATE * 0.1),
                 (self.ask_envoy, RATE * 0.1), (self.edit, 0.2), (self.reload, 0.05), (self.scrape, 0.2)]
        return [self.arrivals(kind, rate, seconds) for kind, rate in parts]

    async def restart(self, member, kind):
        member.disturbed = True
        await asyncio.to_thread(member.node.stop, kind)
        await asyncio.to_thread(member.node.start)
        await asyncio.sleep(SETTLE_SECONDS)
        member.disturbed = False
        self.outcomes["restarts of a node"] += 1

    async def restart_redis(self):
        self.store_disturbed = True
        await asyncio.to_thread(self.redis.stop)
        await asyncio.to_thread(self.redis.start)
        await asyncio.sleep(SETTLE_SECONDS)
        self.store_disturbed = False
        self.outcomes["restarts of Redis"] += 1

    async def restarts(self, seconds, rounds):
        """Restarts in the middle half of the run, so that the quarters that are compared have none. The first member
        stays: what it holds at the end is that of the whole run."""
        await asyncio.sleep(seconds / 4)
        for turn in range(rounds):
            began, member = time.monotonic(), self.members[1 + turn // 2 % (len(self.members) - 1)]
            if self.redis and turn % 2:
                await self.restart_redis()
            else:
                # Without Redis, counters of the last second are lost unless the node is asked to stop.
                kind = signal.SIGKILL if self.redis and turn % 4 else signal.SIGTERM
                await self.restart(member, kind)
            await asyncio.sleep(max(0.0, seconds / 2 / rounds - (time.monotonic() - began)))


class Samples:
    """Measurements of all processes by their time."""

    def __init__(self, fleets):
        self.fleets, self.rows, self.start = fleets, collections.defaultdict(list), time.monotonic()

    def take(self):
        at = time.monotonic() - self.start
        for fleet in self.fleets:
            for member in fleet.members:
                # A node may be stopped at any moment.
                with contextlib.suppress(OSError, TypeError):
                    measured = {**member.node.status(), "tasks": member.node.metric("tollgate_tasks")}
                    for name, value in measured.items():
                        self.rows[member.name, name].append((at, value))
            if fleet.redis:
                with contextlib.suppress(OSError, TypeError):
                    measured = {"memory, MiB": fleet.redis.memory_mib(), "fds": fleet.redis.status()["fds"]}
                    for name, value in measured.items():
                        self.rows["Redis", name].append((at, value))

    async def run(self, seconds):
        while time.monotonic() - self.start < seconds:
            await asyncio.to_thread(self.take)
            await asyncio.sleep(SAMPLE_EVERY)

    def table(self, seconds):
        """Markdown, and the rows that grew beyond their tolerance."""
        lines, grown = ["| process | | first quarter | last quarter | at most | |", "|---|---|---:|---:|---:|---|"], []
        for (process, name), values in self.rows.items():
            first = statistics.median(value for at, value in values if at < seconds / 4)
            last = statistics.median(value for at, value in values if at >= seconds * 3 / 4)
            part, amount = TOLERANCES[name]
            most = first * (1 + part) + amount
            if last > most:
                grown.append(f"{process}: {name} grew from {first:.1f} to {last:.1f}")
            lines.append(f"| {process} | {name} | {first:.1f} | {last:.1f} | {most:.1f} | {'**grew**' if last > most else 'level'} |")
        return "\n".join(lines), grown


class Pauses:
    """The times in which this program itself did not run although it would have: the machine stood still, and the
    nodes with it. A request that failed over such a time says nothing about a node."""

    LEAST = 1.0

    def __init__(self):
        self.times = []

    async def run(self, seconds):
        end = time.monotonic() + seconds
        while (before := time.monotonic()) < end:
            await asyncio.sleep(0.05)
            if time.monotonic() - before > self.LEAST:
                self.times.append((before, time.monotonic()))

    def cover(self, began, ended):
        """True if the time between was partly a pause, or the deadline after one."""
        return any(began < after + 3.0 and before < ended for before, after in self.times)


def start_fleets():
    redis = Redis()
    flags = ("--check-deadline", DEADLINE)
    embedded = []
    for number in (1, 2):
        node = Node(*flags, catalog=catalog(0), envoy=ENVOY)
        # The folder of the data is inside that of the node, so both are removed together.
        node.stop()
        node.command += ["--data-dir", str(node.dir / "data")]
        node.start()
        embedded.append(Member(f"embedded {number}", node))
    shared = [Member(f"node {number}", Node(*flags, "--store", redis.url, catalog=catalog(0), envoy=ENVOY)) for number in (1, 2, 3)]
    return [Fleet("embedded", embedded, shared=False), Fleet("Redis", shared, redis)]


async def soak(fleets):
    samples, pauses = Samples(fleets), Pauses()
    rounds = 4 if SECONDS < 600 else 12
    work = [load for fleet in fleets for load in fleet.loads(SECONDS)]
    work += [fleet.restarts(SECONDS, rounds) for fleet in fleets]
    await asyncio.gather(*work, samples.run(SECONDS), pauses.run(SECONDS))
    for fleet in fleets:
        for member in fleet.members:
            member.close()
    return samples, pauses


def faults_of(fleet, pauses):
    wrong = [text for began, ended, text in fleet.wrong if not pauses.cover(began, ended)]
    faults = wrong[:20] + ([f"{len(wrong) - 20} further faults"] if len(wrong) > 20 else [])
    if len(wrong) < len(fleet.wrong):
        print(f"{fleet.name}: {len(fleet.wrong) - len(wrong)} requests failed while the machine stood still")
    for (member, policy), bound in fleet.bounds.items():
        faults += [f"{member.name if member else fleet.name}: {policy} {fault}" for fault in bound.faults()]
    for member in fleet.members:
        log = member.node.log()
        faults += [f"{member.name}: {line}" for line in log.splitlines() if "panicked" in line]
        if not member.node.is_alive():
            faults.append(f"{member.name} has ended: {log[-500:]}")
    return faults


def main():
    fleets = start_fleets()
    began = time.monotonic()
    for fleet in fleets:
        for member in fleet.members[:1] if fleet.shared else fleet.members:
            member.node.fill("wide", KEYS)
    print(f"{KEYS:,} keys in each store after {time.monotonic() - began:.0f} s; {RATE:.0f} requests per second of each for {SECONDS} s", flush=True)
    samples, pauses = asyncio.run(soak(fleets))
    table, faults = samples.table(SECONDS)
    for fleet in fleets:
        faults += faults_of(fleet, pauses)
        times = sorted(fleet.latencies)
        at = lambda part: 1e3 * times[int(part * (len(times) - 1))]
        print(f"\n{fleet.name}: {len(times):,} responses, p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms")
        print("; ".join(f"{what}: {count:,}" for what, count in sorted(fleet.outcomes.items())))
        for member in fleet.members:
            errors = [row for row in member.node.rows("tollgate_store_errors_total") if not row.endswith(" 0")]
            print("\n".join([f"{member.name}:", *errors]))
    print(f"\n{table}\n")
    for before, after in pauses.times:
        print(f"the machine stood still for {after - before:.1f} s")
    for line in fleets[1].redis.log().splitlines():
        # A disk that is busy with others holds Redis up, which is then no fault of the nodes.
        if "fsync is taking too long" in line:
            print(f"Redis waited for its disk: {line}")
    if faults:
        sys.exit("\n".join(faults))
    print("level, and every response as it should be")


if __name__ == "__main__":
    main()
