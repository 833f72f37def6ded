"""When the journal's batches become an insert: soon after a quiet time, later and larger while more come."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.shared.bus.adapters.journal import Journal
from services.shared.bus.port import Batch, Header, Insert, InsertLimits

LIMITS = InsertLimits(max_items=20, max_age=0.05, interval=60)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


def batch(items: int) -> Batch[bytes]:
    return Batch(Header("default", "airis.test.Batch", 1, items), b"payload", decode)


def counts(insert: Insert[bytes]) -> list[int]:
    return [each.header.item_count for _, each in insert.batches]


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def begun(tmp_path: Path, clock: Clock) -> Journal[bytes]:
    """A journal whose first insert, of one batch, is committed at 0.06 s."""
    journal = Journal(tmp_path, decode, limits=LIMITS, clock=clock)
    await journal.open()
    await journal.publish(batch(4))
    clock.now = 0.06
    async with asyncio.timeout(30):
        insert = await journal.next_insert()
    assert counts(insert) == [4]
    await journal.commit(insert)
    return journal


async def test_after_a_quiet_time_a_batch_is_inserted_after_a_short_while(tmp_path: Path) -> None:
    clock = Clock()
    journal = await begun(tmp_path, clock)
    clock.now = 100.0
    await journal.publish(batch(3))
    clock.now = 100.06
    async with asyncio.timeout(30):
        assert counts(await journal.next_insert()) == [3]
    await journal.close()


async def test_while_more_come_they_are_inserted_together(tmp_path: Path) -> None:
    clock = Clock()
    journal = await begun(tmp_path, clock)
    await journal.publish(batch(3))
    # After the short while.
    clock.now = 1.0
    coming = asyncio.create_task(journal.next_insert())
    await asyncio.wait({coming}, timeout=0.1)
    await journal.publish(batch(3))
    await asyncio.wait({coming}, timeout=0.1)
    clock.now = 60.07
    await journal.publish(batch(2))
    async with asyncio.timeout(30):
        assert counts(await coming) == [3, 3, 2]
    await journal.close()


async def test_a_full_insert_comes_at_once(tmp_path: Path) -> None:
    clock = Clock()
    journal = await begun(tmp_path, clock)
    await journal.publish(batch(3))
    await journal.publish(batch(17))
    async with asyncio.timeout(30):
        assert counts(await journal.next_insert()) == [3, 17]
    await journal.close()


async def test_an_insert_that_somebody_waits_for_comes_after_a_short_while(tmp_path: Path) -> None:
    clock = Clock()
    journal = await begun(tmp_path, clock)
    position = await journal.publish(batch(3))
    clock.now = 1.0
    coming = asyncio.create_task(journal.next_insert())
    await asyncio.wait({coming}, timeout=0.1)
    assert not coming.done()
    stored = asyncio.create_task(journal.wait_committed(position))
    async with asyncio.timeout(30):
        insert = await coming
        assert counts(insert) == [3]
        await journal.commit(insert)
        await stored
    await journal.close()
