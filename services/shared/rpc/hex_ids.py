"""Trace and span ids: bytes on OTLP's wire, lowercase hex everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from services.shared.text_columns import bounds_and_bytes

_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


def to_hex(ids: pa.Array, size: int) -> pa.Array:
    """Words ids.

    Args:
        ids: binary[n]
        size: How many bytes a valid id has; a multiple of 8.

    Returns:
        string[n]; empty where an id is absent, of another length or all zeros, which OTLP counts as absent.
    """
    bounds, content = bounds_and_bytes(ids)
    valid = bounds[1:] - bounds[:-1] == size
    if not np.count_nonzero(valid):
        return pa.repeat("", len(ids))
    if not valid.all():
        content = content[np.repeat(valid, bounds[1:] - bounds[:-1])]
    # Eight bytes at a time: an id of zeros is one whose words are.
    words = content.view(np.uint64)
    is_zero = words[:: size // 8] == 0
    for place in range(1, size // 8):
        is_zero &= words[place :: size // 8] == 0
    if np.count_nonzero(is_zero):
        valid[np.flatnonzero(valid)[is_zero]] = False
        content = content[np.repeat(~is_zero, size)]
    ends = np.cumsum(valid, dtype=np.int32) * np.int32(2 * size)
    return _texts(np.concatenate((np.zeros(1, np.int32), ends)), content)


def hex_digits(ids: pa.Array) -> pa.Array:
    """binary[n] of any lengths as their digits, string[n], for a check that refuses wrong ones."""
    bounds, content = bounds_and_bytes(ids)
    return _texts(bounds * np.int32(2), content)


def _texts(bounds: np.ndarray[Any, np.dtype[np.int32]], content: np.ndarray[Any, np.dtype[np.uint8]]) -> pa.Array:
    return pa.StringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(_DIGITS[content]))
