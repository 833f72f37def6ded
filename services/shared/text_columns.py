"""Columns of texts, measured and checked by their bytes: all at once, without a look at each text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ZEROS = np.frombuffer(b"0" * 8, np.uint64)[0]

Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""bool[n]: of which texts it is so."""
Bounds = np.ndarray[Any, np.dtype[np.int32]]
"""int32[n + 1]: where each text begins and ends."""


def bounds_and_bytes(texts: pa.Array) -> tuple[Bounds, np.ndarray[Any, np.dtype[np.uint8]]]:
    """string[n] or binary[n] without nulls as where each begins, from 0, and the bytes of all, neither copied."""
    _, offsets, data = texts.buffers()
    if len(texts) == 0:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(bounds[0]), int(bounds[-1])
    content = np.frombuffer(data, np.uint8)[first:last] if last > first else np.zeros(0, np.uint8)
    return (bounds - first if first else bounds), content


def byte_lengths(texts: pa.Array) -> Bounds:
    """int32[n]: how many bytes each has; 0 where there is none."""
    if texts.null_count:
        return pc.binary_length(texts).fill_null(0).to_numpy()  # type: ignore[no-any-return]
    bounds, _ = bounds_and_bytes(texts)
    return bounds[1:] - bounds[:-1]


def longer_than(texts: pa.Array, most: int) -> Mask:
    """Which of string[n] have more than so many characters."""
    longer: Mask = byte_lengths(texts) > most
    # A text has no more characters than bytes: few are left to count.
    if np.count_nonzero(longer):
        candidates = longer.nonzero()[0]
        longer[candidates] = pc.utf8_length(texts.take(pa.array(candidates))).to_numpy() > most
    return longer


def are_hex(texts: pa.Array, digits: int) -> Mask:
    """Which of string[n], without nulls, are so many hex digits, small or capital."""
    bounds, content = bounds_and_bytes(texts)
    fit: Mask = bounds[1:] - bounds[:-1] == digits
    # Unsigned bytes wrap: what lies below the first digit or letter is far above the last.
    is_digit = content - np.uint8(ord("0")) < 10
    is_letter = (content | np.uint8(0x20)) - np.uint8(ord("a")) < 6
    hexadecimal = is_digit | is_letter
    if np.count_nonzero(hexadecimal) < len(hexadecimal):
        other = (~hexadecimal).nonzero()[0]
        fit[np.searchsorted(bounds, other, side="right") - 1] = False
    return fit


def are_ids(texts: pa.Array, digits: int) -> Mask:
    """Which of string[n], without nulls, are so many hex digits, a multiple of 8, that are not all 0."""
    fit = are_hex(texts, digits)
    _, content = bounds_and_bytes(texts)
    if len(content) != digits * len(texts) or not fit.all():
        zeros: Mask = pc.equal(texts, "0" * digits).to_numpy(zero_copy_only=False)
        return fit & ~zeros
    # Eight digits at a time.
    words = content.view(np.uint64)
    is_zero: Mask = words[:: digits // 8] == _ZEROS
    for place in range(1, digits // 8):
        is_zero &= words[place :: digits // 8] == _ZEROS
    return ~is_zero
