"""Many checks at once: large batches, one hot key, keys that nobody has used before."""

import json
import selectors
import socket
import threading
import time

from .attack import Attack, exchange, statuses


def post(path, body):
    text = json.dumps(body).encode() if not isinstance(body, bytes) else body
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text


class LargeBatches(Attack):
    name = "batches of 250 policies each, on one node; the honest client on another"
    seconds, uses_redis, may_be_503, most_mib = 20.0, True, True, 256

    def start(self):
        super().start()
        deadline = "5s" if self.short else "50ms"
        self.victim = self.add_node("--store", self.redis.url, "--check-deadline", deadline)
        self.redis.command_line("CONFIG", "SET", "slowlog-log-slower-than", "10000")

    def run(self, until):
        sent, codes = 0, {}
        while time.monotonic() < until:
            count = self.random.choice([4, 10] if self.short else [20, 90, 250])
            policies = lambda check: ",".join(f'{{"policy":"wide","key":"{sent}.{check}.{each}"}}' for each in range(250))
            body = ",".join(f'{{"policies":[{policies(check)}]}}' for check in range(count))
            status, _ = self.node.request("POST", "/check/batch", f'{{"checks":[{body}]}}', timeout=60)
            codes[status] = codes.get(status, 0) + 1
            sent += 1
        # The time of a script is that of the machine as well, so it is reported and not judged.
        slow = self.redis.command_line("SLOWLOG", "LEN")
        return f"{sent:,} batches, statuses {codes}; script calls of more than 10 ms: {slow}"


class HotKey(Attack):
    name = "one key with a limit of 100, from 5,000 connections"
    seconds, short_seconds, uses_redis, may_be_503, most_mib = 20.0, 2.0, True, True, 256
    # It has the machine to itself, and the clients of Python take one of its cores.
    honest_may_lose = True

    def run(self, until):
        count, admitted, refused, other = 500 if self.short else 5000, 0, 0, {}
        request, chooser, opened = post("/check", {"policy": "scarce", "key": "hot"}), selectors.DefaultSelector(), []
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.node.http))
            chooser.register(client, selectors.EVENT_WRITE)
            opened.append(client)
        while time.monotonic() < until:
            for key, events in chooser.select(0.1):
                client = key.fileobj
                try:
                    if events & selectors.EVENT_WRITE:
                        client.send(request)
                        chooser.modify(client, selectors.EVENT_READ)
                        continue
                    received = client.recv(65536)
                    chooser.modify(client, selectors.EVENT_WRITE)
                    if not received:
                        raise ConnectionResetError
                except OSError:
                    chooser.unregister(client)
                    continue
                for code in statuses(received):
                    admitted += code == 200
                    refused += code == 429
                    if code not in (200, 429):
                        other[code] = other.get(code, 0) + 1
        # Responses that have not been read yet may be admissions as well.
        for client in opened:
            client.close()
        if admitted > 100:
            self.fault(f"{admitted} were admitted where 100 may be")
        return f"{admitted} admitted of 100, {refused:,} refused, others {other}"


class MadeUpKeys(Attack):
    """Batches of keys that were never used, with one more of them in each."""

    seconds, uses_redis, may_be_503, most_mib = 15.0, False, True, 256
    policy = "slow"

    def run(self, until):
        made, lock, threads = [0], threading.Lock(), []

        def make(number):
            turn = 0
            while time.monotonic() < until:
                turn += 1
                status, _ = self.node.request("POST", "/check/batch", {"checks": self.checks(f"{number}.{turn}")}, timeout=60)
                with lock:
                    made[0] += 500
                    if status != 200:
                        self.fault(f"a batch was answered with {status}")

        for number in range(2):
            threads.append(threading.Thread(target=make, args=(number,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return f"{made[0]:,} keys{self.held()}"

    def checks(self, name):
        return [{"policy": "slow", "key": f"{name}.{each}"} for each in range(500)]

    def held(self):
        return f"; {self.node.metric('tollgate_memory_rows'):,.0f} counters in memory"


class MadeUpInMemory(MadeUpKeys):
    name = "keys that the client makes up, in the memory store"


class MadeUpInRedis(MadeUpKeys):
    name, uses_redis = "keys that the client makes up, in a Redis of 64 MB", True
    # Redis is full after some seconds; docs/production.md says what is decided then.
    honest_may_lose = True

    def start(self):
        super().start()
        self.redis.command_line("CONFIG", "SET", "maxmemory", "64mb")

    def held(self):
        return f"; {self.redis.command_line('DBSIZE')} keys in Redis, {self.redis.memory_mib():.0f} MiB"


class GuessedApiKeys(Attack):
    name, uses_redis = "API keys that the client guesses", True
    may_be_503 = True

    def run(self, until):
        codes, turn = {}, 0
        while time.monotonic() < until:
            turn += 1
            checks = [{"api_key": f"guess-{turn}-{each}-{self.random.randrange(10**9)}"} for each in range(200)]
            received = exchange(self.node.http, post("/check/batch", {"checks": checks}).replace(b"host: x", b"host: x\r\nconnection: close"), 10.0)
            for code in [int(part[:3]) for part in received.split(b'"status":')[1:]]:
                codes[code] = codes.get(code, 0) + 1
        if codes.get(200):
            self.fault(f"guessed keys were admitted: {codes}")
        return f"{sum(codes.values()):,} guesses, statuses {codes}"


ATTACKS = [LargeBatches, HotKey, MadeUpInMemory, MadeUpInRedis, GuessedApiKeys]
