"""The minutes whose calls between services have to be found anew, because spans of them came."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

_MINUTE_NS = 60_000_000_000
# Clocks differ: a called span may start a little before its caller's first or after its last moment.
_SKEW_NS = 5_000_000_000


class StaleMinutes:
    """Minutes since 1970, each once.

    Args:
        longest_call: Seconds that a called span may start after its caller did.
        capacity: Minutes remembered; beyond it the oldest are forgotten.
    """

    def __init__(self, longest_call: int, capacity: int = 50_000) -> None:
        self._longest_call_ns = longest_call * 1_000_000_000
        self._capacity = capacity
        self._minutes: set[int] = set()

    def mark_spans(self, spans: pa.Table) -> None:
        """Marks the minutes in which spans start, and those in which spans that they call may.

        Args:
            spans: With start_time (timestamp[ns]) and duration_ns (int64, nullable).
        """
        if spans.num_rows == 0:
            return
        start = spans.column("start_time").cast(pa.int64()).to_numpy()
        duration = spans.column("duration_ns").fill_null(0).to_numpy()
        begin = (start - _SKEW_NS) // _MINUTE_NS
        end = (start + np.clip(duration, 0, self._longest_call_ns) + _SKEW_NS) // _MINUTE_NS
        # As one number, which takes a fiftieth of the time of finding different pairs.
        step = int((end - begin).max()) + 1
        for pair in np.unique(begin * step + (end - begin)).tolist():
            first, further = divmod(pair, step)
            self._minutes.update(range(first, first + further + 1))
        if len(self._minutes) > self._capacity:
            self._minutes = set(sorted(self._minutes)[-self._capacity :])

    def mark(self, minutes: Iterable[int]) -> None:
        """Marks minutes."""
        self._minutes.update(minutes)

    def take(self, most: int) -> tuple[int, int] | None:
        """Takes out the newest minutes that follow each other, at most so many: the first and the last of them."""
        if not self._minutes:
            return None
        first = last = max(self._minutes)
        while last - first + 1 < most and first - 1 in self._minutes:
            first -= 1
        self._minutes.difference_update(range(first, last + 1))
        return first, last

    def __len__(self) -> int:
        return len(self._minutes)
