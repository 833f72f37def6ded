"""Delays between attempts: they double up to a limit, with full jitter, so that many clients do not return at once."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The delays of one sequence of attempts.

    Args:
        initial: The longest first delay in seconds.
        maximum: The longest delay in seconds.
        uniform: Gives a random number of a range.
    """

    def __init__(
        self,
        initial: float = 0.1,
        maximum: float = 5.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial
        self._maximum = maximum
        self._uniform = uniform
        self._next = initial

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt; never quite none, so that attempts do not spin."""
        longest, self._next = self._next, min(self._next * 2, self._maximum)
        return self._uniform(longest / 10, longest)

    def reset(self) -> None:
        """Begins anew: the last attempt got somewhere."""
        self._next = self._initial
