"""A serialised request whose fixed-width fields are overwritten for each request: making one costs microseconds.

The request is built once as a protobuf message, with marks where timestamps, values, ids and digits go. OTLP's times
and values are fixed64 and its ids have a fixed length, so that overwriting them in place leaves valid protobuf.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
_BINARY_MARK = b"\xa5\x5a\xf0"
_TEXT_MARK = "\x11\x13"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def binary_mark(field: int, index: int, width: int = 8) -> bytes:
    """Stands for one item's bytes of a field (0 to 255), `width` long (8 or more)."""
    return (_BINARY_MARK + bytes([field]) + index.to_bytes(4, "big")).ljust(width, b"\x00")


def fixed64_mark(field: int, index: int) -> int:
    """Stands for one item's fixed64."""
    return int.from_bytes(binary_mark(field, index), "little")


def sfixed64_mark(field: int, index: int) -> int:
    """Stands for one item's sfixed64."""
    return int.from_bytes(binary_mark(field, index), "little", signed=True)


def double_mark(field: int, index: int) -> float:
    """Stands for one item's double; of the first 32,000 items none is NaN, whose bits might change."""
    value: float = struct.unpack("<d", binary_mark(field, index))[0]
    return value


def text_mark(index: int, width: int) -> str:
    """Stands for one item's text, `width` characters long (6 or more). One field of text of each width."""
    digits = ""
    for _ in range(width - len(_TEXT_MARK)):
        index, digit = divmod(index, 36)
        digits = _DIGITS[digit] + digits
    return _TEXT_MARK + digits


def decimal(numbers: npt.NDArray[np.int64], width: int) -> Bytes:
    """Numbers as decimal digits with leading zeros: one row of `width` bytes each."""
    places = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return ((numbers[:, None] // places) % 10 + 48).astype(np.uint8)


def octets(values: npt.NDArray[np.int64] | npt.NDArray[np.uint64] | npt.NDArray[np.float64]) -> Bytes:
    """64-bit numbers as protobuf's fixed64 writes them: one row of eight bytes each."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), 8)


class Template:
    """A serialised message with marks.

    Args:
        serialized: The message.
        fields: How long each marked field of bytes or fixed64 is; a mark may be missing in some items.
        texts: How long each marked field of text is.

    Attributes:
        items: For each field ("3") and each text ("text 6") the index that each of its marks carries, in order.
    """

    def __init__(self, serialized: bytes, fields: Mapping[int, int], texts: tuple[int, ...] = ()) -> None:
        self._bytes = np.frombuffer(serialized, np.uint8)
        self._places: dict[str, npt.NDArray[np.int64]] = {}
        self.items: dict[str, npt.NDArray[np.int64]] = {}
        for field, width in fields.items():
            found = re.finditer(re.escape(_BINARY_MARK + bytes([field])) + b"(....)", serialized, re.DOTALL)
            self._keep(str(field), width, [(match.start(), int.from_bytes(match[1], "big")) for match in found])
        for width in texts:
            pattern = re.escape(_TEXT_MARK.encode()) + b"([0-9a-z]{%d})" % (width - len(_TEXT_MARK))
            matches = list(re.finditer(pattern, serialized))
            self._keep(f"text {width}", width, [(match.start(), int(match[1], 36)) for match in matches])

    def _keep(self, name: str, width: int, found: list[tuple[int, int]]) -> None:
        starts = np.array([start for start, _ in found], np.int64)
        self._places[name] = starts[:, None] + np.arange(width)
        self.items[name] = np.array([item for _, item in found], np.int64)

    def __len__(self) -> int:
        """Its length in bytes."""
        return len(self._bytes)

    def fill(self, values: Mapping[str, Bytes]) -> bytes:
        """A request: for each field one row of bytes an item, taken by the index of each mark."""
        filled = self._bytes.copy()
        for name, rows in values.items():
            filled[self._places[name]] = rows[self.items[name]]
        return filled.tobytes()
