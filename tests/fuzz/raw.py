"""Connections that break the rules of HTTP: half requests, slow ones, lies about lengths, and frames of HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import Iterator
from random import Random

from tests.fuzz import mutations, texts
from tests.fuzz.addresses import Addresses

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
# What the last of a whole conversation asks for: a server answers it whatever it thinks of the rest, or closes.
_LAST = b"lastping"
_ACK = 1
_PADDED, _PRIORITY = 0x8, 0x20
# RFC 7541, section 6.3: what a block of header fields may begin with.
_SIZE_UPDATES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f])*")
# RFC 9113, section 7.
_ERROR_CODES = range(14)
ANSWER_SECONDS = 20.0


async def send(rng: Random, addresses: Addresses, path: str, payload: bytes) -> str:
    """Opens a connection, sends what no client would, and waits for an answer where one is due.

    Returns:
        What was sent, and the first line of what came back: "half: nothing", "lies: 400".

    Raises:
        AssertionError: The server says that it is its own fault, or what it says is no HTTP.
        TimeoutError: It neither answers nor closes what is whole.
    """
    kind = rng.choice(("half", "slow", "lies", "garbage", "http2", "http2 mutated", "http2 half"))
    port = rng.choice(addresses.all_ports())
    if kind.startswith("http2"):
        sent = _http2(rng, path, payload, addresses.token)
        if kind == "http2 mutated":
            sent = PREFACE + mutations.wire(rng, sent[len(PREFACE) :])
        elif kind == "http2 half":
            sent = sent[: rng.randrange(len(sent))]
        else:
            sent += _frame(_PING, 0, 0, _LAST)
    elif kind == "garbage":
        sent = rng.choice(
            (rng.randbytes(200), PREFACE + rng.randbytes(200), b"\x16\x03\x01" + rng.randbytes(80), b"\0" * 99)
        )
    else:
        sent = _http1(rng, path, payload, kind)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            if kind == "slow":
                for at in range(0, min(len(sent), 600), 30):
                    writer.write(sent[at : at + 30])
                    await writer.drain()
                    await asyncio.sleep(0.02)
                writer.write(sent[600:])
            else:
                writer.write(sent)
            await writer.drain()
            answer = await _answer(reader, kind)
            return f"{kind}: {judged(answer)}"
        return f"{kind}: closed"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 5)


async def call(port: int, path: str, fields: list[tuple[str, str]]) -> bytes:
    """An empty call of gRPC with more header fields; gives what came back within a second."""
    all_fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        *fields,
    ]
    frames = [PREFACE, _frame(_SETTINGS, 0, 0, b""), _frame(_HEADERS, 4, 1, _block(all_fields))]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join([*frames, _frame(_DATA, 1, 1, bytes(5))]))
    await writer.drain()
    answer = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while piece := await reader.read(4096):
                answer += piece
    writer.close()
    return answer


async def _answer(reader: asyncio.StreamReader, kind: str) -> bytes:
    # Whoever sends half of something is answered by a timeout at last; that is not waited for.
    is_whole = kind in ("slow", "http2")
    answer = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS if is_whole else 0.3):
            while not _is_over(answer) and (piece := await reader.read(4096)):
                answer += piece
    except TimeoutError:
        if is_whole:
            raise
    return answer


def _is_over(answer: bytes) -> bool:
    if answer.startswith(b"HTTP/1"):
        return True
    return any(kind == _GOAWAY or (kind == _PING and flags & _ACK and said == _LAST)
               for kind, flags, said in _frames(answer))  # fmt: skip


def judged(answer: bytes) -> str:
    """What an answer says, in a word or two. Raises `AssertionError` if it blames the server, or is no HTTP."""
    if not answer:
        return "nothing"
    if answer.startswith(b"HTTP/1"):
        status = answer.split(b" ", 2)[1].decode("latin-1")
        assert not status.startswith("5") or status in ("501", "505"), f"HTTP {answer[:500]!r}"
        return status
    assert answer[3:4] in (b"", bytes((_SETTINGS,))), f"no HTTP: {answer[:500]!r}"
    said = "frames"
    for kind, flags, payload in _frames(answer):
        if kind in (_GOAWAY, _RST):
            code = int.from_bytes(payload[4:8] if kind == _GOAWAY else payload)
            assert code in _ERROR_CODES, f"an error code that HTTP/2 has not: {code}"
            said = f"{'GOAWAY' if kind == _GOAWAY else 'reset'} {code}"
        elif kind == _HEADERS:
            assert not _blames_itself(_fields(flags, payload)), f"a status of 5xx: {payload[:500]!r}"
    return said


def _frames(answer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and payload of each whole frame."""
    at = 0
    while len(answer) >= (begin := at + 9) and len(answer) >= (end := begin + int.from_bytes(answer[at : at + 3])):
        yield answer[at + 3], answer[at + 4], answer[begin:end]
        at = end


def _fields(flags: int, payload: bytes) -> bytes:
    """The block of header fields of such a frame, from the first field on; padding may follow."""
    block = payload[bool(flags & _PADDED) + 5 * bool(flags & _PRIORITY) :]
    return _SIZE_UPDATES.sub(b"", block, 1)


def _blames_itself(block: bytes) -> bool:
    """Whether a block of header fields begins with a status of 5xx but 501, as RFC 7541 writes it: 500 is in its table;
    of others the name is, and a text of three digits follows, plain or in Huffman's code, where 5 is 011011."""
    if block[:1] == b"\x8e":
        return True
    if block[:1] not in (b"\x08", b"\x18", b"\x48"):
        return False
    is_of_server = block[2:3] == b"5" if block[1:2] == b"\x03" else int.from_bytes(block[2:3]) & 0xFC == 0x6C
    return is_of_server and not block[1:].startswith((b"\x03501", b"\x82\x6c\x01"))


def _http1(rng: Random, path: str, payload: bytes, kind: str) -> bytes:
    secret = f"{texts.SECRET}-{rng.getrandbits(32):08x}"
    verb = rng.choice(("POST", "POST", "GET", "BREW", "CONNECT", "post"))
    lines = [
        f"{verb} {rng.choice((path, '/v1/logs', '/metrics', '/api/v1/logs'))} HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {secret}",
        f"cookie: session={secret}",
        f"content-type: {rng.choice(('application/json', 'application/x-protobuf', 'application/grpc'))}",
    ]
    if kind == "slow":
        # As it should be, but slowly.
        lines[0] = "POST /v1/logs HTTP/1.1"
        return _joined([*lines, f"content-length: {len(payload)}", "connection: close"]) + payload
    if kind == "half":
        return _joined([*lines, f"content-length: {len(payload) + 1000}"])[: rng.randrange(30, 400)] + payload[:100]
    lie = rng.choice(
        (
            ["content-length: -1"],
            ["content-length: 99999999999999999999"],
            ["content-length: 5", "content-length: 6"],
            ["content-length: 0x10"],
            ["transfer-encoding: chunked", "content-length: 4"],
            ["transfer-encoding: chunked, identity"],
            ["transfer-encoding: xchunked"],
            ["transfer-encoding : chunked"],
            ["x-long: " + "a" * 70_000],
            ["bad header"],
            ["x\0y: z"],
            [f"x-{number}: y" for number in range(200)],
            ["expect: 100-continue", "content-length: 5"],
            ["upgrade: h2c", "connection: upgrade, http2-settings", "http2-settings: AAMAAABkAAQAAP__"],
            ["upgrade: websocket", "connection: upgrade"],
        )
    )
    chunks = rng.choice(
        (
            b"zz\r\nabc\r\n",
            b"5\r\nabcdefgh\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nx",
            b"0\r\n" + b"a: b\r\n" * 9,
            b"-5\r\n",
        )
    )
    return _joined([*lines, *lie]) + rng.choice((chunks, payload[:200]))


def _joined(lines: list[str]) -> bytes:
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def _http2(rng: Random, path: str, payload: bytes, token: str) -> bytes:
    """A call of gRPC in frames, perhaps with one of what a hostile client adds."""
    secret = token or f"{texts.SECRET}-{rng.getrandbits(32):08x}"
    odd_path = rng.choice((path, path, path, f"{path}?x=\xff", f"{path}\xc3", path[:-1] + "\xf4\x90\x80\x80", "\xff"))
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", odd_path),
        (":authority", "127.0.0.1"),
        ("te", "trailers"),
        (
            "content-type",
            rng.choice(("application/grpc", "application/grpc", "application/grpc+proto", "text/html", "")),
        ),
        ("authorization", f"Bearer {secret}"),
    ]
    if rng.random() < 0.5:
        odd = ("1n", "0S", "-1S", "99999999999H", "x", "", "1", "99999999H", "5S")
        fields.append(("grpc-timeout", rng.choice(odd)))
    flag, body = 0, payload
    if rng.random() < 0.4:
        name, body = mutations.squeezed(rng, payload)
        fields.append(("grpc-encoding", name))
        flag = rng.choice((0, 1, 1, 1, 2, 255))
    if rng.random() < 0.1:
        fields.append(
            rng.choice((("x-long", "a" * 20_000), (":path", "/b"), ("UPPER", "x"), ("a\nb", "c"), ("x-bin", "%%%")))
        )
    size = rng.choice((len(body), len(body), len(body), len(body) + 5, max(len(body) - 1, 0), 2**32 - 1, 2**31))
    message = struct.pack(">BI", flag, size) + body
    frames = [PREFACE, _frame(_SETTINGS, 0, 0, b""), _frame(_HEADERS, 4, 1, _block(fields))]
    for at in range(0, len(message), 16_000):
        frames.append(_frame(_DATA, 0, 1, message[at : at + 16_000]))
    frames.append(_frame(_DATA, 1, 1, b""))
    extra = rng.choice(
        (
            b"",
            b"",
            _frame(_RST, 0, 1, b"\0\0\0\x08"),
            _frame(_PING, 0, 0, b"12345678") * 50,
            _frame(_SETTINGS, 0, 0, b"\0\4\0\0\0\0") * 20,
            _frame(_SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
            _frame(_WINDOW, 0, 1, b"\x7f\xff\xff\xff") * 2,
            _frame(_WINDOW, 0, 0, b"\0\0\0\0"),
            _frame(_CONTINUATION, 0, 1, b"\x82") * 30,
            _frame(_GOAWAY, 0, 0, bytes(8)),
            _frame(_HEADERS, 1, 2, _block(fields)),
            _frame(99, 255, 7, b"?"),
            b"".join(
                _frame(_HEADERS, 4, 3 + 2 * n, _block(fields)) + _frame(_RST, 0, 3 + 2 * n, b"\0\0\0\x08")
                for n in range(60)
            ),
        )
    )
    frames.insert(rng.randrange(2, len(frames) + 1), extra)
    return b"".join(frames)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _block(fields: list[tuple[str, str]]) -> bytes:
    """Header fields as HPACK literals without an index."""
    made = b""
    for name, value in fields:
        made += b"\x10" + _hpack(name.encode("latin-1", "replace")) + _hpack(value.encode("latin-1", "replace"))
    return made[:16_000]


def _hpack(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    rest = size - 127
    made = bytearray((127,))
    while rest > 127:
        made.append(rest % 128 + 128)
        rest //= 128
    made.append(rest)
    return bytes(made) + text
