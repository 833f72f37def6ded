"""Where the journal's consumer stands: one small file of fixed size, written in place.

Every record states everything, so only the newest whole one counts. Four slots are used in turn: at most one
record (a commit) is written without a sync between two synced ones, so a power cut that tears everything unsynced
always leaves the last synced record. The file never grows: a sync costs no metadata, and a full disk does not
stop the consumer from making room.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

from services.shared.errors import UnavailableError
from services.shared.files import sync_directory

FILE_NAME = "checkpoint"
_VERSION = 1
_MAGIC = b"AJCP"
_RECORD = struct.Struct("<4sB3x16sQQQQQ")
_SLOTS = 4
_SLOT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Standing:
    """What a record says.

    Attributes:
        committed: The last committed position; 0 if nothing is.
        first: First position of the newest insert; 0 if there was none.
        last: Its last position. It is under way if this is above `committed`.
        durable: A position that was on the disk when this was written.
    """

    committed: int = 0
    first: int = 0
    last: int = 0
    durable: int = 0


class Checkpoint:
    """The file. Not thread-safe: one thread uses it.

    Attributes:
        journal_id: Made when the file was; part of every token.
        standing: The newest record.
    """

    def __init__(self, descriptor: int, journal_id: uuid.UUID, serial: int, standing: Standing) -> None:
        self._descriptor = descriptor
        self._serial = serial
        self.journal_id = journal_id
        self.standing = standing

    @classmethod
    def exists(cls, directory: Path) -> bool:
        """Whether the directory holds a checkpoint."""
        return (directory / FILE_NAME).exists()

    @classmethod
    def create(cls, directory: Path, journal_id: uuid.UUID) -> None:
        """Makes a journal's first checkpoint, whole or not at all."""
        temporary = directory / f"{FILE_NAME}.new"
        content = _encode(journal_id, 0, Standing()).ljust(_SLOTS * _SLOT_BYTES, b"\0")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(directory / FILE_NAME)
        sync_directory(directory)

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Reads the newest record.

        Raises:
            UnavailableError: No record is whole, or the file is of a newer version.
        """
        path = directory / FILE_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            content = os.pread(descriptor, _SLOTS * _SLOT_BYTES, 0)
            slots = (content[at : at + _RECORD.size + 4] for at in range(0, _SLOTS * _SLOT_BYTES, _SLOT_BYTES))
            newest = max(filter(None, (_decode(slot, path) for slot in slots)), default=None, key=lambda r: r[1])
            if newest is None:
                raise UnavailableError(f"{path} is damaged: none of its records is whole. Restore it from a backup.")
            # What was read may be in memory only, from a process that was killed before its sync.
            os.fdatasync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, *newest)

    def write(self, standing: Standing) -> None:
        """Records without a sync. Raises OSError; the previous record then counts."""
        serial = self._serial + 1
        os.pwrite(self._descriptor, _encode(self.journal_id, serial, standing), serial % _SLOTS * _SLOT_BYTES)
        self._serial = serial
        self.standing = standing

    def sync(self) -> None:
        """Makes what was written durable. Raises OSError; then nothing is known of the file."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._descriptor)


def _encode(journal_id: uuid.UUID, serial: int, standing: Standing) -> bytes:
    record = _RECORD.pack(
        _MAGIC,
        _VERSION,
        journal_id.bytes,
        serial,
        standing.committed,
        standing.first,
        standing.last,
        standing.durable,
    )
    return record + zlib.crc32(record).to_bytes(4, "little")


def _decode(slot: bytes, path: Path) -> tuple[uuid.UUID, int, Standing] | None:
    record, checksum = slot[: _RECORD.size], slot[_RECORD.size :]
    if len(checksum) < 4 or zlib.crc32(record) != int.from_bytes(checksum, "little"):
        return None
    magic, version, journal_id, serial, *numbers = _RECORD.unpack(record)
    if magic != _MAGIC:
        return None
    if version > _VERSION:
        raise UnavailableError(
            f"{path} has version {version}, this program reads up to {_VERSION}: start the newer program that wrote it."
        )
    return uuid.UUID(bytes=journal_id), serial, Standing(*numbers)
