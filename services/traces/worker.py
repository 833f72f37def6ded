"""What runs behind: join what was acknowledged, write it, commit; and find which services call which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pyarrow as pa
import structlog

from services.shared.bus.drain import DecodeAll, drain
from services.shared.bus.port import Consumer, Header
from services.shared.bus.repeats import Repeats
from services.shared.errors import AirisError
from services.traces.config import TracesConfig
from services.traces.model import SpanColumns
from services.traces.stale_minutes import StaleMinutes
from services.traces.store.port import EdgeWriter, SpanWriter

logger = structlog.get_logger(__name__)

_MINUTE_NS = 60_000_000_000
_MOST_MINUTES = 16
# Finding calls leaves at least this many times as long as it took for everything else.
_REST = 9.0


async def run(
    consumer: Consumer[SpanColumns],
    writer: SpanWriter,
    edges: EdgeWriter | None,
    config: TracesConfig,
    clock: Callable[[], int],
    repeats: Repeats[SpanColumns] | None = None,
    decode_all: DecodeAll[SpanColumns] | None = None,
) -> None:
    """Stores inserts and, if something keeps them, the calls between services up to date, until cancelled."""
    if edges is None:
        await drain(consumer, writer.write, repeats, decode_all)
        return
    stale = StaleMinutes(config.edge_lateness)
    # What came before a restart, which may be long ago, and was not looked at.
    now = clock() // _MINUTE_NS
    for newest in (now, await _newest_minute(edges, now)):
        stale.mark(range(newest - config.edge_lateness // 60, newest + 1))

    async def write(batches: Sequence[tuple[Header, SpanColumns]], token: str, is_repeated: bool) -> None:
        try:
            await writer.write(batches, token, is_repeated)
        finally:
            # Also after a failure: the store may have them all the same, and then they are not written again.
            stale.mark_spans(pa.concat_tables([columns.spans for _, columns in batches]))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(drain(consumer, write, repeats, decode_all))
        tasks.create_task(keep_edges(edges, stale, config.edge_interval))


async def _newest_minute(edges: EdgeWriter, now: int) -> int:
    try:
        newest = await edges.newest_minute(now)
    except AirisError as error:
        # Storing must not wait for it.
        logger.warning("service_map_not_resumed", error=error.message)
        return now
    return now if newest is None else newest


async def keep_edges(edges: EdgeWriter, stale: StaleMinutes, interval: float) -> None:
    """Finds the calls of stale minutes, the newest first, until cancelled.

    Args:
        edges: The store.
        stale: Which minutes; spans that come meanwhile are marked there.
        interval: Seconds between two looks, at least.
    """
    monotonic = asyncio.get_running_loop().time
    most = _MOST_MINUTES
    while True:
        begin, failed = monotonic(), False
        if (minutes := stale.take(most)) is not None:
            first, last = minutes
            try:
                await edges.refresh_edges(first, last)
                most = min(most * 2, _MOST_MINUTES)
            except AirisError as error:
                failed = True
                logger.warning("service_map_delayed", first_minute=first, minutes=last - first + 1, error=error.message)
                if first < last or error.retry_after is not None:
                    stale.mark(range(first, last + 1))
                most = max(1, most // 2)
        # A long backlog is worked off without a pause for its own sake, but never at the cost of the rest.
        pause = interval if failed or len(stale) < _MOST_MINUTES else 0.0
        await asyncio.sleep(max(pause, _REST * (monotonic() - begin)))
