"""HTTP/1: requests whose end two readers could see at different places, and heads that are not whole.

Each shape hides a second request, which charges a policy of its own. A gateway in front would have taken it for a body,
so it must never have been charged; nor may any shape be answered with a 5xx.
"""

import json
import time

from .attack import Attack, connect, exchange, statuses

# Stands for the key that the hidden request charges: each has its own.
PLACE = "hidden########"
BODY = b'{"policy":"wide","key":"outer"}'


def request(headers, body, start=b"POST /check HTTP/1.1"):
    return b"\r\n".join([start, *headers]) + b"\r\n\r\n" + body


def shapes(hidden, random):
    """Names and bytes. `hidden` is a whole request."""
    host, length, chunked = b"Host: x", b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"
    end, chunk = b"0\r\n\r\n" + hidden, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    odd = random.choice([b"xchunked", b"chunked, identity", b"identity, chunked", b"\x0bchunked", b"chunked;q=1", b"chunk"])
    wrong = random.choice([b"+%d" % len(BODY), b"-1", b"0x1f", b"1e1", b"18446744073709551616", b"31, 31", b"31;", b"3 1", b""])
    yield "length, then chunked", request([host, b"Content-Length: %d" % len(end), chunked], end)
    yield "chunked, then length", request([host, chunked, b"Content-Length: %d" % len(end)], end)
    yield "chunked twice", request([host, chunked, chunked], end)
    yield "two codings", request([host, chunked, b"Transfer-Encoding: identity"], end)
    yield "another coding", request([host, b"Transfer-Encoding: " + odd], end)
    yield "chunked in HTTP/1.0", request([host, chunked], end, b"POST /check HTTP/1.0")
    yield "two lengths", request([host, length, b"Content-Length: %d" % (len(BODY) + len(hidden))], BODY + hidden)
    yield "two lengths, the longer first", request([host, b"Content-Length: %d" % (len(BODY) + len(hidden)), length], BODY + hidden)
    yield "a length that is no number", request([host, b"Content-Length: " + wrong], BODY + hidden)
    yield "a space before the colon", request([host, b"Content-Length : %d" % (len(BODY) + len(hidden))], BODY + hidden)
    yield "a folded line", request([host, b"X-A: a\r\n Content-Length: 9", b"Content-Length: %d" % (len(BODY) + len(hidden))], BODY + hidden)
    yield "a folded length", request([host, b"Content-Length:\r\n %d" % (len(BODY) + len(hidden))], BODY + hidden)
    yield "a bare carriage return", request([host, b"X-A: a\rContent-Length: 0", length], BODY)
    yield "a NUL", request([host, b"X-A: a\0b", length], BODY + hidden)
    yield "two hosts", request([host, b"Host: y", length], BODY + hidden)
    yield "no host", request([length], BODY + hidden)
    yield "absolute form, another host", request([b"Host: y", length], BODY, b"POST http://z/check HTTP/1.1")
    yield "chunk size too large", request([host, chunked], b"f" * random.randrange(17, 40) + b"\r\n" + BODY + end)
    yield "chunk size below zero", request([host, chunked], b"-1\r\n" + BODY + end)
    yield "chunk size without digits", request([host, chunked], b"\r\n" + BODY + end)
    yield "chunk without its end", request([host, chunked], chunk[:-9] + b"xx" + end)
    yield "chunk extension of 100 KB", request([host, chunked], b"1f;" + b"a" * 100_000 + b"\r\n" + BODY + b"\r\n" + end)
    yield "20,000 trailers", request([host, chunked], chunk[:-2] + b"".join(b"t%d: x\r\n" % number for number in range(20_000)) + b"\r\n" + hidden)
    yield "20,000 fields", request([host, *(b"x%d: y" % number for number in range(20_000))], BODY + hidden)
    yield "a path of 70,000 bytes", request([host, length], BODY + hidden, b"POST /" + b"a" * 70_000 + b" HTTP/1.1")
    yield "another protocol", random.choice([b"\x16\x03\x01\x02\x00" + bytes(200), b"*1\r\n$4\r\nPING\r\n", b"GET /healthz\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) + hidden


class Smuggling(Attack):
    name = "HTTP/1: a second request hidden by lengths, codings, folded lines, hosts"
    seconds, short_seconds = 15.0, 2.0

    def run(self, until):
        sent, answers = 0, {}
        while time.monotonic() < until or not sent:
            body = json.dumps({"policy": "slow", "key": PLACE}).encode()
            hidden = request([b"Host: x", b"Content-Length: %d" % len(body), b"Connection: close"], body)
            for name, data in shapes(hidden, self.random):
                key = f"hidden{sent:08}"
                codes = self.send_in_parts(data.replace(PLACE.encode(), key.encode()))
                answers.setdefault(name, set()).update(codes)
                sent += 1
                if any(code >= 500 for code in codes):
                    self.fault(f"{name}: {codes}")
                left = self.node.check({"policy": "slow", "key": key, "cost": 0})[1]["limits"][0]["remaining"]
                if left != 1_000_000:
                    self.fault(f"{name}: the hidden request was charged; the statuses were {codes}")
        return f"{sent:,} requests of {len(answers)} shapes"

    def send_in_parts(self, data):
        """The statuses. Sometimes the bytes arrive in two parts."""
        if self.random.random() < 0.7 or len(data) > 10_000:
            return statuses(exchange(self.node.http, data, 0.15))
        place, client = self.random.randrange(1, len(data)), connect(self.node.http)
        received = b""
        try:
            client.sendall(data[:place])
            time.sleep(0.01)
            client.sendall(data[place:])
            client.settimeout(0.15)
            while part := client.recv(65536):
                received += part
        except OSError:
            pass
        client.close()
        return statuses(received)


ATTACKS = [Smuggling]
