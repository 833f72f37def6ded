"""Hears from PostgreSQL that events were added, by whichever replica."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import structlog

from services.alerts.store.adapters.postgres_events import EVENT_CHANNEL

logger = structlog.get_logger(__name__)


class PostgresEventSignal:
    """Hears of new events by LISTEN. A lost connection is made anew.

    Args:
        dsn: Where PostgreSQL is; one connection is kept beside the pool.
        retry_delay: Seconds between attempts to connect again.
    """

    def __init__(self, dsn: str, retry_delay: float = 1.0) -> None:
        self._dsn = dsn
        self._retry_delay = retry_delay
        self._subscribers: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen, in the background."""
        self._task = asyncio.create_task(self._listen(), name="alert-events-listener")

    async def stop(self) -> None:
        """Stops listening and wakes all who wait."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._wake()

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """See `EventSignal`."""
        news = asyncio.Event()
        self._subscribers.add(news)
        try:
            yield news
        finally:
            self._subscribers.discard(news)

    def _wake(self, *_: object) -> None:
        for news in self._subscribers:
            news.set()

    async def _listen(self) -> None:
        for attempt in itertools.count():
            try:
                await self._listen_once()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                logger.warning("alerts.listen_failed", attempt=attempt, error=str(error))
            await asyncio.sleep(self._retry_delay)

    async def _listen_once(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5.0)
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(EVENT_CHANNEL, self._wake)
            self._wake()
            await ended.wait()
        finally:
            await connection.close(timeout=1.0)
