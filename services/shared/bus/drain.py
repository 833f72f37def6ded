"""The loop behind every `worker.py`: take an insert from the bus, store it, commit it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from services.shared.bus.port import Consumer, Header, Insert, Position
from services.shared.errors import AirisError

ColumnsT = TypeVar("ColumnsT")
ResultT = TypeVar("ResultT")
logger = structlog.get_logger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0

Write = Callable[[Sequence[tuple[Header, ColumnsT]], str], Awaitable[None]]
"""Takes an insert's batches and its token. Repeated with the same ones after a failure."""

WritePlaced = Callable[[Sequence[tuple[Position, Header, ColumnsT]], str], Awaitable[None]]
"""The same, with the position of each batch."""


async def drain(
    consumer: Consumer[ColumnsT],
    write: Write[ColumnsT],
    jitter: Callable[[], float] = random.random,
) -> None:
    """Moves inserts from the bus to the store until cancelled.

    A store that fails is asked again with growing delays: the bus holds what is acknowledged meanwhile.
    """

    async def write_unplaced(batches: Sequence[tuple[Position, Header, ColumnsT]], token: str) -> None:
        await write([(header, columns) for _, header, columns in batches], token)

    await drain_placed(consumer, write_unplaced, jitter)


async def drain_placed(
    consumer: Consumer[ColumnsT],
    write: WritePlaced[ColumnsT],
    jitter: Callable[[], float] = random.random,
) -> None:
    """`drain` for a store that keeps where its rows stand in the order of ingest."""
    while True:
        insert = await _persist(consumer.next_insert, jitter)
        if batches := await _columns(insert):
            await _persist(partial(write, batches, insert.token), jitter)
        await _persist(partial(consumer.commit, insert), jitter)


async def _persist(call: Callable[[], Awaitable[ResultT]], jitter: Callable[[], float]) -> ResultT:
    delay = _FIRST_DELAY
    while True:
        try:
            return await call()
        except AirisError as error:
            logger.warning("insert_delayed", reason=error.reason, error=error.message, retry_in=round(delay, 2))
            await asyncio.sleep(delay * (0.5 + jitter() / 2))
            delay = min(delay * 2, _LONGEST_DELAY)


async def _columns(insert: Insert[ColumnsT]) -> list[tuple[Position, Header, ColumnsT]]:
    decoded = []
    for position, batch in insert.batches:
        try:
            decoded.append((position, batch.header, batch.columns))
        except AirisError as error:
            # It was decoded before it was published, so only a changed program can fail here. One such batch
            # must not keep all later ones from the store.
            logger.error("batch_unreadable", position=position, items=batch.header.item_count, error=error.message)
        await asyncio.sleep(0)
    return decoded
