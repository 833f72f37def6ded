"""Many lengths of time in little memory."""

from __future__ import annotations

import math

_SHORTEST = 0.0001
_RATIO = 1.04
_BUCKETS = 400


class Latencies:
    """Counts lengths in buckets whose ends grow by 4 %, from 0.1 ms to ten minutes."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0

    def add(self, seconds: float) -> None:
        """Counts one."""
        index = 0 if seconds <= _SHORTEST else math.ceil(math.log(seconds / _SHORTEST, _RATIO))
        self._counts[min(index, _BUCKETS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """The seconds within which a share (0 to 1) of them ended, at most 4 % too much; NaN when there are none."""
        if not self.count:
            return math.nan
        left = max(1, math.ceil(share * self.count))
        for index, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return _SHORTEST * _RATIO**index
        raise AssertionError("The counts do not add up.")

    def copy(self) -> Latencies:
        """As they are now."""
        other = Latencies()
        other._counts, other.count = list(self._counts), self.count
        return other

    def since(self, before: Latencies) -> Latencies:
        """Those that were added since a copy was made."""
        other = Latencies()
        other._counts = [now - then for now, then in zip(self._counts, before._counts, strict=True)]
        other.count = self.count - before.count
        return other
