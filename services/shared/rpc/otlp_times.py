"""OTLP's moments, which are unsigned on the wire, as the signed nanoseconds of everything else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def nanoseconds(moments: pa.Array) -> pa.Array:
    """int64[n] from uint64[n]: null where it is 0, which says that it is not known.

    A moment beyond int64 stays out of every range instead of wrapping into one.
    """
    # Typed scalars: against a plain 0 Arrow would compare as int64, which refuses the largest moments.
    known = pc.if_else(pc.equal(moments, pa.scalar(0, pa.uint64())), pa.scalar(None, pa.uint64()), moments)
    return pc.min_element_wise(known, pa.scalar(2**63 - 1, pa.uint64()), skip_nulls=False).cast(pa.int64())
