"""The journal's consuming side: joins batches into inserts, records their boundaries, commits.

The boundary of an insert is synced before the insert is handed out. A commit is written without a sync of its
own: the sync of the next boundary, which is in the same file, covers it. A power cut can therefore undo only the
newest commit; then that one insert comes again, the same, and the store knows its token. Before a segment is
deleted the commit is synced, so that what is deleted is never asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from services.shared.bus.adapters.journal_backlog import LONG_AGO, Backlog, Held
from services.shared.bus.adapters.journal_checkpoint import Checkpoint, Standing
from services.shared.bus.adapters.journal_framing import decode_header
from services.shared.bus.adapters.journal_publisher import closed
from services.shared.bus.adapters.journal_segments import NO_FILES, NO_SPACE, Segments
from services.shared.bus.port import Batch, ColumnsT, Header, Insert, InsertLimits, Position
from services.shared.errors import FailedPreconditionError, UnavailableError

T = TypeVar("T")


class InsertJoiner(Generic[ColumnsT]):
    """Hands out one insert after the other, to one worker.

    Args:
        offset: Where the first batch that is not committed is in its segment.
    """

    def __init__(
        self,
        segments: Segments,
        backlog: Backlog[ColumnsT],
        checkpoint: Checkpoint,
        offset: int,
        decode: Callable[[Header, bytes], ColumnsT],
        limits: InsertLimits,
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
    ) -> None:
        self._segments = segments
        self._backlog = backlog
        self._checkpoint = checkpoint
        self._offset = offset
        self._decode = decode
        self._limits = limits
        self._clock = clock
        self._crash_point = crash_point
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._turn = asyncio.Lock()
        self._closing = False
        self._waiters: set[tuple[int, asyncio.Future[None]]] = set()
        self._insert: Insert[ColumnsT] | None = None
        # The insert in the making: batches up to this one have joined it.
        self._joined = backlog.committed
        self._items = self._bytes = 0
        self._began = LONG_AGO
        standing = checkpoint.standing
        self._boundary = standing.last if standing.last > backlog.committed else 0

    async def next_insert(self) -> Insert[ColumnsT]:
        """See `port.Consumer.next_insert`. An insert that is not committed is handed out again."""
        async with self._turn:
            self._refuse_unless_usable()
            while self._insert is None:
                is_repeated = bool(self._boundary)
                if not self._boundary:
                    await self._wait_until_complete()
                    self._boundary = self._joined
                await self._join()
                await self._in_thread(self._record_boundary, self._boundary)
                self._insert = self._make_insert(is_repeated)
                self._began = self._clock()
            return self._insert

    async def commit(self, insert: Insert[ColumnsT]) -> None:
        """See `port.Consumer.commit`. A repetition changes nothing.

        Raises:
            FailedPreconditionError: It is not the insert under way.
            UnavailableError: The journal is closed or its disk failed; the insert is still under way.
        """
        # A task of its own: a worker that is cancelled in between must not leave half a commit.
        await asyncio.shield(asyncio.create_task(self._commit(insert)))

    async def wait_committed(self, position: int) -> None:
        """See `port.Progress.wait_committed`. Raises `UnavailableError` when the journal closes first."""
        if position <= self._backlog.committed:
            return
        self._refuse_unless_usable()
        waiter = (position, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._backlog.arrivals.set()
        try:
            await waiter[1]
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        """Wakes all who wait, finishes a commit under way, and stops."""
        self._closing = True
        self._backlog.arrivals.set()
        self._wake_waiters(closed)
        await asyncio.to_thread(self._thread.shutdown)

    async def _wait_until_complete(self) -> None:
        while not await self._join():
            self._backlog.arrivals.clear()
            left = None if self._joined == self._backlog.committed else self._seconds_left()
            if left is not None and left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._backlog.arrivals.wait()
            self._refuse_unless_usable()

    def _seconds_left(self) -> float:
        oldest = self._backlog.held(self._backlog.committed + 1)
        ready = oldest.arrived + self._limits.max_age if oldest else LONG_AGO
        if not self._waiters:
            ready = max(ready, self._began + self._limits.interval)
        return max(0.0, ready - self._clock())

    async def _join(self) -> bool:
        """Lets what is there join, up to the boundary or the limits; returns whether nothing more fits."""
        while self._joined < (self._boundary or self._backlog.last):
            position = self._joined + 1
            held = self._backlog.held(position) or await self._read(position)
            items = self._items + held.batch.header.item_count
            size = self._bytes + len(held.batch.payload)
            empty = self._joined == self._backlog.committed
            if not self._boundary and not empty and self._exceeds(items, size):
                return True
            self._offset = self._offset_of(position) + held.frame_bytes
            self._joined, self._items, self._bytes = position, items, size
        limits = self._limits
        return self._items >= limits.max_items or self._bytes >= limits.max_bytes or self._has_all_batches()

    def _exceeds(self, items: int, size: int) -> bool:
        return items > self._limits.max_items or size > self._limits.max_bytes or self._has_all_batches()

    def _has_all_batches(self) -> bool:
        return self._joined - self._backlog.committed >= self._limits.max_batches

    def _offset_of(self, position: int) -> int:
        return 0 if self._segments.starts_at(position) else self._offset

    async def _read(self, position: int) -> Held[ColumnsT]:
        last = position
        while last < self._backlog.last and self._backlog.held(last + 1) is None and last - position < 1000:
            last += 1
        offset = self._offset_of(position)
        frames = await self._in_thread(self._segments.read, position, offset, last, self._limits.max_bytes)
        for frame, payload in frames:
            batch = Batch(decode_header(frame.header), payload, self._decode)
            self._backlog.hold(frame.position, Held(batch, frame.frame_bytes, LONG_AGO))
        held = self._backlog.held(position)
        if held is None:
            raise UnavailableError(f"The journal's batch {position} cannot be read again: its file was cut.")
        return held

    def _make_insert(self, is_repeated: bool) -> Insert[ColumnsT]:
        first, last = self._backlog.committed + 1, self._boundary
        batches = []
        for position in range(first, last + 1):
            held = self._backlog.held(position)
            assert held is not None  # noqa: S101 - joined batches are held until they are committed
            batches.append((Position(position), held.batch))
        token = f"{self._checkpoint.journal_id}:{first}-{last}"
        return Insert(token, Position(last), tuple(batches), is_repeated)

    async def _commit(self, insert: Insert[ColumnsT]) -> None:
        self._refuse_unless_usable()
        if insert.last <= self._backlog.committed:
            return
        if self._insert is None or insert.token != self._insert.token:
            raise FailedPreconditionError(f"Insert {insert.token} is not under way: commit what next_insert returned.")
        await self._in_thread(self._record_commit, int(insert.last))
        if insert.last <= self._backlog.committed:
            return
        self._backlog.commit(insert.last)
        self._insert = None
        self._boundary = self._items = self._bytes = 0
        for position, committed in self._waiters:
            if position <= insert.last and not committed.done():
                committed.set_result(None)

    def _record_boundary(self, last: int) -> None:
        committed = self._backlog.committed
        self._crash_point("before boundary")
        self._checkpoint.write(Standing(committed, committed + 1, last, self._backlog.last))
        self._crash_point("after boundary write")
        self._checkpoint.sync()
        self._crash_point("after boundary sync")

    def _record_commit(self, last: int) -> None:
        standing = self._checkpoint.standing
        self._crash_point("before commit")
        self._checkpoint.write(Standing(last, standing.first, standing.last, self._backlog.last))
        self._crash_point("after commit")
        if self._segments.has_committed(last):
            self._checkpoint.sync()
            self._segments.delete(last)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        self._refuse_unless_usable()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
        except OSError as error:
            if error.errno in NO_SPACE:
                # A file system that copies on write says so here, or a limit; what was recorded before still counts.
                raise UnavailableError("The disk of the journal is full: make room.", retry_after=5.0) from error
            if error.errno in NO_FILES:
                raise UnavailableError(
                    "The service has too many files and connections open.", retry_after=1.0
                ) from error
            self._fail(f"The journal stopped because its disk failed ({error}): check it and restart the service.")
            raise UnavailableError(str(self._backlog.failure)) from error

    def _fail(self, message: str) -> None:
        """After a failed sync nothing is known of the checkpoint: stops until the journal is opened again."""
        self._backlog.failure = message
        self._wake_waiters(lambda: UnavailableError(message))

    def _wake_waiters(self, error: Callable[[], UnavailableError]) -> None:
        for _, committed in self._waiters:
            if not committed.done():
                committed.set_exception(error())

    def _refuse_unless_usable(self) -> None:
        if self._closing:
            raise closed()
        if self._backlog.failure:
            raise UnavailableError(self._backlog.failure)
