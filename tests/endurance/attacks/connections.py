"""Connections that nobody ends, and readers that never read."""

import time

import h2

from .attack import Attack, connect, is_closed


class Holder(Attack):
    """Opens connections, sends the first bytes, and waits. A connection that is closed is made again."""

    most, receive_buffer = 600, None

    def shapes(self):
        """Ports, and the bytes that are sent to them."""
        raise NotImplementedError

    def run(self, until):
        held, opened, times, shapes = [], 0, [], self.shapes()
        most = self.most // 10 if self.short else self.most
        while time.monotonic() < until:
            kept = []
            for client, began in held:
                if self.is_ended(client):
                    times.append(time.monotonic() - began)
                    client.close()
                else:
                    kept.append((client, began))
            held = kept
            for _ in range(min(50, most - len(held))):
                port, first = self.random.choice(shapes)
                if client := connect(port, 0.3, self.receive_buffer):
                    opened += 1
                    held.append((client, time.monotonic()))
                    # A server that takes no more is not waited for.
                    client.settimeout(0.02)
                    try:
                        client.sendall(first)
                    except OSError:
                        pass
            time.sleep(0.05)
        for client, _ in held:
            client.close()
        longest = f"the longest was closed after {max(times):.0f} s" if times else "none was closed yet"
        return f"{opened:,} connections, {most} at a time; {longest}"

    def is_ended(self, client):
        return is_closed(client)


class Silent(Holder):
    name = "silent and half-begun connections, twice the limit"
    seconds, short_seconds, most = 36.0, 2.0, 2400
    flags = ("--max-connections", "300")

    def shapes(self):
        half = h2.PREFACE[:self.random.randrange(1, len(h2.PREFACE))]
        return [(self.node.http, b""), (self.node.http, b"POST /check HTTP/1.1\r\nhost: x\r\n"), (self.node.grpc, b""),
                (self.node.grpc, half), (self.node.grpc, h2.PREFACE + h2.frame(h2.SETTINGS)), (self.node.admin, b""),
                (self.node.admin, b"GET /apikeys HTTP/1.1\r\n")]


class NeverReading(Holder):
    name = "clients that never read their responses"
    seconds, most, receive_buffer = 40.0, 200, 2304

    def shapes(self):
        return [(self.node.http, b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)]

    def is_ended(self, client):
        """As the kernel knows it, since nothing is read: 1 is an established connection."""
        return client.getsockopt(6, 11, 1) != b"\x01"


class ZeroWindow(Holder):
    name = "HTTP/2: responses of which no byte may be sent (window of 0)"
    seconds, most = 20.0, 100

    def shapes(self):
        requests = b"".join(h2.whole(stream, h2.head(), h2.message("edge", "user", "zero")) for stream in range(1, 401, 2))
        return [(self.node.grpc, h2.PREFACE + h2.setting(4, 0) + requests)]


ATTACKS = [Silent, NeverReading, ZeroWindow]
