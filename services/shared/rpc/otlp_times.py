"""OTLP's moments, which are unsigned on the wire, as the signed nanoseconds of everything else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_LAST = np.uint64(2**63 - 1)


def nanoseconds(moments: pa.Array) -> pa.Array:
    """int64[n] from uint64[n]: null where it is 0, which says that it is not known.

    A moment beyond int64 stays out of every range instead of wrapping into one.
    """
    if moments.null_count:
        moments = moments.fill_null(0)
    unsigned = moments.to_numpy()
    known = np.minimum(unsigned, _LAST).view(np.int64)
    unknown = unsigned == 0
    return pa.array(known, mask=unknown if np.count_nonzero(unknown) else None)
