"""Clients that behave, on asyncio: HTTP/1.1 over kept connections, and gRPC.

They say how each request ended, and judge nothing.
"""

import asyncio
import json

import h2


class Http:
    """Requests to one port over a pool of connections, each used by one request at a time."""

    def __init__(self, port, timeout=10, headers=None):
        self.port, self.timeout, self.idle = port, timeout, []
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.rest = f"host: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{extra}"

    async def request(self, method, path, body=None):
        """Status and body. OSError if there is no response in time."""
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = f"{method} {path} HTTP/1.1\r\n{self.rest}content-length: {len(text)}\r\n\r\n".encode() + text
        try:
            return await asyncio.wait_for(self.exchange(sent), self.timeout)
        except asyncio.TimeoutError as error:
            raise OSError("no response in time") from error
        except asyncio.IncompleteReadError as error:
            raise OSError("the connection ended within a response") from error

    async def exchange(self, sent):
        kept = bool(self.idle)
        reader, writer = self.idle.pop() if kept else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(sent)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError):
                # The server may close a kept connection at any time: the next one is new.
                if not kept:
                    raise
                self.close()
                return await self.exchange(sent)
            head = head.lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length: " in head else 0
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self.idle.append((reader, writer))
        return int(head[9:12]), body

    def close(self):
        for _, writer in self.idle:
            writer.close()
        self.idle.clear()


class Grpc:
    """Requests for one domain and key over one connection, made again when it has ended."""

    def __init__(self, port, domain, key, timeout=10):
        self.port, self.domain, self.key, self.timeout = port, domain, key, timeout
        self.head, self.writer, self.open, self.stream, self.readers = h2.head(), None, {}, 1, set()

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(h2.PREFACE + h2.frame(h2.SETTINGS) + h2.frame(h2.WINDOW_UPDATE, 0, 0, h2.WIDEST))
        self.stream = 1
        # A connection that is going away has a reader until it has ended.
        task = asyncio.ensure_future(self.read(self.reader, self.writer))
        self.readers.add(task)
        task.add_done_callback(self.readers.discard)

    async def read(self, reader, writer):
        buffer = bytearray()
        try:
            while received := await reader.read(65536):
                buffer += received
                for kind, flags, stream, payload in h2.split(buffer):
                    self.heed(writer, kind, flags, stream, payload)
        except OSError:
            pass
        writer.close()
        if writer is self.writer:
            self.writer = None
            for waiting, _ in self.open.values():
                if not waiting.done():
                    waiting.set_exception(OSError("the connection ended"))
            self.open.clear()

    def heed(self, writer, kind, flags, stream, payload):
        if kind == h2.SETTINGS and not flags & h2.ACK:
            writer.write(h2.frame(h2.SETTINGS, h2.ACK))
        elif kind == h2.PING and not flags & h2.ACK:
            writer.write(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif kind == h2.GOAWAY:
            self.stream = 2**31
        elif stream in self.open:
            waiting, body = self.open[stream]
            if kind == h2.DATA:
                body += payload
            if (kind == h2.RST_STREAM or flags & h2.END_STREAM and kind in (h2.DATA, h2.HEADERS)) and not waiting.done():
                waiting.set_result(bytes(body))

    async def request(self, value):
        """The code of the response, 1 for OK and 2 for OVER_LIMIT; 0 if an error came instead. OSError if nothing came."""
        if not self.writer or self.stream >= 2**31 - 1:
            await self.connect()
        stream, waiting = self.stream, asyncio.get_running_loop().create_future()
        self.stream += 2
        self.open[stream] = (waiting, bytearray())
        self.writer.write(h2.whole(stream, self.head, h2.message(self.domain, self.key, value)))
        try:
            body = await asyncio.wait_for(waiting, self.timeout)
        except asyncio.TimeoutError as error:
            raise OSError("no response in time") from error
        finally:
            self.open.pop(stream, None)
        # The first member of the message is `overall_code`.
        return body[6] if len(body) > 6 and body[5] == 8 else 0

    def close(self):
        if self.writer:
            self.writer.close()
