"""The journal's segment files: recover, append, read, delete. Blocking; two threads use it (see `journal.py`).

A segment's name is the position of its first frame; a frame never spans two. Only the last segment is written,
so only its tail can be torn: damage anywhere else is reported, never skipped.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.shared.bus.adapters.journal_framing import (
    START_BYTES,
    VERSION,
    encode_start,
    is_whole,
    parse_start,
    synced_after,
)
from services.shared.errors import UnavailableError
from services.shared.files import sync_directory

_SUFFIX = ".segment"
_MOST_VECTORS = 1024
# The store beside it must be able to go on with what is here, and needs some room to be safe: see clickhouse/room.py.
_LEAST_FREE_BYTES = 128 * 1024 * 1024
# EFBIG: the process may not write larger files; like a full disk it passes when somebody makes room.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Only of opening a file, so that nothing was written; it passes when something is closed.
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class DiskFullError(Exception):
    """There is no space; nothing of the group was left behind, and a later group may be written."""


class OutOfFilesError(Exception):
    """No further file can be opened; nothing of the group was left behind, and a later group may be written."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame of a segment, without its payload."""

    position: int
    offset: int
    header: bytes
    frame_bytes: int


class _DamagedError(Exception):
    def __init__(self, offset: int, position: int) -> None:
        super().__init__()
        self.offset = offset
        self.position = position


class Segments:
    """The segment files of a directory.

    Args:
        directory: Holds them; must exist.
        segment_bytes: A segment that has reached this is followed by a new one.
        crash_point: Called with the names of `journal.CRASH_POINTS`.

    Attributes:
        fsync_seconds: Time spent in syncs of segments.
        fsyncs: How many there were.
    """

    def __init__(self, directory: Path, segment_bytes: int, crash_point: Callable[[str], None]) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._crash_point = crash_point
        self._lock = threading.Lock()
        self._firsts: list[int] = []
        self._descriptor = -1
        self._size = 0
        self.fsync_seconds = 0.0
        self.fsyncs = 0

    def path(self, first: int) -> Path:
        """The file of the segment that begins at a position."""
        return self._directory / f"{first:020d}{_SUFFIX}"

    @property
    def written_bytes(self) -> int:
        """Length of the segment that is written."""
        return self._size

    def starts_at(self, position: int) -> bool:
        """Whether a segment begins at the position."""
        with self._lock:
            return position in self._firsts

    def recover(self, committed: int) -> Iterator[Frame]:
        """Yields the frames after the committed position, and gets ready to append.

        Raises:
            UnavailableError: Batches are missing or damaged, or of a newer version.
        """
        firsts = sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}"))
        done = [first for first, following in itertools.pairwise(firsts) if following <= committed + 1]
        for first in done:
            self.path(first).unlink()
        self._firsts = firsts[len(done) :]
        expected = committed + 1
        if self._firsts and self._firsts[0] > expected:
            raise UnavailableError(
                f"Batches {expected} to {self._firsts[0] - 1} are missing from the journal in {self._directory}:"
                " restore its segment files."
            )
        for number, first in enumerate(self._firsts):
            if number == 0:
                expected = first
            elif first != expected:
                raise UnavailableError(
                    f"{self.path(first)} should begin with batch {expected}: segment files of the journal are"
                    " missing or renamed; restore them."
                )
            for frame in self._recover_segment(first):
                expected = frame.position + 1
                if frame.position > committed:
                    yield frame
        if self._firsts and expected <= committed:
            # Its end was lost, but all of it is committed: positions go on behind what was handed out.
            self.path(self._firsts.pop()).unlink()
        if self._firsts:
            self._descriptor = os.open(self.path(self._firsts[-1]), os.O_RDWR | os.O_CLOEXEC)
            self._size = os.fstat(self._descriptor).st_size
            # Frames of a process that was killed may be in memory only.
            os.fsync(self._descriptor)

    def append(self, position: int, batches: Sequence[tuple[bytes, bytes]]) -> None:
        """Writes encoded headers and payloads as one group and syncs it.

        Raises:
            DiskFullError: There is no space; as if it had not been called.
            OutOfFilesError: No file can be opened; likewise.
            OSError: It is not known what is on the disk: nothing may be written any more.
        """
        free = os.statvfs(self._directory)
        if free.f_bavail * free.f_frsize < _LEAST_FREE_BYTES:
            raise DiskFullError
        if not self._firsts or self._size >= self._segment_bytes:
            self._begin_segment(position)
        vectors: list[bytes] = []
        for number, (header, payload) in enumerate(batches, start=position):
            vectors += (encode_start(number, position, header, payload), header, payload)
        before = self._size
        self._crash_point("before write")
        try:
            self._size += self._write(vectors)
        except OSError as error:
            # Durably cut: frames that were whole must not come back after their publishers were refused.
            os.ftruncate(self._descriptor, before)
            os.fsync(self._descriptor)
            if error.errno in NO_SPACE:
                raise DiskFullError from error
            raise
        self._crash_point("after write")
        began = time.perf_counter()
        os.fdatasync(self._descriptor)
        self.fsync_seconds += time.perf_counter() - began
        self.fsyncs += 1
        self._crash_point("after sync")

    def read(self, position: int, offset: int, last: int, most_bytes: int) -> list[tuple[Frame, bytes]]:
        """Reads frames with their payloads from a position on: up to a last one, about a number of bytes.

        Args:
            position: The first to read.
            offset: Where it is in its segment.
            last: The last to read; must be durable.
            most_bytes: After this many no further frame is read.

        Raises:
            UnavailableError: A frame is damaged.
        """
        with self._lock:
            first = max(first for first in self._firsts if first <= position)
        frames: list[tuple[Frame, bytes]] = []
        with self.path(first).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                for frame, content in _scan(file, offset, size, position, self.path(first)):
                    frames.append((frame, content[START_BYTES + len(frame.header) :]))
                    most_bytes -= frame.frame_bytes
                    if frame.position >= last or most_bytes <= 0:
                        break
            except _DamagedError as error:
                raise self._damaged(first, error) from None
        return frames

    def has_committed(self, committed: int) -> bool:
        """Whether `delete` would delete something."""
        return len(self._firsts) > 1 and self._firsts[1] <= committed + 1

    def delete(self, committed: int) -> None:
        """Deletes the segments whose batches are all committed, but not the one that is written."""
        while self.has_committed(committed):
            self._crash_point("before delete")
            self.path(self._firsts[0]).unlink(missing_ok=True)
            with self._lock:
                self._firsts.pop(0)
            self._crash_point("after delete")

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _recover_segment(self, first: int) -> Iterator[Frame]:
        path = self.path(first)
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                for frame, _ in _scan(file, 0, size, first, path):
                    yield frame
            except _DamagedError as error:
                file.seek(error.offset)
                if first != self._firsts[-1] or synced_after(file.read(), error.position):
                    raise self._damaged(first, error) from None
                file.truncate(error.offset)
                os.fsync(file.fileno())

    def _damaged(self, first: int, error: _DamagedError) -> UnavailableError:
        return UnavailableError(
            f"{self.path(first)} is damaged at byte {error.offset}, batch {error.position}, which was acknowledged:"
            " restore the file, or move the journal's directory away to go on without its uncommitted batches."
        )

    def _begin_segment(self, position: int) -> None:
        path = self.path(position)
        try:
            descriptor = _create(path)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFullError from error
            if error.errno in NO_FILES:
                raise OutOfFilesError from error
            raise
        self.close()
        self._descriptor, self._size = descriptor, 0
        with self._lock:
            self._firsts.append(position)
        self._crash_point("after segment created")

    def _write(self, vectors: list[bytes]) -> int:
        offset = self._size
        waiting = [vector for vector in vectors if vector]
        waiting.reverse()
        while waiting:
            chunk = waiting[: -_MOST_VECTORS - 1 : -1]
            written = os.pwritev(self._descriptor, chunk, offset)
            offset += written
            while waiting and written >= len(waiting[-1]):
                written -= len(waiting.pop())
            if written:
                # A full disk takes a part first and refuses the rest at the next call.
                waiting[-1] = waiting[-1][written:]
        return offset - self._size


def _create(path: Path) -> int:
    """An empty file whose name is durable, as its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        sync_directory(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _scan(file: BinaryIO, offset: int, size: int, position: int, path: Path) -> Iterator[tuple[Frame, bytes]]:
    """Yields whole frames with their bytes; raises `_DamagedError` at the first that is not."""
    file.seek(offset)
    while offset < size:
        start = parse_start(file.read(START_BYTES))
        if start is None or offset + start.frame_bytes > size or start.position != position:
            raise _DamagedError(offset, position)
        file.seek(offset)
        content = file.read(start.frame_bytes)
        if not is_whole(start, content):
            raise _DamagedError(offset, position)
        if start.version > VERSION:
            raise UnavailableError(
                f"{path} has frames of version {start.version}, this program reads up to {VERSION}:"
                " start the newer program that wrote it."
            )
        header = content[START_BYTES : START_BYTES + start.header_bytes]
        yield Frame(position, offset, header, start.frame_bytes), content
        offset += start.frame_bytes
        position += 1
