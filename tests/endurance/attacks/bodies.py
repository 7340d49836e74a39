"""Messages and bodies that are begun and never ended."""

import struct
import time

import h2

from .attack import Attack, connect, is_closed

MIB = 1 << 20


class UnfinishedMessages(Attack):
    name = "unfinished messages of 1 MiB on a connection of gRPC"
    seconds = 15.0

    def run(self, until):
        message = b"\0" + struct.pack(">I", MIB) + bytes(MIB - 1)
        sent = begun = connections = 0
        while time.monotonic() < until:
            client, stream, left = h2.Client(self.node.grpc), 1, {}
            connections += 1
            client.pump(0.05)
            while time.monotonic() < until and not client.ended:
                while len(client.windows) < 200 and client.open(stream, h2.head()):
                    left[stream] = 0
                    stream, begun = stream + 2, begun + 1
                moved = 0
                for each in list(client.windows):
                    moved += (count := client.push(each, message[left[each]:left[each] + 16384]))
                    left[each] += count
                sent += moved
                client.pump(0.0 if moved else 0.1)
            client.close()
        return f"{begun:,} messages begun, {sent >> 20:,} MiB sent, {connections} connections"


class UnfinishedBodies(Attack):
    name = "unfinished bodies of 1 MiB, of checks and of the admin API"
    seconds, most_mib, may_be_503 = 15.0, 128, True

    def run(self, until):
        size = self.random.randrange(MIB // 2, MIB)
        head = "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
        shapes = [(self.node.http, head.format("/check/batch", size).encode() + bytes(size - 1)),
                  (self.node.http, head.format("/reservations/settle", size).encode() + bytes(size - 1)),
                  (self.node.admin, head.format("/usageplans", 10 * MIB).encode() + bytes(size))]
        held, opened, times = [], 0, []
        while time.monotonic() < until:
            held = [pair for pair in held if not self.has_ended(pair, times)]
            if len(held) < 100:
                port, request = self.random.choice(shapes)
                if client := connect(port, 0.2):
                    opened += 1
                    held.append((client, time.monotonic()))
                    try:
                        client.sendall(request)
                    except OSError:
                        pass
            else:
                time.sleep(0.02)
        for client, _ in held:
            client.close()
        return f"{opened:,} bodies begun, 100 at a time; held {max(times, default=0):.0f} s at most"

    @staticmethod
    def has_ended(pair, times):
        client, began = pair
        if not is_closed(client):
            return False
        times.append(time.monotonic() - began)
        client.close()
        return True


ATTACKS = [UnfinishedMessages, UnfinishedBodies]
