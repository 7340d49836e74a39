"""HTTP/2 frames and a gRPC request by hand, for clients that hold to the protocol and for those that do not.

Heads are encoded without tables, so no state is kept. Responses are not decoded beyond their frames.
"""

import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WIDEST = struct.pack(">I", 2**31 - 1 - 65535)


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(number, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", number, value))


def literal(name, value):
    """A field as a literal that is never indexed: at most 126 bytes of name, and 2^14 of value."""
    name, value = name.encode(), value if isinstance(value, bytes) else value.encode()
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + varint(len(value) - 127)
    return b"\x10" + bytes([len(name)]) + name + length + value


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def head(path="/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", **more):
    """The fields of a request; underscores of names in `more` are dashes."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
              ("content-type", "application/grpc"), ("te", "trailers")]
    fields += [(name.replace("_", "-"), value) for name, value in more.items()]
    return b"".join(literal(name, value) for name, value in fields)


def member(number, payload):
    """A member of a protobuf message: bytes, or a whole number."""
    if isinstance(payload, int):
        return bytes([number << 3]) + varint(payload)
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def message(domain, key, value, descriptors=1):
    """A RateLimitRequest with equal descriptors, framed as gRPC frames it."""
    entry = member(1, member(1, key.encode()) + member(2, value.encode()))
    payload = member(1, domain.encode()) + member(2, entry) * descriptors
    return b"\0" + struct.pack(">I", len(payload)) + payload


def whole(stream, head_block, body):
    """The frames of a complete request."""
    return frame(HEADERS, END_HEADERS, stream, head_block) + frame(DATA, END_STREAM, stream, body)


def split(buffer):
    """The complete frames at the start of a bytearray, which they are taken from: (kind, flags, stream, payload)."""
    frames = []
    while len(buffer) >= 9:
        length = int.from_bytes(buffer[:3], "big")
        if len(buffer) < 9 + length:
            break
        stream = int.from_bytes(buffer[5:9], "big") & 0x7FFFFFFF
        frames.append((buffer[3], buffer[4], stream, bytes(buffer[9:9 + length])))
        del buffer[:9 + length]
    return frames


class Client:
    """A connection that keeps flow control, acknowledges settings and answers pings, as far as `pump` is called."""

    def __init__(self, port, settings=b"", timeout=0.5):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.buffer, self.ended, self.window, self.initial, self.windows = bytearray(), False, 65535, 65535, {}
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        """False, and `ended`, if the bytes are not taken."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.ended = True
        return not self.ended

    def open(self, stream, head_block):
        self.windows[stream] = self.initial
        return self.send(frame(HEADERS, END_HEADERS, stream, head_block))

    def push(self, stream, data):
        """Sends as much of the data of a stream as the windows allow. Returns the number of bytes."""
        room = min(len(data), self.window, self.windows.get(stream, 0), 16384)
        if room <= 0 or not self.send(frame(DATA, 0, stream, data[:room])):
            return 0
        self.window -= room
        self.windows[stream] -= room
        return room

    def pump(self, wait=0.0):
        """The frames that arrive within `wait`. Streams that have ended are dropped from `windows`."""
        until, frames = time.monotonic() + wait, []
        while not self.ended:
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                received = self.socket.recv(65536)
                self.ended = not received
                self.buffer += received
            except TimeoutError:
                pass
            except OSError:
                self.ended = True
            for one in split(self.buffer):
                frames.append(one)
                self.heed(*one)
            if time.monotonic() >= until:
                break
        self.socket.settimeout(0.5)
        return frames

    def heed(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                number, value = struct.unpack(">HI", payload[at:at + 6])
                if number == 4:
                    self.windows = {open_: window + value - self.initial for open_, window in self.windows.items()}
                    self.initial = value
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if not stream:
                self.window += more
            elif stream in self.windows:
                self.windows[stream] += more
        elif kind == GOAWAY:
            self.ended = True
        elif kind == RST_STREAM or kind in (DATA, HEADERS) and flags & END_STREAM:
            self.windows.pop(stream, None)

    def close(self):
        self.socket.close()
