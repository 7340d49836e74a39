"""HTTP/2 frames and a gRPC request by hand, for clients that hold to the protocol and for those that do not.

Heads are encoded without tables, so no state is kept. Responses are not decoded beyond their frames.
"""

import struct

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
