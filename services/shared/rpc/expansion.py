"""What many items share is written out for each of them: refused before it takes more memory than a request may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.errors import InvalidArgumentError

MOST_BYTES = 64 * 1024 * 1024
"""8,000 items, as a collector sends them at once, may share 8 KiB of attributes."""

Indices = np.ndarray[Any, np.dtype[Any]]


def refuse_expansion(owner: Indices, texts: Sequence[pa.Array], offsets: Indices | None = None) -> None:
    """Looks how large the texts are that items take from their owners.

    Args:
        owner: int[n]: whose each item is, of k.
        texts: string[m] each; nulls take nothing.
        offsets: int[k + 1]: owner i has the texts offsets[i] to offsets[i + 1]; None: owner i has text i.

    Raises:
        InvalidArgumentError: Together more than `MOST_BYTES` (SIZE_LIMIT_EXCEEDED).
    """
    # Mostly all of it would fit for each item.
    if len(owner) * sum(array.nbytes for array in texts) <= MOST_BYTES:
        return
    lengths = np.zeros(len(texts[0]), np.int64)
    for array in texts:
        lengths += pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate(([0], np.cumsum(lengths)))
    of_owner = np.diff(ends if offsets is None else ends[offsets])
    total = int(of_owner @ np.bincount(owner, minlength=len(of_owner)))
    if total > MOST_BYTES:
        raise InvalidArgumentError(
            f"What the items of the request inherit from their resource, scope or metric takes {total >> 20} MiB when "
            f"it is written out for each; at most {MOST_BYTES >> 20} MiB are allowed. Send fewer items in a request.",
            reason="SIZE_LIMIT_EXCEEDED",
        )
