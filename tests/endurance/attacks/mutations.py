"""Valid requests of every endpoint, changed at random: members, values, bytes, paths, headers."""

import json
import time

from servers import ADMIN_TOKEN

from .attack import KEY, OTHER_KEY, SECRETS, Attack, exchange, statuses

JSON = {"content-type": "application/json"}
ADMIN = {**JSON, "authorization": f"Bearer {ADMIN_TOKEN}"}
RESERVED = {"policy": "wide", "key": "r", "cost": 5, "reservation": {"id": "r-1", "ttl_ms": 1000}}
CHECKS = [
    ("POST", "/check", JSON, {"api_key": KEY, "api": "inference", "stage": "prod", "method": "GET", "path": "/a", "cost": {"requests": 1, "total_tokens": 5}}),
    ("POST", "/check", JSON, {"policies": [{"policy": "wide", "key": "a"}, {"policy": "login", "key": "ip:10.0.0.1"}], "cost": 1}),
    ("POST", "/check", JSON, RESERVED),
    ("POST", "/check", JSON, {"api_key": KEY, "usage": {"input_tokens": 3, "output_tokens": 4}, "after_the_fact": True}),
    ("POST", "/check/batch", JSON, {"checks": [{"policy": "wide", "key": "a"}, {"key_id": "alice", "cost": 0}]}),
    ("POST", "/reservations/settle", JSON, {"handle": "r1.AAAA", "actual": {"requests": 1}}),
    ("POST", "/reservations/cancel", JSON, {"reservations": [{"handle": "r1.AAAA"}]}),
    ("POST", "/reservations/extend", JSON, {"handle": "r1.AAAA", "ttl_ms": 1000}),
    ("POST", "/json", JSON, {"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": "x"}], "hitsAddend": 1}], "hitsAddend": 1}),
    ("GET", "/authz?api=inference&stage=prod", {"x-api-key": OTHER_KEY, "x-forwarded-method": "GET", "x-forwarded-uri": "/secret?x=1"}, None),
    ("GET", "/authz?policy=login&key=ip&deny_status=403", {"x-forwarded-for": "10.0.0.1, 127.0.0.1", "forwarded": "for=10.0.0.1"}, None),
    ("GET", "/authz?policy=wide&key_header=X-Ip", {"x-ip": "10.0.0.1", "authorization": f"Bearer {KEY}"}, None),
    *(("GET", path, {}, None) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/healthcheck")),
]
PATCH = {"patchOperations": [{"op": "replace", "path": "/throttle/rateLimit", "value": "5"}]}
EDITS = [
    ("POST", "/usageplans", ADMIN, {"name": "p", "throttle": {"rateLimit": 10.0, "burstLimit": 5}, "quota": {"limit": 10, "period": "DAY", "offset": 0}, "apiStages": [], "tags": {"a": "b"}}),
    ("POST", "/apikeys", ADMIN, {"name": "k", "enabled": True, "customerId": "c", "value": "value-of-a-made-key-0123456789"}),
    ("POST", "/apikeys?mode=import&format=csv", ADMIN, "name,key,description,Enabled,usageplanIds\nn,value-of-an-imported-key-01234,d,TRUE,\n"),
    ("POST", "/restapis", ADMIN, {"name": "a", "description": "d"}),
    ("PATCH", "/usageplans/PLAN", ADMIN, PATCH),
    ("PATCH", "/apikeys/KEY", ADMIN, {"patchOperations": [{"op": "replace", "path": "/enabled", "value": "false"}]}),
    ("PATCH", "/usageplans/PLAN/keys/KEY/usage", ADMIN, {"patchOperations": [{"op": "replace", "path": "/remaining", "value": "5"}]}),
    ("POST", "/usageplans/PLAN/keys", ADMIN, {"keyId": "KEY", "keyType": "API_KEY"}),
    ("POST", "/apikeys/KEY/rotate", ADMIN, {"overlapSeconds": 5}),
    ("POST", "/restapis/API/resources/ROOT", ADMIN, {"pathPart": "x"}),
    ("GET", "/usageplans/PLAN/usage?startDate=2026-11-01&endDate=2026-11-30", ADMIN, None),
    ("DELETE", "/usageplans/nobody", ADMIN, None),
    *(("GET", path, ADMIN, None) for path in ("/apikeys?includeValues=true&limit=5", "/usageplans?position=x", "/restapis", "/audit?limit=3", "/account", "/openapi.json")),
]
NUMBERS = [0, -1, 1, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 10**400, 0.5, 1e300, -0.0]
TEXTS = ["", " ", "\0", "\n", "a" * 1025, "é" * 600, "\ud800", "../..", "%00", "{}", "*", "null", "1", "demo", "alice", "ip:::1", "[::ffff:10.0.0.1]:80", "0x7f.1"]
BYTES = [b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"[" * 2000, b"}" * 10, b"\\u0000", b"\\ud800", b"1e999999", b"\r\n", b"NaN", b"-", b",", b" " * 3000]


class Mutations(Attack):
    name = "changed requests of every endpoint of checks and of the admin API"
    # Plans of the admin API are kept: their memory is bounded by what is sent.
    seconds, short_seconds, most_mib = 90.0, 3.0, 128

    def start(self):
        super().start()
        plan = self.node.administer("POST", "/usageplans", {"name": "p", "quota": {"limit": 5, "period": "DAY"}})[1]["id"]
        key = self.node.administer("POST", "/apikeys", {"name": "k", "enabled": True})[1]["id"]
        api = self.node.administer("POST", "/restapis", {"name": "a"})[1]["id"]
        self.names = {"PLAN": plan, "KEY": key, "API": api}

    def run(self, until):
        sent, answers = 0, {}
        while time.monotonic() < until:
            of_checks = self.random.random() < 0.6
            data = self.changed(*self.random.choice(CHECKS if of_checks else EDITS))
            received = exchange(self.node.http if of_checks else self.node.admin, data, 0.5)
            sent += 1
            for status in statuses(received)[:1]:
                answers[status // 100] = answers.get(status // 100, 0) + 1
                if status >= 500:
                    self.fault(f"{received[:300]!r} in response to {data[:1000]!r}")
            if any(secret.encode() in received for secret in SECRETS):
                self.fault(f"a secret in response to {data[:1000]!r}")
        kinds = ", ".join(f"{count:,} {kind}xx" for kind, count in sorted(answers.items()))
        return f"{sent:,} requests: {kinds}"

    def changed(self, method, target, headers, body):
        """The bytes of a request, after one to three changes."""
        for name, value in self.names.items():
            target = target.replace(name, value)
            body = json.loads(json.dumps(body).replace(f'"{name}"', f'"{value}"')) if body else body
        headers, pick = {"host": "x", **headers}, self.random.random
        if pick() < 0.15:
            method = self.random.choice(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "X" * 200])
        if pick() < 0.25:
            target = self.bent(target.encode(), 1).decode("latin-1").replace(" ", "%20").replace("\r", "").replace("\n", "") or "/"
        if pick() < 0.25:
            name = self.random.choice(list(headers))
            headers[name] = self.random.choice([*TEXTS, headers[name] * 2, headers[name] + ", " + headers[name]])
        text = body.encode() if isinstance(body, str) else b""
        if isinstance(body, (dict, list)):
            for _ in range(self.random.randrange(3)):
                self.bend(body)
            text = json.dumps(body).encode()
        if text and pick() < 0.4:
            text = self.bent(text, self.random.randrange(1, 4))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
        return head.encode("utf-8", "surrogatepass") + text

    def bend(self, value):
        """Changes one member of an object or a list, at any depth."""
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = self.random.choice(places)
        if isinstance(value[place], (dict, list)) and self.random.random() < 0.7:
            self.bend(value[place])
            return
        change = self.random.randrange(6)
        if change == 0:
            del value[place]
        elif change == 1:
            value[place] = self.random.choice(NUMBERS)
        elif change == 2:
            value[place] = self.random.choice(TEXTS)
        elif change == 3:
            value[place] = self.random.choice([None, True, [], {}, [value[place]] * self.random.randrange(1, 300), {"a": value[place]}])
        elif change == 4 and isinstance(value, dict):
            value[self.random.choice(TEXTS)] = value[place]
        else:
            value[place] = str(value[place]) + self.random.choice(TEXTS)

    def bent(self, text, times):
        """Bytes with some of them changed, cut, doubled or inserted."""
        for _ in range(times):
            at = self.random.randrange(len(text) + 1)
            change = self.random.randrange(5)
            if change == 0:
                text = text[:at] + self.random.choice(BYTES) + text[at:]
            elif change == 1:
                text = text[:at]
            elif change == 2:
                text = text[:at] + text[at + 1:]
            elif change == 3:
                text = text[:at] + text[at - 20:at] * self.random.randrange(1, 50) + text[at:]
            else:
                text = text[:at] + bytes([self.random.randrange(256)]) + text[at + 1:]
        return text


ATTACKS = [Mutations]
