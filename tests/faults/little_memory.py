"""A process that gets hardly any more memory: the kernel's out-of-memory killer ends it when it asks for more."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_MORE_BYTES = 256 * 1024
_GONE_SECONDS = 10.0


class MemoryGroup:
    """A control group of its own; `kills` says how often the kernel had to end a process in it."""

    def __init__(self, folder: Path, is_first_version: bool) -> None:
        self._folder = folder
        self._is_first_version = is_first_version

    @property
    def kills(self) -> int:
        """Processes that were ended for lack of memory."""
        file = "memory.oom_control" if self._is_first_version else "memory.events"
        counts = dict(line.split() for line in (self._folder / file).read_text().splitlines())
        return int(counts["oom_kill"])

    async def until_kill(self, within: float = 60.0) -> None:
        """Waits until the kernel has ended a process. Raises `TimeoutError`."""
        async with asyncio.timeout(within):
            while not self.kills:  # noqa: ASYNC110 (the kernel tells nobody)
                await asyncio.sleep(0.05)


def can_limit_memory() -> bool:
    """Whether control groups of memory can be made here. It is tried: a kernel may refuse what its files permit."""
    try:
        _new_group().rmdir()
    except OSError:
        return False
    return True


def _is_first_version() -> bool:
    return (_GROUPS / "memory").is_dir()


def _parent() -> Path:
    return _GROUPS / "memory" if _is_first_version() else _GROUPS


def _new_group() -> Path:
    """A control group that may take a quarter of a MiB; raises `OSError` if there cannot be one."""
    is_first_version, parent = _is_first_version(), _parent()
    folder = parent / f"airis-faults-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        if not is_first_version:
            (parent / "cgroup.subtree_control").write_text("+memory")
        limit = "memory.limit_in_bytes" if is_first_version else "memory.max"
        (folder / limit).write_text(str(_MORE_BYTES))
    except OSError:
        folder.rmdir()
        raise
    return folder


@asynccontextmanager
async def little_memory(pid: int) -> AsyncIterator[MemoryGroup]:
    """Lets a process keep what it has and get a quarter of a MiB more, for as long as the context lasts.

    Raises:
        OSError: This needs root and control groups of memory that can be written.
    """
    folder = _new_group()
    try:
        # Or it would swap. Not every kernel has this.
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
        # What it has stays with the group in which it got it.
        (folder / "cgroup.procs").write_text(str(pid))
        yield MemoryGroup(folder, _is_first_version())
    finally:
        async with asyncio.timeout(_GONE_SECONDS):
            # Whoever was ended takes a moment to go, and nobody tells when it has.
            while not _removed(folder, _parent()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _removed(folder: Path, parent: Path) -> bool:
    for left in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(left)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
