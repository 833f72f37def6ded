"""What the store has, for processes that may have no part in storing it: the group's committed offsets.

They are asked for once for all who wait, and only while somebody does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from services.shared.bus.adapters.kafka_client import closed, describe
from services.shared.bus.adapters.kafka_offsets import GroupOffsets
from services.shared.bus.port import Position, partition_of, place

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 0.1
_LONGEST_DELAY = 2.0


class GroupProgress:
    """Implements `port.Progress` but for what needs the publisher.

    Args:
        offsets: Where to ask.
        clock: Monotonic seconds.
    """

    def __init__(self, offsets: GroupOffsets, clock: Callable[[], float] = time.monotonic) -> None:
        self._offsets = offsets
        self._clock = clock
        self._known: dict[int, int] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def note(self, partition: int, offset: int) -> None:
        """Takes a commit of this very process into account at once."""
        self._raise_to(partition, offset)
        self._wake()

    async def committed(self) -> tuple[Position, ...]:
        """See `port.Progress.committed`; at most a tenth of a second old."""
        if self._closing:
            raise closed()
        await self._ask()
        return tuple(place(partition, self._known.get(partition, 0)) for partition in range(self._offsets.partitions))

    async def wait_committed(self, position: Position) -> None:
        """See `port.Progress.wait_committed`. Raises `UnavailableError` when the bus closes first."""
        partition = partition_of(position)
        await self._wait(lambda: place(partition, self._known.get(partition, 0)) >= position)

    async def wait_progress(self, seen: tuple[Position, ...]) -> None:
        """See `port.Progress.wait_progress`."""
        before = {partition_of(position): position for position in seen}
        await self._wait(
            lambda: any(
                place(partition, offset) > before.get(partition, place(partition, 0))
                for partition, offset in self._known.items()
            )
        )

    async def close(self) -> None:
        """Wakes all who wait."""
        self._closing = True
        self._wake()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._closing:
                raise closed()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._poll(), name="progress of the group")
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(news)
            try:
                await news
            finally:
                self._waiting.discard(news)

    async def _poll(self) -> None:
        delay = _POLL_SECONDS
        while self._waiting:
            try:
                await self._ask()
                self._wake()
                delay = _POLL_SECONDS
            except Exception as error:
                # Whatever it is: others wait.
                delay = min(delay * 2, _LONGEST_DELAY)
                logger.warning("progress_unknown", error=describe(error), retry_in=delay)
            await asyncio.sleep(delay)

    async def _ask(self) -> None:
        async with self._asking:
            if self._clock() - self._asked < _POLL_SECONDS * 0.9:
                return
            found = await self._offsets.committed(range(self._offsets.partitions))
            self._asked = self._clock()
        for partition, committed in found.items():
            self._raise_to(partition, committed.offset)

    def _raise_to(self, partition: int, offset: int) -> None:
        # What was stored stays stored, even if an operator sets the group's offset back.
        self._known[partition] = max(offset, self._known.get(partition, 0))

    def _wake(self) -> None:
        for news in self._waiting:
            if not news.done():
                news.set_result(None)
