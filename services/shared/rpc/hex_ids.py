"""Trace and span ids: bytes on OTLP's wire, lowercase hex everywhere else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


def to_hex(ids: pa.Array, size: int) -> pa.Array:
    """Words ids.

    Args:
        ids: binary[n]
        size: How many bytes a valid id has.

    Returns:
        string[n]; empty where an id is absent, of another length or all zeros, which OTLP counts as absent.
    """
    valid = pc.and_(
        pc.equal(pc.binary_length(ids), size), pc.not_equal(ids, pa.scalar(bytes(size), ids.type))
    ).fill_null(False)
    return pc.if_else(valid, hex_digits(ids), "")


def hex_digits(ids: pa.Array) -> pa.Array:
    """binary[n] of any lengths as their digits, string[n], for a check that refuses wrong ones."""
    offsets, data = ids.buffers()[1:]
    ends = (
        np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1] if len(ids) else np.zeros(1, np.int32)
    )
    first, last = int(ends[0]), int(ends[-1])
    content = np.frombuffer(data, np.uint8)[first:last] if last > first else np.zeros(0, np.uint8)
    return pa.StringArray.from_buffers(
        len(ids), pa.py_buffer(((ends - first) * 2).tobytes()), pa.py_buffer(_DIGITS[content].tobytes())
    )
