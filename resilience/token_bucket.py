"""A bucket of tokens that fills steadily: the arithmetic below every rate limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction

_NANOSECONDS = 1_000_000_000


class TokenBucket:
    """Holds up to `burst` tokens, and gains `per_second` each second until it is full. It begins full.

    The count is exact: time is counted in whole nanoseconds and tokens in whole parts, so nothing is lost or won by
    rounding, however long it runs. Nothing runs in the background: a take first adds what has come since the last one.
    A clock that goes back adds nothing and takes nothing away. Safe to use from several threads.

    Args:
        per_second: Tokens that are added each second; above 0.
        burst: The most tokens that it holds; 1 or more.
        clock: Gives monotonic seconds.

    Raises:
        ValueError: `per_second` or `burst` is out of range.
    """

    __slots__ = ("_at", "_capacity", "_clock", "_credit", "_gain", "_lock", "_token")

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < per_second < float("inf"):
            raise ValueError(f"per_second must be above 0 and finite, not {per_second}.")
        if burst < 1:
            raise ValueError(f"burst must be 1 or more, not {burst}.")
        # As it is written, so that 0.1 is a tenth. One nanosecond gains `_gain` parts, one token is `_token` parts.
        rate = Fraction(str(per_second))
        self._gain = rate.numerator
        self._token = rate.denominator * _NANOSECONDS
        self._capacity = burst * self._token
        self._credit = self._capacity
        self._clock = clock
        self._at = int(clock() * _NANOSECONDS + 0.5)
        self._lock = threading.Lock()

    def take(self, tokens: int = 1) -> float:
        """Takes tokens, all or none.

        Args:
            tokens: How many; 1 to the burst.

        Returns:
            0.0 when they were taken; otherwise the seconds until they would be there if nobody else took any, rounded
            up to a microsecond. (A clock of days cannot show every nanosecond; then a microsecond more may be asked.)

        Raises:
            ValueError: The bucket can never hold so many, or `tokens` is not positive.
        """
        wanted = tokens * self._token
        if not 0 < wanted <= self._capacity:
            raise ValueError(f"tokens must be 1 to {self._capacity // self._token}, not {tokens}.")
        with self._lock:
            now = int(self._clock() * _NANOSECONDS + 0.5)
            credit = self._credit
            if now > self._at:
                credit += (now - self._at) * self._gain
                self._at = now
                if credit > self._capacity:
                    credit = self._capacity
            if credit >= wanted:
                self._credit = credit - wanted
                return 0.0
            self._credit = credit
        return -((credit - wanted) // (self._gain * 1000)) / 1e6

    def available(self) -> float:
        """The tokens that it holds now."""
        with self._lock:
            return self._refill() / self._token

    def is_full(self) -> bool:
        """Whether it holds all that it can: then it is as good as a new one."""
        with self._lock:
            return self._refill() == self._capacity

    def copy(self) -> TokenBucket:
        """Another bucket that holds the same now."""
        other = object.__new__(TokenBucket)
        other._gain, other._token, other._capacity = self._gain, self._token, self._capacity
        other._clock, other._lock = self._clock, threading.Lock()
        with self._lock:
            other._credit, other._at = self._refill(), self._at
        return other

    def _refill(self) -> int:
        now = int(self._clock() * _NANOSECONDS + 0.5)
        if now > self._at:
            self._credit = min(self._capacity, self._credit + (now - self._at) * self._gain)
            self._at = now
        return self._credit
