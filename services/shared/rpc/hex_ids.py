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
    is_valid = valid.to_numpy(zero_copy_only=False)
    joined = b"".join(ids.filter(valid).to_pylist())
    digits = _DIGITS[np.frombuffer(joined, np.uint8)]
    offsets = np.concatenate(([0], np.cumsum(is_valid) * (2 * size))).astype(np.int32)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))
