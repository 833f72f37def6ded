"""Tables in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa


def parts_of(table: pa.Table, ends: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[pa.Table, int]]:
    """The rows up to each end (int64[k], ascending), and where they begin. Nothing is copied."""
    begin = 0
    for end in ends.tolist():
        yield table.slice(begin, end - begin), begin
        begin = end
