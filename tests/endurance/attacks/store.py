"""Faults of Redis, by a proxy in front of it, and a disk that is full.

Beside each fault, a policy that is closed without its store is checked at a multiple of its rate. In no window may more
be admitted than its limit allows, and checks are decided by Redis again when the fault is over.
"""

import collections
import resource
import select
import signal
import socket
import threading
import time

from servers import Node, free_port

from .attack import CATALOG, ENVOY, Attack

RATE, BURST = 100, 100


class Proxy:
    """Forwards connections to Redis. `fault` takes the bytes of a reply, and returns what is sent instead and the
    seconds to wait before; `None` ends the connection."""

    def __init__(self, target):
        self.target, self.port, self.fault = target, free_port(), None
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.forward, args=(client, server), daemon=True).start()

    def forward(self, client, server):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Replies by the time at which they are sent on. They wait beside each other, as on a long way, and keep their order.
        waiting = collections.deque()
        try:
            while True:
                patience = max(0, waiting[0][0] - time.monotonic()) if waiting else None
                for source in select.select([client, server], [], [], patience)[0]:
                    if not (data := source.recv(65536)):
                        return
                    if source is client:
                        server.sendall(data)
                        continue
                    wait, data = self.fault(data) if self.fault else (0, data)
                    if data is None:
                        return
                    waiting.append((time.monotonic() + wait, data))
                while waiting and waiting[0][0] <= time.monotonic():
                    client.sendall(waiting.popleft()[1])
        except OSError:
            pass
        finally:
            client.close()
            server.close()


class StoreFault(Attack):
    seconds, short_seconds, uses_redis, may_be_503 = 8.0, 1.2, True, True
    honest_may_lose = True
    most_lines = 400

    def store_url(self):
        self.proxy = Proxy(self.redis.port)
        return f"redis://127.0.0.1:{self.proxy.port}/0"

    def begin(self):
        """Starts the fault."""
        raise NotImplementedError

    def end(self):
        """Ends it."""
        self.proxy.fault = None

    def run(self, until):
        ended, admissions, counts = threading.Event(), [], {}

        def check():
            while not ended.is_set():
                sent = time.time()
                try:
                    status, body = self.node.check({"policy": "bound", "key": "b"})
                except OSError as error:
                    self.fault(f"a check was not answered: {error!r}")
                    continue
                counts[status] = counts.get(status, 0) + 1
                if status == 200:
                    admissions.append((sent, time.time()))
                time.sleep(0.002)

        clients = [threading.Thread(target=check) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(0.2)
        self.begin()
        time.sleep(max(0.2, until - time.monotonic() - 1.0))
        self.end()
        recovered = self.recover()
        ended.set()
        for client in clients:
            client.join()
        if (excess := self.excess(admissions)) > BURST:
            self.fault(f"{excess:.0f} above the rate were admitted, with a burst of {BURST}")
        return f"{sum(counts.values()):,} checks: {dict(sorted(counts.items()))}; decided by Redis again after {recovered:.1f} s"

    @staticmethod
    def excess(admissions):
        """The most that any window held above the rate times its length. A window is longer than the admissions in it."""
        lowest, most = float("inf"), 0.0
        starts = sorted(sent for sent, _ in admissions)
        for count, end in enumerate(sorted(received for _, received in admissions)):
            lowest = min(lowest, count - RATE * starts[count])
            most = max(most, count + 1 - RATE * end - lowest)
        return most

    def recover(self):
        """The seconds until a check is decided by Redis. It counts as never after half a minute."""
        began = time.monotonic()
        while time.monotonic() - began < 30:
            status, body = self.node.check({"policy": "slow", "key": "after"})
            if status == 200 and body["decided_by"] == "redis":
                return time.monotonic() - began
            time.sleep(0.02)
        self.fault("no check was decided by Redis within 30 s after the fault")
        return time.monotonic() - began


class Replies(StoreFault):
    """Other replies than Redis sent."""

    def reply(self, data):
        raise NotImplementedError

    def begin(self):
        self.proxy.fault = self.reply


class CutReplies(Replies):
    name = "Redis: replies that are cut, and the connection with them"

    def begin(self):
        cut = set()

        def reply(data):
            if len(data) in cut:
                cut.clear()
                return 0, None
            cut.add(len(data))
            return 0, data[:self.random.randrange(len(data))]

        self.proxy.fault = reply


class SlowReplies(Replies):
    name = "Redis: replies that take 20 to 45 ms"

    def reply(self, data):
        return self.random.uniform(0.02, 0.045), data


class HangingRedis(StoreFault):
    name = "Redis: stopped (SIGSTOP)"

    def begin(self):
        self.redis.process.send_signal(signal.SIGSTOP)

    def end(self):
        self.redis.process.send_signal(signal.SIGCONT)


class WrongReplies(Replies):
    name = "Redis: replies of another protocol or shape"
    kinds = [b"+OK\r\n", b":1\r\n", b"*0\r\n", b"*1\r\n:0\r\n", b"$-1\r\n", b"_\r\n", b"*2147483647\r\n", b"$2147483647\r\n", b"*1\r\n" * 50_000,
             b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*3\r\n:9223372036854775807\r\n:1\r\n:-1\r\n", b"%1\r\n+a\r\n+b\r\n", b"\0\xff\xfe"]

    def reply(self, data):
        return 0, self.random.choice(self.kinds)


class BusyReplies(Replies):
    name = "Redis: BUSY, LOADING, MASTERDOWN, TRYAGAIN"
    kinds = [b"-BUSY Redis is busy running a script.\r\n", b"-LOADING Redis is loading the dataset in memory\r\n",
             b"-MASTERDOWN Link with MASTER is down\r\n", b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"]

    def reply(self, data):
        return 0, self.random.choice(self.kinds)


class FullRedis(StoreFault):
    name = "Redis: out of memory (OOM)"

    def begin(self):
        self.redis.command_line("CONFIG", "SET", "maxmemory", "1")

    def end(self):
        self.redis.command_line("CONFIG", "SET", "maxmemory", "0")


class RestartedRedis(StoreFault):
    name = "Redis: killed and started again"

    def begin(self):
        self.redis.stop()

    def end(self):
        self.redis.start()


class FullDisk(Attack):
    name = "the disk of --data-dir is full"
    seconds, most_lines, may_be_503 = 15.0, 2000, True

    def start(self):
        # Writes beyond the largest size fail, rather than end the process.
        self.node = self.victim = FullDiskNode(catalog=CATALOG, envoy=ENVOY)
        self.nodes.append(self.node)

    def run(self, until):
        self.node.limit(self.node.size() + 4096)
        self.node.fill("filled", 2_000 if self.short else 40_000)
        codes = {}
        while time.monotonic() < until - 0.5 or 503 not in codes:
            status = self.node.administer("POST", "/apikeys", {"name": "k"})[0]
            codes[status] = codes.get(status, 0) + 1
            if time.monotonic() > until + 30:
                self.fault(f"the admin API never noticed: {codes}")
                break
            time.sleep(0.02)
        self.node.limit(resource.RLIM_INFINITY)
        began = time.monotonic()
        while self.node.administer("POST", "/apikeys", {"name": "k"})[0] != 201:
            if time.monotonic() - began > 30:
                self.fault("the admin API is not served again 30 s after there is room")
                break
            time.sleep(0.1)
        return f"admin statuses {codes}; edits are served {time.monotonic() - began:.1f} s after there is room"

    def faults(self):
        yield from super().faults()
        before = self.node.check({"policy": "filled", "key": "k7", "cost": 0})[1]["limits"][0]["remaining"]
        if (code := self.node.stop()) != 0:
            yield f"exit {code} with room on the disk"
        self.node.start()
        after = self.node.check({"policy": "filled", "key": "k7", "cost": 0})[1]["limits"][0]["remaining"]
        if after > before:
            yield f"{after} remain after the restart, and {before} did before it"


class FullDiskNode(Node):
    """A node whose files may not grow beyond a size that can be changed."""

    def __init__(self, **more):
        super().__init__(**more)
        self.stop()
        self.command = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", *self.command, "--data-dir", str(self.dir / "data")]
        self.start()

    def size(self):
        """The size of the largest file of the data."""
        return max(file.stat().st_size for file in (self.dir / "data").iterdir())

    def limit(self, size):
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


ATTACKS = [CutReplies, SlowReplies, HangingRedis, WrongReplies, BusyReplies, FullRedis, RestartedRedis, FullDisk]
