#!/usr/bin/env python3
"""Measures editors at once: ten clients make 1,000 resources of one API through three nodes on one Redis.

Each client keeps one connection to each node and sends its requests to them in turn, one after the other. A conflict
is a 409; every resource has to be there in the end.
"""

import argparse
import http.client
import json
import statistics
import sys
import threading
import time

from report import rows_of
from servers import HERE, ROOT, Redis, Service, free_port, wait_for

TOKEN = "a-token-of-the-bench"


class Client:
    """A client of the admin API of all nodes."""

    def __init__(self, ports):
        self.connections = [http.client.HTTPConnection("127.0.0.1", port) for port in ports]
        self.sent = self.conflicts = 0
        self.seconds = []

    def call(self, method, path, body=None):
        connection = self.connections[self.sent % len(self.connections)]
        self.sent += 1
        began = time.monotonic()
        connection.request(method, path, json.dumps(body) if body else None, {"authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        content = answer.read()
        self.seconds.append(time.monotonic() - began)
        if answer.status == 409:
            self.conflicts += 1
        elif answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {content[:300]}")
        return json.loads(content) if content else None


def start(binary, count, redis):
    ports = [free_port() for _ in range(count)]
    nodes = [Service(binary, "--store", f"redis://127.0.0.1:{redis.port}", "--listen-admin", f"127.0.0.1:{port}",
                     TOLLGATE_ADMIN_TOKEN=TOKEN) for port in ports]
    for port in ports:
        wait_for(port)
    return nodes, ports


def measure(ports, clients, resources):
    """The seconds until all resources are made, the conflicts, and the seconds of each request."""
    first = Client(ports)
    api = first.call("POST", "/restapis", {"name": "bench"})
    above = f"/restapis/{api['id']}/resources/{api['rootResourceId']}"
    editors = [Client(ports) for _ in range(clients)]

    def make(number):
        for part in range(number, resources, clients):
            editors[number].call("POST", above, {"pathPart": f"part-{part}"})

    threads = [threading.Thread(target=make, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    made, position = 0, ""
    while position is not None:
        page = first.call("GET", f"/restapis/{api['id']}/resources?limit=500{position}")
        made += len(page["item"])
        position = f"&position={page['position']}" if page.get("position") else None
    conflicts = sum(editor.conflicts for editor in editors)
    if made - 1 != resources - conflicts:
        sys.exit(f"{made - 1} of {resources} resources are there, after {conflicts} conflicts")
    first.call("DELETE", f"/restapis/{api['id']}")
    return took, conflicts, [seconds for editor in editors for seconds in editor.seconds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"), help="a tollgate built with --release")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--resources", type=int, default=1_000)
    options = parser.parse_args()
    lines = []
    for count in (1, 3):
        redis = Redis()
        nodes, ports = start(options.binary, count, redis)
        took, conflicts, seconds = measure(ports, options.clients, options.resources)
        cuts = statistics.quantiles(seconds, n=100)
        lines += [(f"{options.resources:,} resources of one API by {options.clients} clients, {count} node{'s' * (count > 1)} on Redis, seconds",
                   f"{took:.1f}"),
                  ("the same, conflicts", f"{conflicts}"),
                  ("the same, ms of a request, p50 · p99 · longest",
                   f"{cuts[49] * 1e3:.0f} · {cuts[98] * 1e3:.0f} · {max(seconds) * 1e3:.0f}")]
        for node in nodes:
            node.process.terminate()
    text = rows_of([("figure", "value"), ("---", "---:"), *lines])
    print(text)
    (HERE / "results/editors.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
