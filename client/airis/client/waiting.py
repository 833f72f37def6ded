"""What tasks of one event loop wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Changed:
    """Wakes everybody who waits for a condition; telling it needs no lock, so it can be told from anywhere."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something has changed: conditions are looked at again."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds."""
        while not condition():
            await self.next()

    async def next(self) -> None:
        """Returns when something has changed."""
        await self._event.wait()


class Patience:
    """How long there may be no progress.

    Args:
        limit: Seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._since = clock()

    def restart(self) -> None:
        """There was progress."""
        self._since = self._clock()

    @property
    def is_spent(self) -> bool:
        """Whether there was none for too long."""
        return self._clock() - self._since > self._limit
