"""An in-process ClickHouse writes nothing where there is little room: it would not notice what fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.shared.clickhouse.room import LEAST_FREE_BYTES, Room
from services.shared.errors import ResourceExhaustedError, UnavailableError


def test_nothing_is_inserted_while_little_is_free() -> None:
    free = LEAST_FREE_BYTES
    room = Room(Path("unused"), lambda folder: free)
    room.check()
    free -= 1
    with pytest.raises(ResourceExhaustedError, match="full") as refused:
        room.check()
    assert refused.value.reason == "DISK_FULL"
    assert refused.value.retry_after


async def test_merges_stop_while_little_is_free_and_go_on_when_there_is_clearly_more() -> None:
    free = iter([LEAST_FREE_BYTES * 9, 0, 0, LEAST_FREE_BYTES + 1, LEAST_FREE_BYTES * 9, LEAST_FREE_BYTES * 9, 0])
    told: list[str] = []
    failures = ["once"]

    async def command(statement: str) -> None:
        if failures:
            failures.clear()
            raise UnavailableError("not now")
        told.append(statement)

    def looked(folder: Path) -> int:
        found = next(free, None)
        if found is None:
            raise asyncio.CancelledError
        return found

    with pytest.raises(asyncio.CancelledError):
        await Room(Path("unused"), looked).keep(command)
    assert told == ["SYSTEM STOP MERGES", "SYSTEM START MERGES", "SYSTEM STOP MERGES"]
