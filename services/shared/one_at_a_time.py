"""Long work in Python beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class OneAtATime:
    """Runs work in a thread, one at a time, so that it cannot take all of the processor.

    A thread goes on though nobody waits for it any more: only when it has ended may the next one begin.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(1)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Gives what the work returns; raises what it raises."""
        await self._free.acquire()
        working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        working.add_done_callback(self._ended)
        return await asyncio.shield(working)

    def _ended(self, working: asyncio.Future[Any]) -> None:
        self._free.release()
        # Marks a failure as seen: whoever asked may have gone away.
        working.cancelled() or working.exception()
