"""The admin API: guesses, bodies of strangers, and more work than one client should have."""

import threading
import time

from servers import ADMIN_TOKEN

from .attack import Attack, exchange, statuses


def bearer(method, path, token, body=b""):
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


class Strangers(Attack):
    name = "admin API: guessed tokens and signatures, bodies of 10 MiB"
    seconds, most_mib = 15.0, 128

    def run(self, until):
        sent = passed = 0
        body = bytes(10 << 20)
        while time.monotonic() < until:
            token = self.random.choice(["Bearer guess", "Basic YTpi", "AWS4-HMAC-SHA256 Credential=nobody", "Bearer " + ADMIN_TOKEN[:-1]])
            big = self.random.random() < 0.1
            codes = statuses(exchange(self.node.admin, bearer("POST", "/usageplans", token, body if big else b"{}"), 1.0))
            sent += 1
            if codes and codes[0] not in (401, 403, 429):
                self.fault(f"{token!r} was answered with {codes}")
            if sent % 10 == 0:
                passed += 1
                right = statuses(exchange(self.node.admin, bearer("GET", "/apikeys", "Bearer " + ADMIN_TOKEN), 5.0))
                if right != [200]:
                    self.fault(f"the right token was answered with {right}")
        return f"{sent:,} guesses; the right token passed {passed:,} of {passed:,} times"


class HeavyWork(Attack):
    name = "admin API: imports of 2,000 keys, plans of 500 limits, listings, all at once"
    # Imported keys are kept: 100,000 of them, then it is listings and plans.
    seconds, most_mib, most_imports = 20.0, 256, 50

    def run(self, until):
        token, counts, lock = "Bearer " + ADMIN_TOKEN, {}, threading.Lock()

        def work(number):
            turn = 0
            while time.monotonic() < until:
                turn += 1
                kind = ("import", "plan", "list")[(number + turn) % 3]
                if kind == "import" and counts.get(kind, 0) >= self.most_imports:
                    kind = "list"
                codes = statuses(exchange(self.node.admin, self.request(kind, token, f"{number}-{turn}"), 30.0))
                with lock:
                    counts[kind] = counts.get(kind, 0) + 1
                    if codes and codes[0] >= 500:
                        self.fault(f"{kind}: {codes}")

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return ", ".join(f"{count:,} × {kind}" for kind, count in sorted(counts.items()))

    def request(self, kind, token, name):
        if kind == "list":
            return bearer("GET", "/apikeys?limit=500&name=zzz", token)
        if kind == "plan":
            limits = ",".join(f'{{"name":"l{number}","unit":"u{number}","throttle":{{"rate":1,"burst":1}}}}' for number in range(500))
            return bearer("POST", "/usageplans", token, f'{{"name":"p","limits":[{limits}]}}'.encode())
        count = 200 if self.short else 2000
        rows = "".join(f"n{number},value-of-key-{name}-{number:08},d,TRUE,\n" for number in range(count))
        return bearer("POST", "/apikeys?mode=import&format=csv", token, b"name,key,description,Enabled,usageplanIds\n" + rows.encode())


ATTACKS = [Strangers, HeavyWork]
