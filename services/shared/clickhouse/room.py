"""Keeps an in-process ClickHouse from writing where there is no room.

ClickHouse does not notice every write that fails for want of room (seen in 26.9, also with all its syncs on): a part of
which nothing was written counts as stored, or as merged, and the parts it was merged from are deleted. So it does not
come that close: inserts wait, and merges stop, while little is free.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.shared.errors import AirisError, ResourceExhaustedError

logger = structlog.get_logger(__name__)

LEAST_FREE_BYTES = 64 * 1024 * 1024
_FREE_AGAIN_BYTES = 96 * 1024 * 1024
# More than a disk writes between two looks. Who reserves as much at once, unwritten, is noticed at the next.
_MUCH_FREE_BYTES = 8 * 1024**3
_LOOK_SECONDS = 1.0
_NEAR_LOOK_SECONDS = 0.1
_RETRY_SECONDS = 5.0


def free_bytes(folder: Path) -> int:
    """What may still be written into a folder. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Room:
    """Watches the disk of one ClickHouse.

    Args:
        folder: Its data.
        free: Tells what is free there, in bytes.
    """

    def __init__(self, folder: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._free = free

    def check(self) -> None:
        """Raises `ResourceExhaustedError` (DISK_FULL) if nothing may be inserted now."""
        if self._free(self._folder) < LEAST_FREE_BYTES:
            raise ResourceExhaustedError(
                "The disk of the store is full: make room.", reason="DISK_FULL", retry_after=_RETRY_SECONDS
            )

    async def keep(self, command: Callable[[str], Awaitable[object]]) -> None:
        """Stops merges while there is little room, until cancelled; `command` runs a statement."""
        merges = True
        while True:
            free = 0
            try:
                free = self._free(self._folder)
                if merges and free < LEAST_FREE_BYTES:
                    await command("SYSTEM STOP MERGES")
                    merges = False
                    logger.warning("merges_stopped", free_bytes=free, folder=str(self._folder))
                elif not merges and free > _FREE_AGAIN_BYTES:
                    await command("SYSTEM START MERGES")
                    merges = True
                    logger.info("merges_started", free_bytes=free)
            except (AirisError, OSError) as error:
                logger.warning("merges_not_changed", error=str(error))
            await asyncio.sleep(_LOOK_SECONDS if free > _MUCH_FREE_BYTES else _NEAR_LOOK_SECONDS)
