"""Whatever a power cut or a disk does to the end of the journal: whole frames stay, damage is noticed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.bus.adapters.journal import Journal
from services.shared.bus.adapters.journal_framing import (
    decode_header,
    encode_header,
    encode_start,
    is_whole,
    parse_start,
)
from services.shared.bus.port import Batch, Header
from services.shared.errors import UnavailableError

HEADERS = st.builds(
    Header,
    tenant=st.text(max_size=20),
    message_type=st.text(max_size=20),
    received_at=st.integers(-(2**63), 2**63 - 1),
    item_count=st.integers(0, 2**63),
    request_id=st.text(max_size=20),
    producer_id=st.text(max_size=20),
    sequence=st.integers(0, 2**63),
    rejected=st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple),
)
# Payloads that look like frames must not confuse the search for later frames.
PAYLOADS = st.binary(max_size=80) | st.just(b"AJRN" * 10)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


async def write(directory: Path, groups: list[list[bytes]]) -> list[list[int]]:
    """Publishes each group as one; returns where the frames of each end."""
    journal = Journal(directory, decode)
    await journal.open()
    ends: list[list[int]] = []
    size = 0
    for number, group in enumerate(groups):
        headers = [Header("default", "m", 1, 1, f"r{number}-{index}") for index in range(len(group))]
        await asyncio.gather(
            *(journal.publish(Batch(header, payload, decode)) for header, payload in zip(headers, group, strict=True))
        )
        ends.append([])
        for header, payload in zip(headers, group, strict=True):
            encoded = encode_header(header)
            size += len(encode_start(1, 1, encoded, payload)) + len(encoded) + len(payload)
            ends[-1].append(size)
    assert journal.fsyncs == len(groups)
    await journal.close()
    assert segment(directory).stat().st_size == size
    return ends


def segment(directory: Path) -> Path:
    return next(directory.glob("*.segment"))


async def positions(directory: Path) -> list[int]:
    journal = Journal(directory, decode)
    await journal.open()
    try:
        found = [int(position) for position, _ in journal.uncommitted()]
        assert await journal.publish(Batch(Header("default", "m", 1, 1), b"next", decode)) == len(found) + 1
        return found
    finally:
        await journal.close()


@given(HEADERS)
@settings(max_examples=200, deadline=None)
def test_headers_survive_encoding(header: Header) -> None:
    assert decode_header(encode_header(header)) == header


@given(HEADERS, PAYLOADS, st.data())
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_of_a_frame_is_noticed(header: Header, payload: bytes, data: st.DataObject) -> None:
    encoded = encode_header(header)
    frame = bytearray(encode_start(7, 5, encoded, payload) + encoded + payload)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    start = parse_start(bytes(frame))
    assert start is None or not is_whole(start, bytes(frame))


@given(st.lists(st.lists(PAYLOADS, min_size=1, max_size=4), min_size=1, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_a_cut_at_any_byte_leaves_exactly_the_whole_frames_before_it(
    groups: list[list[bytes]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ends = [end for group in asyncio.run(write(directory, groups)) for end in group]
        cut = data.draw(st.integers(0, ends[-1]))
        path = segment(directory)
        path.write_bytes(path.read_bytes()[:cut])
        whole = sum(end <= cut for end in ends)
        assert asyncio.run(positions(directory)) == list(range(1, whole + 1))


@given(st.lists(st.lists(PAYLOADS, min_size=1, max_size=4), min_size=1, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_cut_off_in_the_newest_group_and_reported_before_it(
    groups: list[list[bytes]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ends = asyncio.run(write(directory, groups))
        bit = data.draw(st.integers(0, ends[-1][-1] * 8 - 1))
        path = segment(directory)
        content = bytearray(path.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        synced = ends[-2][-1] if len(ends) > 1 else 0
        if bit // 8 < synced:
            with pytest.raises(UnavailableError, match="damaged at byte"):
                asyncio.run(positions(directory))
        else:
            whole = sum(end <= bit // 8 for group in ends for end in group)
            assert asyncio.run(positions(directory)) == list(range(1, whole + 1))
