"""Bytes that are nearly a message, nearly JSON, or nearly what their content-encoding says."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache
from random import Random
from typing import Any

import zstandard

from tests.fuzz import texts

ENCODINGS = ("gzip", "deflate", "zstd")


def wire(rng: Random, payload: bytes) -> bytes:
    """A message's bytes with one to four things wrong."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        payload = rng.choice(_WIRE)(rng, payload)
    return payload[: 1 << 21]


def json_text(rng: Random, tree: Any) -> bytes:
    """A JSON text of a tree, with what is wrong in the tree, in the text, or nothing."""
    choice = rng.random()
    if choice < 0.6:
        tree = _mutated(rng, tree, 0)
    encoded = json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if choice < 0.35 or choice > 0.8:
        return encoded
    kind = rng.randrange(10)
    at = rng.randrange(len(encoded) + 1)
    if kind == 0:
        return encoded[:at]
    if kind == 1:
        return encoded[:at] + rng.randbytes(rng.randrange(1, 5)) + encoded[at:]
    if kind == 2:
        return b"\xef\xbb\xbf" + encoded
    if kind == 3:
        depth = rng.choice((50, 99, 101, 1000, 20_000))
        return rng.choice((b"[", b'{"a":', b'{"metrics":[')) * depth
    if kind == 4:
        return encoded + rng.choice((b"x", b"{}", b"\0", b",", b"\n\n"))
    if kind == 5:
        return encoded.replace(b'"', b"'")
    if kind == 6:
        return encoded.replace(b": ", b": " + rng.choice((b"NaN", b"1e9999", b"-", b"0x1", b"9" * 5000, b"\\u0000")), 1)
    if kind == 7:
        return rng.choice((b"", b"null", b"[]", b"0", b'""', b"true", b"{", b"}", b"\xff\xfe", b"{}" * 5, b" " * 5000))
    if kind == 8:
        return encoded.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-7")))
    return encoded.replace(b"{", b'{"a":1,"a":2,', 1)


def squeezed(rng: Random, payload: bytes) -> tuple[str, bytes]:
    """A content-encoding, and a body that has it: whole, broken, a bomb, or of another."""
    encoding = rng.choice(ENCODINGS)
    choice = rng.random()
    if choice < 0.15:
        return encoding, bomb(encoding, rng.choice((8, 40, 100)))
    body = compress(encoding, payload)
    if choice < 0.3:
        return encoding, body[: rng.randrange(len(body) + 1)]
    if choice < 0.45:
        return encoding, _flip(rng, body)
    if choice < 0.5:
        return encoding, body + rng.randbytes(20)
    if choice < 0.55:
        return encoding, compress(encoding, body)
    if choice < 0.7:
        return rng.choice(("br", "gzip, gzip", "x", "", "identity", "zstd", "gzip\t", "snappy")), body
    return encoding, body


def compress(encoding: str, payload: bytes) -> bytes:
    """By a content-encoding."""
    if encoding == "gzip":
        return gzip.compress(payload, 1)
    if encoding == "deflate":
        return zlib.compress(payload, 1)
    return zstandard.ZstdCompressor(level=1).compress(payload)


@cache
def bomb(encoding: str, mebibytes: int) -> bytes:
    """A small body that stands for very many zeros."""
    block = bytes(1 << 20)
    if encoding == "zstd":
        compressor = zstandard.ZstdCompressor(level=19).compressobj()
    else:
        compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    return b"".join([*(compressor.compress(block) for _ in range(mebibytes)), compressor.flush()])


def varint(value: int) -> bytes:
    """As protobuf writes it."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _flip(rng: Random, payload: bytes) -> bytes:
    changed = bytearray(payload or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(rng: Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload) + 1)
    return payload[:at] + rng.randbytes(rng.randrange(1, 12)) + payload[at:]


def _delete(rng: Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload) + 1)
    return payload[:at] + payload[at + rng.randrange(1, 20) :]


def _cut(rng: Random, payload: bytes) -> bytes:
    return payload[: rng.randrange(len(payload) + 1)]


def _repeat(rng: Random, payload: bytes) -> bytes:
    begin = rng.randrange(len(payload) + 1)
    piece = payload[begin : begin + rng.randrange(1, 60)]
    return payload[:begin] + piece * rng.choice((2, 3, 50)) + payload[begin:]


def _unknown(rng: Random, payload: bytes) -> bytes:
    number = rng.choice((1, 2, 3, 9, 15, 16, 99, 18999, 2**29 - 1, 0, 2**29))
    tag = varint(number << 3 | rng.randrange(8))
    value = rng.choice((b"", b"\1", b"\xff" * 9 + b"\1", b"\x80" * 11, bytes(8), bytes(4), b"\3abc", b"\x7f"))
    return rng.choice((payload + tag + value, tag + value + payload))


def _length(rng: Random, payload: bytes) -> bytes:
    """A length that lies."""
    at = rng.randrange(len(payload) + 1)
    size = rng.choice((2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**64 - 1, 0, 1, len(payload)))
    return payload[:at] + varint(rng.randrange(1, 6) << 3 | 2) + varint(size) + payload[at:]


def _nest(rng: Random, payload: bytes) -> bytes:
    """A message within a message within …"""
    number = rng.choice((1, 1, 2, 3, 5, 6))
    inner = payload[:64]
    for _ in range(rng.choice((3, 20, 99, 101, 400))):
        inner = varint(number << 3 | 2) + varint(len(inner)) + inner
    return inner if rng.random() < 0.5 else payload + inner


def _groups(rng: Random, payload: bytes) -> bytes:
    return (
        payload + varint(rng.randrange(1, 9) << 3 | 3) * rng.choice((1, 50, 101, 5000)) + b"\x0c" * rng.choice((0, 1))
    )


def _bad_text(rng: Random, payload: bytes) -> bytes:
    bad = rng.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x28"))
    at = rng.randrange(len(payload) + 1)
    return payload[:at] + bad + payload[at + len(bad) :]


def _items(rng: Random, payload: bytes) -> bytes:
    return payload + rng.choice((b"\x0a\x00", b"\x0a\x02\x0a\x00", b"\x12\x00")) * rng.choice(
        (10, 10, 100, 100, 1000, 1000, 100_000 if rng.random() < 0.05 else 30)
    )


_WIRE = (
    _flip, _flip, _flip, _insert, _delete, _cut, _repeat, _unknown, _length, _nest, _groups, _bad_text, _items,
)  # fmt: skip


def _mutated(rng: Random, node: Any, depth: int) -> Any:
    if rng.random() < 0.08:
        return _odd(rng)
    if isinstance(node, dict):
        changed = {key: _mutated(rng, value, depth + 1) for key, value in node.items()}
        if rng.random() < 0.1:
            changed[texts.text(rng)] = _odd(rng)
        return changed
    if isinstance(node, list):
        many = 30 if depth < 3 and rng.random() < 0.05 else 1
        return [_mutated(rng, item, depth + 1) for item in node] * many
    return node


def _odd(rng: Random) -> Any:
    deep: Any = "deep"
    if rng.random() < 0.1:
        for _ in range(rng.choice((20, 63, 65, 99, 150, 400))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return rng.choice(
        (None, True, 0, -1, 2**63, 2**64, -(10**400), 1.5, 1e308, "", "x", [], {}, [None], {"": None}, [[]], "\ud800",
         float("nan"), float("inf"), "2026-02-30T00:00:00Z", "9999999999999s", "-1.5s", "AQ", "====", texts.text(rng))
    )  # fmt: skip
