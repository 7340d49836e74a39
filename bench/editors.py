#!/usr/bin/env python3
"""Measures editors at once, on one Redis: ten clients make 1,000 resources of one API, and thirty make 200 mixed edits each.

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
            return {"id": "conflict"}
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {content[:300]}")
        return json.loads(content) if content else None


def listed(client, path):
    """All items of a list."""
    items, position = [], ""
    while position is not None:
        page = client.call("GET", f"{path}?limit=500{position}")
        items += page["item"]
        position = f"&position={page['position']}" if page.get("position") else None
    return items


def start(binary, count, redis):
    ports = [free_port() for _ in range(count)]
    nodes = [Service(binary, "--store", f"redis://127.0.0.1:{redis.port}", "--listen-admin", f"127.0.0.1:{port}",
                     TOLLGATE_ADMIN_TOKEN=TOKEN) for port in ports]
    for port in ports:
        wait_for(port)
    return nodes, ports


def at_once(editors, act):
    """The seconds until all editors have acted, each in a thread of its own; `act` gets one and its number."""
    threads = [threading.Thread(target=act, args=(editor, number)) for number, editor in enumerate(editors)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def measure(ports, clients, resources):
    """The seconds until all resources are made, the conflicts, and the seconds of each request."""
    first = Client(ports)
    api = first.call("POST", "/restapis", {"name": "bench"})
    above = f"/restapis/{api['id']}/resources/{api['rootResourceId']}"
    editors = [Client(ports) for _ in range(clients)]

    def make(editor, number):
        for part in range(number, resources, clients):
            editor.call("POST", above, {"pathPart": f"part-{part}"})

    took = at_once(editors, make)
    made = len(listed(first, f"/restapis/{api['id']}/resources"))
    conflicts = sum(editor.conflicts for editor in editors)
    if made - 1 != resources - conflicts:
        sys.exit(f"{made - 1} of {resources} resources are there, after {conflicts} conflicts")
    first.call("DELETE", f"/restapis/{api['id']}")
    return took, conflicts, [seconds for editor in editors for seconds in editor.seconds]


def measure_mixed(ports, clients, edits):
    """The same for edits of plans, their keys, and the resources, methods and stage of one API."""
    first = Client(ports)
    api = first.call("POST", "/restapis", {"name": "bench"})
    at = f"/restapis/{api['id']}"
    first.call("POST", f"{at}/deployments", {"stageName": "prod"})
    keys = [first.call("POST", "/apikeys", {"name": "k", "enabled": True})["id"] for _ in range(clients // 5 or 1)]
    editors = [Client(ports) for _ in range(clients)]

    plan_members = {"name": "unnamed", "alongside": True, "throttle": {"rateLimit": 10, "burstLimit": 10}}

    def edit(editor, number):
        key = keys[number % len(keys)]
        while editor.sent < edits:
            name = f"{number}-{editor.sent}"
            plan = f"/usageplans/{editor.call('POST', '/usageplans', plan_members)['id']}"
            editor.call("PATCH", plan, {"patchOperations": [{"op": "replace", "path": "/name", "value": name}]})
            editor.call("POST", f"{plan}/keys", {"keyId": key, "keyType": "API_KEY"})
            editor.call("DELETE", f"{plan}/keys/{key}")
            made = editor.call("POST", f"{at}/resources/{api['rootResourceId']}", {"pathPart": name})["id"]
            resource = f"{at}/resources/{made}"
            editor.call("PUT", f"{resource}/methods/GET", {"authorizationType": "NONE", "apiKeyRequired": True})
            variable = {"op": "replace", "path": f"/variables/v{number}", "value": name}
            editor.call("PATCH", f"{at}/stages/prod", {"patchOperations": [variable]})
            editor.call("DELETE", plan)
            if editor.sent % 16:
                editor.call("DELETE", resource)

    took = at_once(editors, edit)
    conflicts = sum(editor.conflicts for editor in editors)
    left = [plan for plan in listed(first, "/usageplans") if plan.get("owner") != "file"]
    if left and not conflicts:
        sys.exit("a deleted plan is still there")
    return took, conflicts, [seconds for editor in editors for seconds in editor.seconds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"), help="a tollgate built with --release")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--resources", type=int, default=1_000)
    parser.add_argument("--mixed-clients", type=int, default=30)
    parser.add_argument("--edits", type=int, default=200)
    options = parser.parse_args()
    loads = [(f"{options.resources:,} resources of one API by {options.clients} clients",
              lambda ports: measure(ports, options.clients, options.resources)),
             (f"{options.edits} mixed edits by each of {options.mixed_clients} clients",
              lambda ports: measure_mixed(ports, options.mixed_clients, options.edits))]
    lines = []
    for name, load in loads:
        for count in (1, 3):
            redis = Redis()
            nodes, ports = start(options.binary, count, redis)
            took, conflicts, seconds = load(ports)
            cuts = statistics.quantiles(seconds, n=100)
            lines += [(f"{name}, {count} node{'s' * (count > 1)} on Redis, seconds", f"{took:.1f}"),
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
