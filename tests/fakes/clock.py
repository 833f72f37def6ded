"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class FakeTimer:
    """A call that is due later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """It will not be made."""
        self.callback = None


class FakeClock:
    """Gives monotonic seconds, and sleeps by moving on.

    Args:
        now: The first reading, in seconds.
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        """The time now, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Lets time pass, and makes the calls that fall due, each at its own time."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if timer.callback is not None:
                timer.callback()
        self.now = max(self.now, end)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> FakeTimer:
        """Makes a call when that many seconds have passed, as an event loop does."""
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Lets time pass, and others run."""
        self.advance(seconds)
        await asyncio.sleep(0)
