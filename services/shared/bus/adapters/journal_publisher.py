"""The journal's publishing side: group commit.

Publishers queue their batches; one task writes all that are waiting as one group with one sync and then answers
them. Batches become durable in the order in which they were published; when the disk is full, all that wait are
refused with the group, so that no later batch of a sender overtakes a refused one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic

from services.shared.bus.adapters.journal_backlog import Backlog, Held
from services.shared.bus.adapters.journal_framing import START_BYTES, encode_header
from services.shared.bus.adapters.journal_segments import DiskFullError, OutOfFilesError, Segments
from services.shared.bus.port import Batch, ColumnsT, Position
from services.shared.errors import AirisError, InvalidArgumentError, ResourceExhaustedError, UnavailableError

# 8 MiB sync in about 10 ms: larger groups would only add to the latency.
_GROUP_BYTES = 8 * 1024 * 1024
_BACKLOG_RETRY_SECONDS = 1.0
_DISK_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PublishLimits:
    """What the journal takes: beyond it batches are refused with BACKLOG_FULL.

    Attributes:
        max_backlog_bytes: Frames that are not committed.
        max_backlog_batches: Their number; bounds the memory that headers take (about 200 bytes each).
        max_pending_bytes: Frames that wait to be written.
    """

    max_backlog_bytes: int
    max_backlog_batches: int
    max_pending_bytes: int


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ColumnsT]):
    batch: Batch[ColumnsT]
    header: bytes
    frame_bytes: int
    arrived: float
    durable: asyncio.Future[Position]


class GroupCommit(Generic[ColumnsT]):
    """Takes batches while its task runs.

    Attributes:
        failure: Set when the disk failed: nothing is taken until the journal is opened again.
        frames: Batches made durable.
        frame_bytes: Their bytes on the disk.
        pending_bytes: Bytes that wait to be written or are being written.
    """

    def __init__(
        self,
        segments: Segments,
        backlog: Backlog[ColumnsT],
        limits: PublishLimits,
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
    ) -> None:
        self._segments = segments
        self._backlog = backlog
        self._limits = limits
        self._clock = clock
        self._crash_point = crash_point
        self._queue: deque[_Waiting[ColumnsT]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._refusal: Callable[[], AirisError] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-write")
        self._task = asyncio.create_task(self._run(), name="journal group commit")
        self.failure: str | None = None
        self.frames = 0
        self.frame_bytes = 0
        self.pending_bytes = 0

    async def publish(self, batch: Batch[ColumnsT]) -> Position:
        """See `port.Publisher.publish`. Cancelled before its group is written, the batch is not taken."""
        header = encode_header(batch.header)
        frame_bytes = START_BYTES + len(header) + len(batch.payload)
        self.check_room(frame_bytes)
        durable: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(batch, header, frame_bytes, self._clock(), durable))
        self.pending_bytes += frame_bytes
        self._wake.set()
        return await durable

    def check_room(self, size: int) -> None:
        """See `port.Publisher.check_room`."""
        if self._closing:
            raise closed()
        if failure := self.failure or self._backlog.failure:
            raise UnavailableError(failure)
        if self._refusal:
            raise self._refusal()
        limits = self._limits
        if size > min(limits.max_backlog_bytes, limits.max_pending_bytes):
            raise InvalidArgumentError(
                f"The batch takes {size} bytes, more than the journal holds: send smaller batches.",
                reason="SIZE_LIMIT_EXCEEDED",
            )
        if (
            self._backlog.frame_bytes + self.pending_bytes + size > limits.max_backlog_bytes
            or len(self._backlog) + len(self._queue) >= limits.max_backlog_batches
        ):
            raise _backlog_full("Too much acknowledged data waits for the store; send the batch again later.")
        if self.pending_bytes + size > limits.max_pending_bytes:
            raise _backlog_full("More data arrives than the disk takes; send the batch again later.")

    async def close(self) -> None:
        """Refuses new batches, writes those that wait, and stops."""
        self._closing = True
        self._wake.set()
        await self._task
        await asyncio.to_thread(self._thread.shutdown)

    def fail(self, message: str) -> None:
        """Refuses everything from now on: it is not known what is on the disk."""
        self.failure = message
        self._refuse(list(self._queue), lambda: UnavailableError(message))
        self._queue.clear()

    def _try_again(self) -> None:
        self._refusal = None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                group = self._next_group()
                if group:
                    await self._commit(group)
            if self._closing:
                return

    def _next_group(self) -> list[_Waiting[ColumnsT]]:
        group: list[_Waiting[ColumnsT]] = []
        group_bytes = 0
        while self._queue and group_bytes < _GROUP_BYTES:
            waiting = self._queue.popleft()
            if waiting.durable.done():
                self.pending_bytes -= waiting.frame_bytes
                continue
            group.append(waiting)
            group_bytes += waiting.frame_bytes
        return group

    async def _commit(self, group: list[_Waiting[ColumnsT]]) -> None:
        frames = [(waiting.header, waiting.batch.payload) for waiting in group]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._segments.append, self._backlog.last + 1, frames)
            self._crash_point("before acknowledge")
        except (DiskFullError, OutOfFilesError) as error:
            self._refusal = _disk_full if isinstance(error, DiskFullError) else _out_of_files
            self._refuse(group + list(self._queue), self._refusal)
            self._queue.clear()
            # Until those have heard of it nobody behind them may try: the next could find room before them.
            loop.call_soon(self._try_again)
        except Exception as error:
            message = (
                f"The journal stopped because its disk failed ({error}): whether the batch was taken is not known."
                " Check the disk and restart the service."
            )
            self._refuse(group, lambda: UnavailableError(message))
            self.fail(message)
        else:
            self._acknowledge(group)

    def _acknowledge(self, group: list[_Waiting[ColumnsT]]) -> None:
        for waiting in group:
            position = self._backlog.add(waiting.header, waiting.frame_bytes)
            self._backlog.offer(position, Held(waiting.batch, waiting.frame_bytes, waiting.arrived))
            self.pending_bytes -= waiting.frame_bytes
            self.frame_bytes += waiting.frame_bytes
            if not waiting.durable.done():
                waiting.durable.set_result(Position(position))
        self.frames += len(group)
        self._backlog.arrivals.set()

    def _refuse(self, refused: list[_Waiting[ColumnsT]], error: Callable[[], AirisError]) -> None:
        for waiting in refused:
            self.pending_bytes -= waiting.frame_bytes
            if not waiting.durable.done():
                waiting.durable.set_exception(error())


def closed() -> UnavailableError:
    """What a journal that is not open answers."""
    return UnavailableError("The service is starting or stopping; try again.", reason="NOT_READY", retry_after=1.0)


def _backlog_full(message: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(message, reason="BACKLOG_FULL", retry_after=_BACKLOG_RETRY_SECONDS)


def _disk_full() -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "The disk of the journal is full; the batch was not taken. Send it again later.",
        reason="DISK_FULL",
        retry_after=_DISK_RETRY_SECONDS,
    )


def _out_of_files() -> UnavailableError:
    return UnavailableError(
        "The service has too many files and connections open; the batch was not taken. Send it again later.",
        retry_after=_BACKLOG_RETRY_SECONDS,
    )
