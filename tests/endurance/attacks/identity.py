"""One request written in many ways, and one client that wants to be many."""

import time

from .attack import KEY, OTHER_KEY, Attack, exchange, statuses

# Spellings that docs promise to be one path: query, parameters, one decoding, double slashes, dot segments.
PATHS = ["/secret", "/secret?x=1", "//secret", "/./secret", "/x/../secret", "/x/%2e%2e/secret", "/%73ecret", "/se%63ret", "/secret;a=b",
         "/secret;v=1?x", "/x/.%2e/secret", "/%2e/secret", "/x;p/../secret", "//x/..//secret", "/secre%74?%00"]
ADDRESSES = ["203.0.113.9", "ip:203.0.113.9", "::ffff:203.0.113.9", "[::ffff:203.0.113.9]:80", "203.0.113.9:4711", "::ffff:cb00:7109",
             "0:0:0:0:0:ffff:203.0.113.9"]
NETWORK = "2001:db8:1:2"


class Spellings(Attack):
    name = "identity: spellings of a path, a method, an address, a key"
    seconds, short_seconds = 10.0, 2.0

    def authz(self, credentials, method="GET", path="/other"):
        headers = [("host", "x"), ("connection", "close"), ("X-Forwarded-Method", method), ("X-Forwarded-Uri", path), *credentials]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        received = exchange(self.node.http, f"GET /authz?api=inference&stage=prod HTTP/1.1\r\n{lines}\r\n".encode(), 2.0)
        return (statuses(received) or [0])[0]

    def run(self, until):
        pick, admitted, turns = self.random.choice, {"path": 0, "IPv4": 0, "IPv6": 0}, 0
        while time.monotonic() < until:
            turns += 1
            admitted["path"] += self.authz([("X-API-Key", OTHER_KEY)], pick(["GET", "HEAD"]), pick(PATHS)) == 200
            admitted["IPv4"] += self.node.check({"policy": "login", "key": pick(ADDRESSES)})[0] == 200
            last = ":".join(f"{self.random.randrange(2**16):x}" for _ in range(4))
            admitted["IPv6"] += self.node.check({"policy": "login", "key": f"{NETWORK}:{last}"})[0] == 200
            self.credentials(pick)
        for what, most in (("path", 3), ("IPv4", 5), ("IPv6", 5)):
            if admitted[what] != most:
                self.fault(f"{admitted[what]} admitted by spellings of one {what}, where {most} may be")
        return f"{turns:,} rounds; admitted: {admitted['path']} of 3, {admitted['IPv4']} of 5, {admitted['IPv6']} of 5"

    def credentials(self, pick):
        """A key that is not exactly one known key is none."""
        wrong = pick([KEY[:-1], KEY.upper(), KEY + "x", KEY + "," + OTHER_KEY, KEY + "\u00a0", "Bearer " + KEY, f'"{KEY}"', ""])
        if (status := self.authz([("X-API-Key", wrong)])) != 403:
            self.fault(f"the key {wrong!r} was answered with {status}")
        both = [("X-API-Key", KEY), ("Authorization", f"Bearer {OTHER_KEY}")]
        self.random.shuffle(both)
        if (status := self.authz(both)) != 400:
            self.fault(f"two known keys were answered with {status}")


ATTACKS = [Spellings]
