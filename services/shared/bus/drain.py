"""The loop behind every `worker.py`: take an insert from the bus, store it, commit it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from services.shared.bus.port import Batch, Consumer, Header, Position
from services.shared.bus.repeats import Repeats
from services.shared.errors import AirisError

ColumnsT = TypeVar("ColumnsT")
logger = structlog.get_logger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0

Write = Callable[[Sequence[tuple[Header, ColumnsT]], str, bool], Awaitable[object]]
"""Takes an insert's batches, its token, and whether an earlier attempt may have been cut off. Repeated after a failure,
without the batches that the store knows by then."""

DecodeAll = Callable[[Sequence[Batch[ColumnsT]]], None]
"""Gives batches their columns as far as it can. Called in a thread."""

WritePlaced = Callable[[Sequence[tuple[Position, Header, ColumnsT]], str, bool], Awaitable[object]]
"""The same, with the position of each batch."""


async def drain(
    consumer: Consumer[ColumnsT],
    write: Write[ColumnsT],
    repeats: Repeats[ColumnsT] | None = None,
    decode_all: DecodeAll[ColumnsT] | None = None,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Moves inserts from the bus to the store until cancelled.

    A store that fails is asked again with growing delays: the bus holds what is acknowledged meanwhile.

    Args:
        consumer: The bus.
        write: Stores an insert.
        repeats: Tells repeated batches, if that was not done when they were published.
        decode_all: Decodes batches together, which is cheaper than each alone.
        jitter: A number in [0, 1).
    """

    async def write_unplaced(
        batches: Sequence[tuple[Position, Header, ColumnsT]], token: str, is_repeated: bool
    ) -> None:
        await write([(header, columns) for _, header, columns in batches], token, is_repeated)

    await drain_placed(consumer, write_unplaced, repeats, decode_all, jitter)


async def drain_placed(
    consumer: Consumer[ColumnsT],
    write: WritePlaced[ColumnsT],
    repeats: Repeats[ColumnsT] | None = None,
    decode_all: DecodeAll[ColumnsT] | None = None,
    jitter: Callable[[], float] = random.random,
) -> None:
    """`drain` for a store that keeps where its rows stand in the order of ingest."""
    begun = stored = ""
    aside: set[Position] = set()
    delay = _FIRST_DELAY
    while True:
        try:
            # After a failure, from here again: meanwhile another worker may have taken the insert over, and stored it.
            insert = await consumer.next_insert()
            if insert.token != stored:
                fresh = await repeats.drop(insert.batches) if repeats else insert.batches
                if decode_all is not None and not all(batch.is_decoded for _, batch in fresh):
                    await asyncio.to_thread(decode_all, [batch for _, batch in fresh])
                if batches := await _columns(consumer, fresh, aside):
                    is_repeated = insert.is_repeated or insert.token == begun
                    begun = insert.token
                    await write(batches, insert.token, is_repeated)
                stored = insert.token
            await consumer.commit(insert)
        except AirisError as error:
            logger.warning("insert_delayed", reason=error.reason, error=error.message, retry_in=round(delay, 2))
            await asyncio.sleep(delay * (0.5 + jitter() / 2))
            delay = min(delay * 2, _LONGEST_DELAY)
        else:
            aside.clear()
            delay = _FIRST_DELAY


async def _columns(
    consumer: Consumer[ColumnsT], batches: Sequence[tuple[Position, Batch[ColumnsT]]], aside: set[Position]
) -> list[tuple[Position, Header, ColumnsT]]:
    """What can be read; the rest is set aside, unless an earlier attempt did that."""
    decoded = []
    for position, batch in batches:
        if position in aside:
            continue
        try:
            decoded.append((position, batch.header, batch.columns))
        except MemoryError:
            raise
        except Exception as error:
            # Whatever is wrong with one batch must not keep all later ones from the store.
            await consumer.set_aside(position, batch, error)
            aside.add(position)
        await asyncio.sleep(0)
    return decoded
