"""An attack: its servers, its run beside an honest client, and the judgement of what is left.

The kinds are in the other files of this folder. Nothing here measures time for a judgement: faults are counts.
"""

import random
import re
import resource
import socket

from servers import ADMIN_TOKEN, Node, Redis

KEY = "key-of-the-attacked-0123456789"
OTHER_KEY = "key-of-another-client-0123456789"
CHECK_TOKEN = "token-of-the-gateways-0123456789"
SECRETS = (KEY, OTHER_KEY, CHECK_TOKEN, ADMIN_TOKEN)

CATALOG = f"""
version: 1
apis:
  - id: inference
    stages:
      - name: prod
plans:
  - id: wide
    throttle: {{ rate: 1000000/s, burst: 1000000 }}
    limits:
      - {{ name: tpm, unit: total_tokens, throttle: {{ rate: 1000000/s, burst: 1000000 }} }}
      - {{ name: slots, concurrency: {{ limit: 100 }} }}
  - id: narrow
    api_stages:
      - {{ api: inference, stage: prod, methods: {{ "GET /secret": {{ throttle: {{ rate: 1/h, burst: 3 }} }} }} }}
keys:
  - {{ id: alice, value: {KEY}, plans: [wide] }}
  - {{ id: bob, value: {OTHER_KEY}, plans: [narrow] }}
policies:
  - {{ name: honest, throttle: {{ rate: 1000000/s, burst: 1000000 }} }}
  - {{ name: wide, throttle: {{ rate: 1000000/s, burst: 1000000 }}, new_keys: 1000000/s }}
  - {{ name: filled, throttle: {{ rate: 1/h, burst: 1000000 }}, new_keys: 1000000/s }}
  - {{ name: slow, throttle: {{ rate: 1/h, burst: 1000000 }} }}
  - {{ name: scarce, throttle: {{ rate: 1/h, burst: 100 }} }}
  - {{ name: bound, throttle: {{ rate: 100/s, burst: 100 }}, on_store_failure: closed }}
  - {{ name: login, key_type: ip, throttle: {{ rate: 1/h, burst: 5 }} }}
"""
ENVOY = """
domain: edge
descriptors:
  - key: user
    rate_limit: { unit: second, requests_per_unit: 4000000000 }
"""


class Attack:
    """One attack. `run` attacks until a time and says what was done; `faults` judges afterwards."""

    name = ""
    # Of the ten minutes, and of the short form.
    seconds, short_seconds = 12.0, 1.0
    flags, uses_redis = (), False
    # The most that memory may grow by, the lines of the log, and whether a documented 503 may be answered.
    most_mib, most_lines, may_be_503 = 96, 200, False
    honest_may_lose = False

    def __init__(self, seed, short):
        self.random, self.short, self.found = random.Random(f"{seed}/{self.name}"), short, []
        self.nodes, self.redis = [], None
        raise_file_limit()

    def start(self):
        self.redis = Redis() if self.uses_redis else None
        store = ["--store", self.store_url(), "--check-deadline", "5s" if self.short else "50ms"] if self.redis else []
        self.node = self.victim = self.add_node(*store, *self.flags)

    def add_node(self, *flags, **more):
        node = Node(*flags, catalog=CATALOG, envoy=ENVOY, **more)
        self.nodes.append(node)
        return node

    def store_url(self):
        return self.redis.url

    def honest_body(self):
        return {"policy": "honest", "key": "honest"}

    def run(self, until):
        """Attacks, and returns a sentence on what was done and what was held."""
        raise NotImplementedError

    def fault(self, text):
        self.found.append(text)

    def faults(self):
        """The faults of every attack, after it."""
        yield from self.found[:10]
        if len(self.found) > 10:
            yield f"{len(self.found) - 10} more of them"
        for node in self.nodes:
            if not node.is_alive():
                yield f"a node has ended: {node.log()[-1000:]}"
                return
            yield from log_faults(node.log(), self.most_lines)
        status, text = self.node.request("GET", "/healthz")
        if status != 200:
            yield f"/healthz is {status} {text}"
        answered = re.findall(r'tollgate_responses_total\{.*status="(5\d\d)"\} ([1-9]\d*)', self.node.request("GET", "/metrics", port=self.node.ops)[1].decode())
        if wrong := [pair for pair in answered if pair[0] != "503" or not self.may_be_503]:
            yield f"responses with a status of 5xx: {wrong}"

    def stop(self):
        for node in self.nodes:
            node.remove()
        if self.redis:
            self.redis.remove()


def log_faults(log, most_lines):
    """Panics, secrets, and more lines than a fault should cause. The line of each change by an administrator is wanted."""
    lines = [line for line in log.splitlines() if 'who="admin_token"' not in line]
    for line in log.splitlines():
        if "panicked" in line or any(secret in line for secret in SECRETS):
            yield f"the log has: {line[:300]}"
    if len(lines) > most_lines:
        yield f"the log has {len(lines)} lines, for example: {lines[-1][:300]}"


def raise_file_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(port, timeout=2.0, receive_buffer=None):
    """A connection, or `None` where it was not accepted."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(timeout)
    try:
        client.connect(("127.0.0.1", port))
    except OSError:
        client.close()
        return None
    return client


def is_closed(client):
    """True if the server has ended this connection. Bytes that wait to be read are discarded."""
    client.setblocking(False)
    try:
        while received := client.recv(65536):
            del received
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def exchange(port, sent, wait=1.0):
    """All that a server sends in response to these bytes, until it ends the connection or is silent for `wait`."""
    client, received = connect(port, wait), b""
    if not client:
        return received
    try:
        client.sendall(sent)
    except OSError:
        # The response may come before the request has been sent.
        pass
    try:
        while part := client.recv(65536):
            received += part
    except OSError:
        pass
    client.close()
    return received


def statuses(received):
    """The status codes of all responses of HTTP/1.1 in these bytes."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d\d\d)", received)]
