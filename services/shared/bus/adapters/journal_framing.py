"""The journal's frame: a fixed start, the batch's header, its payload. Pure: no files, no clock.

The start has the same layout in every version, so that a frame of a newer version is told from a damaged one:
its checksum is right. All numbers are little-endian.
"""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import dataclass

from services.shared.bus.port import Header

VERSION = 1
"""Of the encoding of headers and payloads behind the start."""

MAGIC = b"AJRN"
_START = struct.Struct("<4sB3xIIQQI")
START_BYTES = _START.size
_CHECKSUM_AT = START_BYTES - 4
_NUMBERS = struct.Struct("<qQQIIIII")


@dataclass(frozen=True, slots=True)
class Start:
    """What the first bytes of a frame say.

    Attributes:
        version: Of the frame.
        header_bytes: Length of the encoded header.
        payload_bytes: Length of the payload.
        position: The batch's position.
        group: The position of the first frame that was written and synced together with this one: everything
            before it was on the disk when this frame was begun.
        checksum: CRC-32 of all other bytes of the frame.
    """

    version: int
    header_bytes: int
    payload_bytes: int
    position: int
    group: int
    checksum: int

    @property
    def frame_bytes(self) -> int:
        """Length of the whole frame."""
        return START_BYTES + self.header_bytes + self.payload_bytes


def encode_header(header: Header) -> bytes:
    """Encodes a header; rejected indices take 4 bytes each.

    Raises:
        struct.error: A number does not fit its field.
    """
    texts = [text.encode() for text in (header.tenant, header.message_type, header.request_id, header.producer_id)]
    numbers = _NUMBERS.pack(
        header.received_at, header.item_count, header.sequence, *map(len, texts), len(header.rejected)
    )
    return b"".join((numbers, *texts, struct.pack(f"<{len(header.rejected)}I", *header.rejected)))


def decode_header(data: bytes) -> Header:
    """Reads what `encode_header` wrote."""
    received_at, item_count, sequence, *lengths, rejected_count = _NUMBERS.unpack_from(data)
    texts = []
    at = _NUMBERS.size
    for length in lengths:
        texts.append(data[at : at + length].decode())
        at += length
    return Header(
        # Few distinct values over many headers: one object each.
        tenant=sys.intern(texts[0]),
        message_type=sys.intern(texts[1]),
        received_at=received_at,
        item_count=item_count,
        request_id=texts[2],
        producer_id=texts[3],
        sequence=sequence,
        rejected=struct.unpack_from(f"<{rejected_count}I", data, at),
    )


def encode_start(position: int, group: int, header: bytes, payload: bytes, version: int = VERSION) -> bytes:
    """The start of a frame; the header and the payload follow it (and are not copied)."""
    start = _START.pack(MAGIC, version, len(header), len(payload), position, group, 0)[:_CHECKSUM_AT]
    checksum = zlib.crc32(payload, zlib.crc32(header, zlib.crc32(start)))
    return start + checksum.to_bytes(4, "little")


def parse_start(data: bytes | memoryview) -> Start | None:
    """Reads the start of a frame; None if the bytes are too few or begin none."""
    if len(data) < START_BYTES:
        return None
    magic, *fields = _START.unpack_from(data)
    return Start(*fields) if magic == MAGIC else None


def is_whole(start: Start, frame: bytes | memoryview) -> bool:
    """Whether the frame is complete and its checksum right."""
    if len(frame) < start.frame_bytes:
        return False
    view = memoryview(frame)
    checksum = zlib.crc32(view[START_BYTES : start.frame_bytes], zlib.crc32(view[:_CHECKSUM_AT]))
    return checksum == start.checksum


def synced_after(data: bytes, position: int) -> bool:
    """Whether a whole frame in the bytes was begun after the frame of a position had been synced.

    Tells damage from a torn write: a power cut may tear any frame of the group that was being written, but none
    of a group before it.
    """
    at = data.find(MAGIC)
    while at >= 0:
        start = parse_start(memoryview(data)[at : at + START_BYTES])
        if start and start.group > position and is_whole(start, memoryview(data)[at : at + start.frame_bytes]):
            return True
        at = data.find(MAGIC, at + 1)
    return False
