"""The embedded bus: an append-only log of segment files in one directory, for one process.

The data path: `publish` queues; `journal_publisher` writes groups through `journal_segments` (framed by
`journal_framing`) and syncs them; `journal_backlog` keeps what is not committed; `journal_consumer` joins it into
inserts, whose boundaries and commits `journal_checkpoint` records. All file access is in two threads: one
writes segments, one reads them and writes the checkpoint.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic

import structlog

from services.shared.bus.adapters.journal_backlog import Backlog
from services.shared.bus.adapters.journal_checkpoint import Checkpoint
from services.shared.bus.adapters.journal_consumer import InsertJoiner
from services.shared.bus.adapters.journal_publisher import GroupCommit, PublishLimits, closed
from services.shared.bus.adapters.journal_segments import Segments
from services.shared.bus.port import Batch, ColumnsT, Header, Insert, InsertLimits, Position
from services.shared.errors import AirisError, UnavailableError
from services.shared.files import sync_directory

logger = structlog.get_logger(__name__)

CRASH_POINTS = (
    "after segment created",
    "before write",
    "after write",
    "after sync",
    "before acknowledge",
    "before boundary",
    "after boundary write",
    "after boundary sync",
    "before commit",
    "after commit",
    "before delete",
    "after delete",
)
"""Steps between which a process may die. Tests do so there, or raise an OSError as a disk would."""

_MIB = 1024 * 1024


class Journal(Generic[ColumnsT]):
    """Implements `port.Bus`. Opened once, closed once.

    Args:
        directory: Holds the journal and nothing else; made if missing. One process at a time has it.
        decode: Turns a header and wire bytes into columns; called when a batch is replayed.
        limits: When batches become an insert.
        segment_bytes: Size of a file after which the next is begun.
        max_backlog_bytes: Bytes durable but not committed, beyond which batches are refused.
        max_backlog_batches: Their number, likewise; about 200 bytes of memory each.
        max_pending_bytes: Bytes waiting to be written, likewise.
        max_held_bytes: Memory for published batches that stay there until committed; beyond this, batches
            are read again from the files.
        clock: Monotonic seconds.
        journal_id: Makes the id of a new journal.
        crash_point: Called with each of `CRASH_POINTS`, also from other threads.
    """

    def __init__(
        self,
        directory: Path,
        decode: Callable[[Header, bytes], ColumnsT],
        *,
        limits: InsertLimits | None = None,
        segment_bytes: int = 64 * _MIB,
        max_backlog_bytes: int = 4096 * _MIB,
        max_backlog_batches: int = 1_000_000,
        max_pending_bytes: int = 64 * _MIB,
        max_held_bytes: int = 256 * _MIB,
        clock: Callable[[], float] = time.monotonic,
        journal_id: Callable[[], uuid.UUID] = uuid.uuid4,
        crash_point: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._directory = directory
        self._decode = decode
        self._limits = limits or InsertLimits()
        self._publish_limits = PublishLimits(max_backlog_bytes, max_backlog_batches, max_pending_bytes)
        self._clock = clock
        self._journal_id = journal_id
        self._crash_point = crash_point
        self._segments = Segments(directory, segment_bytes, crash_point)
        self._backlog: Backlog[ColumnsT] = Backlog(max_held_bytes)
        self._checkpoint: Checkpoint | None = None
        self._publisher: GroupCommit[ColumnsT] | None = None
        self._consumer: InsertJoiner[ColumnsT] | None = None
        self._lock = -1
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Recovers what is there.

        Raises:
            UnavailableError: Another process has the journal, or it is damaged beyond a torn tail, or a newer
                version wrote it.
        """
        try:
            offset, checkpoint = await asyncio.to_thread(self._recover)
        except OSError as error:
            self._release()
            raise UnavailableError(f"The journal in {self._directory} cannot be opened: {error}.") from error
        except BaseException:
            self._release()
            raise
        self._publisher = GroupCommit(
            self._segments, self._backlog, self._publish_limits, self._clock, self._crash_point
        )
        self._consumer = InsertJoiner(
            self._segments,
            self._backlog,
            checkpoint,
            offset,
            self._decode,
            self._limits,
            self._clock,
            self._crash_point,
        )

    async def close(self) -> None:
        """Refuses new batches, writes those that wait, and lets go of files and threads."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def publish(self, batch: Batch[ColumnsT]) -> Position:
        """See `port.Publisher.publish`."""
        if self._publisher is None:
            raise closed()
        return await self._publisher.publish(batch)

    def check_room(self, size: int) -> None:
        """See `port.Publisher.check_room`."""
        if self._publisher is None:
            raise closed()
        self._publisher.check_room(size)

    def note_settled(self, tenant: str, producer_id: str, sequence: int) -> None:
        """See `port.Publisher.note_settled`: nothing is remembered of what was refused."""

    async def next_insert(self) -> Insert[ColumnsT]:
        """See `port.Consumer.next_insert`; an insert that is not committed is handed out again."""
        return await self._consuming().next_insert()

    async def commit(self, insert: Insert[ColumnsT]) -> None:
        """See `port.Consumer.commit`; a repetition changes nothing."""
        await self._consuming().commit(insert)

    async def set_aside(self, position: Position, batch: Batch[ColumnsT], error: Exception) -> None:
        """See `port.Consumer.set_aside`: logs what is refused; an error of another kind stops the worker."""
        if not isinstance(error, AirisError):
            raise error
        # It was decoded before it was published, so only a changed program can fail here. One such batch must not
        # keep all later ones from the store.
        logger.error("batch_unreadable", position=position, items=batch.header.item_count, error=error.message)

    async def wait_committed(self, position: Position) -> None:
        """See `port.Progress.wait_committed`."""
        await self._consuming().wait_committed(position)

    def uncommitted(self) -> Sequence[tuple[Position, Header]]:
        """Headers of batches that are durable but not committed, in order."""
        return self._backlog.headers()

    @property
    def backlog_bytes(self) -> int:
        """Bytes of frames that are durable but not committed."""
        return self._backlog.frame_bytes

    async def check(self) -> None:
        """Raises `UnavailableError` if the disk failed, or the journal is closed."""
        if self._publisher is None:
            raise closed()
        if failure := self._publisher.failure or self._backlog.failure:
            raise UnavailableError(failure)

    async def committed(self) -> tuple[Position, ...]:
        """The last committed position of the one partition; 0 if nothing is."""
        return (Position(self._backlog.committed),)

    async def wait_progress(self, seen: tuple[Position, ...]) -> None:
        """See `port.Progress.wait_progress`."""
        await self.wait_committed(Position(seen[0] + 1))

    async def wait_settled(self, header: Header) -> None:
        """See `port.Progress.wait_settled`."""
        await self.wait_committed(Position(self._backlog.last))

    @property
    def frames(self) -> int:
        """Batches made durable since `open`."""
        return self._publisher.frames if self._publisher else 0

    @property
    def frame_bytes(self) -> int:
        """Their bytes on the disk."""
        return self._publisher.frame_bytes if self._publisher else 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._publisher.pending_bytes if self._publisher else 0

    @property
    def held_bytes(self) -> int:
        """Bytes of payloads in memory."""
        return self._backlog.held_bytes

    @property
    def fsyncs(self) -> int:
        """Syncs of segments since `open`."""
        return self._segments.fsyncs

    @property
    def fsync_seconds(self) -> float:
        """Time they took."""
        return self._segments.fsync_seconds

    def _consuming(self) -> InsertJoiner[ColumnsT]:
        if self._consumer is None:
            raise closed()
        return self._consumer

    def _recover(self) -> tuple[int, Checkpoint]:
        missing = [path for path in (self._directory, *self._directory.parents) if not path.exists()]
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)
        self._take_lock()
        if not Checkpoint.exists(self._directory):
            if any(self._directory.glob("*.segment")):
                raise UnavailableError(
                    f"The journal in {self._directory} has segment files but no checkpoint: restore the checkpoint."
                )
            Checkpoint.create(self._directory, self._journal_id())
        self._checkpoint = checkpoint = Checkpoint.open(self._directory)
        standing = checkpoint.standing
        backlog = self._backlog
        backlog.committed = backlog.last = standing.committed
        offset = None
        for frame in self._segments.recover(standing.committed):
            offset = frame.offset if offset is None else offset
            backlog.add(frame.header, frame.frame_bytes)
        durable = max(standing.durable, standing.last)
        if backlog.last < durable and standing.committed < durable:
            raise UnavailableError(
                f"The journal in {self._directory} ends at batch {backlog.last}, but batches up to {durable} were"
                " acknowledged: restore its segment files."
            )
        return self._segments.written_bytes if offset is None else offset, checkpoint

    def _take_lock(self) -> None:
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"Another process has the journal in {self._directory} open: stop it, or use another directory."
            ) from None

    async def _close(self) -> None:
        if self._publisher is not None:
            await self._publisher.close()
        if self._consumer is not None:
            await self._consumer.close()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._segments.close()
        if self._checkpoint is not None:
            self._checkpoint.close()
            self._checkpoint = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
