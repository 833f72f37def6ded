"""What a circuit breaker remembers: how many of the last calls failed or were slow, in constant time and memory."""

from __future__ import annotations

import math
from typing import Protocol

_FAILED = 1
_SLOW = 2

_LEAST_BUCKETS = 10


class Window(Protocol):
    """The calls of the recent past, counted.

    Attributes:
        calls: How many.
        failures: How many of them failed.
        slow_calls: How many of them were slow, failed or not.
    """

    calls: int
    failures: int
    slow_calls: int

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """Adds a call that ended now, in monotonic seconds, and forgets those that are too old."""

    def forget(self, now: float) -> None:
        """Forgets the calls that are too old."""


class CountWindow:
    """The last calls, a fixed number of them.

    Args:
        size: How many; 1 or more.
    """

    __slots__ = ("_next", "_ring", "calls", "failures", "slow_calls")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self._next = 0
        self.calls = 0
        self.failures = 0
        self.slow_calls = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """Adds a call in place of the oldest."""
        ring, place = self._ring, self._next
        oldest = ring[place]
        if oldest:
            self.failures -= oldest & _FAILED
            self.slow_calls -= oldest >> 1
        mark = 0
        if failed:
            mark = _FAILED
            self.failures += 1
        if slow:
            mark |= _SLOW
            self.slow_calls += 1
        ring[place] = mark
        place += 1
        self._next = 0 if place == len(ring) else place
        if self.calls < len(ring):
            self.calls += 1

    def forget(self, now: float) -> None:
        """Does nothing: calls do not age."""


class TimeWindow:
    """The calls of the last seconds, in buckets of one second, or a tenth of the window where that is shorter.

    A whole bucket is forgotten at a time, so the window is up to one bucket shorter than its length.

    Args:
        seconds: Its length; above 0.
    """

    __slots__ = ("_bucket_seconds", "_buckets", "_last", "calls", "failures", "slow_calls")

    def __init__(self, seconds: float) -> None:
        count = max(_LEAST_BUCKETS, math.ceil(seconds))
        self._bucket_seconds = seconds / count
        self._buckets = [[0, 0, 0] for _ in range(count)]
        self._last: int | None = None
        self.calls = 0
        self.failures = 0
        self.slow_calls = 0

    def record(self, failed: bool, slow: bool, now: float) -> None:
        """Adds a call to the bucket of now."""
        self.forget(now)
        bucket = self._buckets[(self._last or 0) % len(self._buckets)]
        bucket[0] += 1
        self.calls += 1
        if failed:
            bucket[1] += 1
            self.failures += 1
        if slow:
            bucket[2] += 1
            self.slow_calls += 1

    def forget(self, now: float) -> None:
        """Empties the buckets that have come round again."""
        current = int(now // self._bucket_seconds)
        last = self._last
        if last is None:
            self._last = current
            return
        # A clock read before another thread's, used after it, falls into that thread's bucket.
        passed = min(current - last, len(self._buckets))
        for step in range(1, passed + 1):
            bucket = self._buckets[(last + step) % len(self._buckets)]
            self.calls -= bucket[0]
            self.failures -= bucket[1]
            self.slow_calls -= bucket[2]
            bucket[0] = bucket[1] = bucket[2] = 0
        if passed > 0:
            self._last = current
