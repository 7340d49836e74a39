#!/usr/bin/env python3
"""Measures what each kind of work costs a Redis server: the numbers that `fleet.py` multiplies.

The bytes are the service's own: a tap between a service and Redis records them, and a client repeats them. Costs are CPU
time of the Redis process (the scheduler's count, in ns), which has the last core; client and service have the others.
Writes bench/results/units.json. Medians of the rounds; each round measures everything once.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import tempfile
import threading
import time

from cluster import CATALOG, Place
from servers import HERE, ROOT, Redis, Service, free_port, start, thread_seconds, wait_for

SECRET = "units"
PIPELINES = (1, 2, 4, 8, 16, 64)
BATCHES = (2, 4, 8, 16, 64, 128)


class Tap:
    """Forwards connections to a port, and records what is sent over each."""

    def __init__(self, target):
        self.target, self.sent, self.lock = target, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(None)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            chunks = []
            with self.lock:
                self.sent.append(chunks)
            client.settimeout(None)
            server.settimeout(None)
            for a, b, is_request in ((client, server, True), (server, client, False)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.forward, args=(a, b, chunks, is_request), daemon=True).start()

    @staticmethod
    def forward(source, target, chunks, is_request):
        # A connection that is closed ends both directions.
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(1 << 20):
                # Requests that come in pieces are one chunk: a response is between any two.
                if not is_request:
                    chunks.append((time.monotonic(), b""))
                elif chunks and chunks[-1][1]:
                    chunks[-1] = chunks[-1][0], chunks[-1][1] + data
                else:
                    chunks.append((time.monotonic(), data))
                target.sendall(data)

    def since(self, moment):
        with self.lock:
            return [data for chunks in self.sent for at, data in chunks if data and at >= moment]


def checked(tap, port, path, bodies, mark=b"EVALSHA"):
    """The bytes of the calls that a service makes for these requests."""
    moment = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for body in bodies:
        connection.request("POST", path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {answer.read()}")
        answer.read()
    return [data for data in tap.since(moment) if mark in data[:20]]


def recorded(binary):
    """The bytes of each kind of work, recorded once."""
    redis = Redis("--requirepass", SECRET)
    tap = Tap(redis.port)
    catalog = tempfile.NamedTemporaryFile("w", suffix=".yaml")
    catalog.write(CATALOG + '  - { id: k0, value: key-0, plans: [plan], policies: { one: team } }\n')
    catalog.flush()
    service = Service(binary, "--store", f"redis://:{SECRET}@127.0.0.1:{tap.port}", "--workers", "1", "--check-deadline", "2s",
                      catalog=catalog.name, RUST_LOG="error")
    time.sleep(1)
    flags = ["--store", f"redis://:{SECRET}@127.0.0.1:{tap.port}", "--workers", "1"]
    moment = time.monotonic()
    second = Service(binary, *flags, catalog=catalog.name, RUST_LOG="error")
    time.sleep(1)
    # A worker's connection ends its set-up with its probe: a call of the module, which is missing, and of the script.
    with tap.lock:
        opened = next(chunks for chunks in tap.sent if any(b"TG.JUDGE" in data and at > moment for at, data in chunks))
    second.process.terminate()
    # Until the first connection of a worker: a connection for the probe, one of the pool, and what is asked over that. TCP's
    # own round trip comes to each.
    with tap.lock:
        begun = [chunks for chunks in tap.sent if chunks and chunks[0][0] > moment]
    source = next(data for data in tap.since(0) if b"EVAL\r\n" in data[:20] and len(data) > 10_000)
    result = {"connection": [data for _, data in opened if data], "cold script": [source]}
    first = sorted(chunks[0][0] for chunks in begun if any(b"TG.JUDGE" in data for _, data in chunks))[1]
    result["start"] = sum(1 + sum(1 for at, data in chunks if data and at < first) for chunks in begun if chunks[0][0] < first)
    calls = lambda path, bodies: checked(tap, service.port, path, bodies)
    one = lambda policy, key: json.dumps({"policy": policy, "key": key})
    result["one throttle"] = calls("/check", [one("one", f"a{n}") for n in range(500)])
    result["throttle and quota"] = calls("/check", [one("both", f"a{n}") for n in range(500)])
    for size in BATCHES:
        bodies = ['{"checks":[' + ",".join(one("one", f"a{(start + n) % 500}") for n in range(size)) + "]}" for start in range(0, 500, 50)]
        result[f"{size} in a call"] = calls("/check/batch", bodies)
    moment = time.monotonic()
    time.sleep(5)
    idle = tap.since(moment)
    for name, mark in (("heartbeat", b"ZADD"), ("registry poll", b"registry}:touched"), ("memory", b"memory")):
        matching = [data for data in idle if mark in data]
        result[name] = matching[:1]
        result[f"{name} per second"] = len(matching) / 5
    service.process.terminate()
    redis.process.terminate()
    return result


class Client:
    """Raw connections to one server, whose CPU they measure."""

    def __init__(self, server, core, password=None):
        self.server, self.password = server, password
        os.sched_setaffinity(server.process.pid, {core})

    def open(self, count):
        connections = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", self.server.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.password:
                connection.sendall(f"AUTH {self.password}\r\n".encode())
                connection.recv(100)
            connections.append(connection)
        return connections

    def repeat(self, chunks, connections, commands, each=1):
        """CPU in us of one of `commands`: all connections send, and then all read. A chunk holds `each` of them."""
        opened = self.open(connections)
        rounds = max(1, commands // each // connections)
        for warm in (True, False):
            before, place = thread_seconds(self.server.process), 0
            for _ in range(max(1, rounds // 10) if warm else rounds):
                for connection in opened:
                    connection.sendall(chunks[place % len(chunks)])
                    place += 1
                for connection in opened:
                    if connection.recv(1 << 20).startswith(b"-"):
                        raise SystemExit(f"an error in response to {chunks[0][:200]}")
            # What is still under way is read by the end, in the order in which it was sent.
            for connection in opened:
                connection.sendall(b"PING\r\n")
                while not connection.recv(1 << 20).endswith(b"+PONG\r\n"):
                    pass
        used = thread_seconds(self.server.process) - before
        for connection in opened:
            connection.close()
        return used / (rounds * connections * each) * 1e6


def set_up(client, chunks, count):
    """CPU in us of a new connection of the hot path: authenticated, set up, probed."""
    before = thread_seconds(client.server.process)
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", client.server.port))
        for chunk in chunks:
            connection.sendall(chunk)
            connection.recv(1 << 16)
        connection.close()
    return (thread_seconds(client.server.process) - before) / count * 1e6


class Member(Redis):
    """One server of a Cluster of this many primaries, of which the others are only names."""

    def __init__(self, primaries):
        self.port, self.dir = free_port(), tempfile.TemporaryDirectory()
        lines = []
        for number in range(primaries):
            first, last = 16384 * number // primaries, 16384 * (number + 1) // primaries - 1
            place = f"127.0.0.1:{self.port}@{free_port()}" if number == 0 else f"192.0.2.{number % 250 + 1}:6379@16379"
            lines.append(f"{number + 1:040x} {place} {'myself,' if number == 0 else ''}master - 0 0 {number + 1} connected {first}-{last}")
        lines.append(f"vars currentEpoch {primaries} lastVoteEpoch 0")
        pathlib.Path(self.dir.name, "nodes.conf").write_text("\n".join(lines) + "\n")
        self.process = start(["redis-server", "--port", str(self.port), "--save", "", "--dir", self.dir.name, "--loglevel", "warning",
                              "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "3600000"])
        wait_for(self.port)


def slots(primaries, core, count=300):
    """CPU in us of CLUSTER SLOTS, without what this server does anyway."""
    member = Member(primaries)
    client = Client(member, core)
    time.sleep(0.3)
    before = thread_seconds(member.process)
    time.sleep(1)
    idle, began = thread_seconds(member.process) - before, time.monotonic()
    used = client.repeat([b"CLUSTER SLOTS\r\n"], 4, count) - idle * (time.monotonic() - began) / count * 1e6
    size = len(member.cli("CLUSTER", "SLOTS"))
    member.process.terminate()
    return used, size


def measure(bytes_of, core, primaries):
    """All costs, in us of CPU of one Redis process."""
    redis = Redis("--requirepass", SECRET)
    client, costs = Client(redis, core, SECRET), {}
    flush = client.repeat([b"SCRIPT FLUSH\r\n"], 1, 100)
    costs["cold script"] = 2 * client.repeat([b"SCRIPT FLUSH\r\n", *bytes_of["cold script"]], 1, 200) - flush
    costs["script source again"] = client.repeat(bytes_of["cold script"], 64, 2000)
    set_up(client, bytes_of["connection"], 20)
    costs["connection"] = set_up(client, bytes_of["connection"], 300)
    for count in (1, 64, 800):
        costs[f"PING, {count} connections"] = client.repeat([b"PING\r\n"], count, 8000)
        for limits in ("one throttle", "throttle and quota"):
            costs[f"{limits}, {count} connections"] = client.repeat(bytes_of[limits], count, 8000)
    singles = bytes_of["one throttle"]
    for size in PIPELINES[1:]:
        chunks = [b"".join(singles[(first + n) % len(singles)] for n in range(size)) for first in range(0, 500, 7)]
        costs[f"one throttle, pipelines of {size}"] = client.repeat(chunks, 64, 16000, size)
    for size in BATCHES:
        costs[f"one throttle, {size} in a call"] = client.repeat(bytes_of[f"{size} in a call"], 64, 24000, size)
    members = [f"ZADD tg:{{nodes}} 9999999999 node{number}\r\n".encode() for number in range(100)]
    client.repeat(members, 1, 100)
    for name in ("heartbeat", "registry poll", "memory"):
        costs[name] = client.repeat(bytes_of[name], 64, 3000)
    fields = [f"HSET tg:{{registry}} key/{number} {'x' * 300}\r\n".encode() for number in range(2000)]
    client.repeat(fields, 1, 2000)
    costs["key lookup, HGET"] = client.repeat([f"HGET tg:{{registry}} key/{number}\r\n".encode() for number in range(2000)], 64, 8000)
    client.repeat([b"*3\r\n$3\r\nSET\r\n$8\r\ndocument\r\n$1048576\r\n" + b"x" * (1 << 20) + b"\r\n"], 1, 1)
    costs["document of 1 MiB"] = client.repeat([b"GET document\r\n"], 1, 200)
    redis.process.terminate()
    for count in primaries:
        costs[f"CLUSTER SLOTS of {count}"], costs[f"bytes of CLUSTER SLOTS of {count}"] = slots(count, core)
    return costs


def outage(binary, seconds=4):
    """What one node asks of each remaining primary in a second while one of six is gone, and while none is."""
    place = Place(binary, 6, None, 2)
    rest = place.members[1:]

    def rates():
        for server in rest:
            server.reset()
        time.sleep(seconds)
        text = [server.cli("INFO", "commandstats") for server in rest]
        count = lambda name: sum(int(each) for part in text for each in re.findall(rf"cmdstat_{name}:calls=(\d+)", part))
        return {name: count(name.replace("|", r"\|")) / seconds / len(rest) for name in ("cluster|slots", "info", "evalsha", "hello|", "eval")}

    healthy = rates()
    place.members[0].process.kill()
    time.sleep(0.5)
    lost = rates()
    place.service.process.terminate()
    for server in rest:
        server.process.terminate()
    return {"healthy": healthy, "one of six primaries lost": lost}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    socket.setdefaulttimeout(20)
    cores = sorted(os.sched_getaffinity(0))
    bytes_of = recorded(options.binary)
    lost = outage(options.binary)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])
    rounds = [measure(bytes_of, cores[-1], (1, 12, 100)) for _ in range(options.rounds)]
    costs = {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}
    units = {"us of Redis": costs,
             "round trips": {"start, each primary": bytes_of["start"]},
             "bytes": {"check": len(bytes_of["one throttle"][0])},
             "per second and node": {**{name: bytes_of[f"{name} per second"] for name in ("heartbeat", "registry poll", "memory")}, **lost}}
    text = json.dumps(units, indent=1)
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/units.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
