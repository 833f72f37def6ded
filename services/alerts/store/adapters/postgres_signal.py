"""Hears from PostgreSQL that events were added, by whichever replica."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import asyncpg
import structlog

from services.alerts.store.adapters.postgres_events import EVENT_CHANNEL

logger = structlog.get_logger(__name__)

_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class PostgresEventSignal:
    """Hears of new events by LISTEN. A lost connection is made anew.

    Args:
        dsn: Where PostgreSQL is; one connection is kept beside the pool.
        retry_delay: Seconds between attempts to connect again.
    """

    def __init__(self, dsn: str, retry_delay: float = 1.0) -> None:
        self._dsn = dsn
        self._retry_delay = retry_delay
        self._subscribers: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen, in the background."""
        self._task = asyncio.create_task(self._listen(), name="alert-events-listener")

    async def stop(self) -> None:
        """Stops listening and wakes all who wait."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._wake(self._subscribers)

    @contextmanager
    def subscribe(self, tenant: str) -> Iterator[asyncio.Event]:
        """See `EventSignal`."""
        news = asyncio.Event()
        self._subscribers.setdefault(tenant, set()).add(news)
        try:
            yield news
        finally:
            self._subscribers[tenant].discard(news)
            if not self._subscribers[tenant]:
                del self._subscribers[tenant]

    def _wake(self, tenants: Iterable[str]) -> None:
        for tenant in tenants:
            for news in self._subscribers.get(tenant, ()):
                news.set()

    def _notified(self, connection: object, process: int, channel: str, tenant: str) -> None:
        # A replica of an earlier version does not say whose events it added.
        self._wake([tenant] if tenant else self._subscribers)

    async def _listen(self) -> None:
        for attempt in itertools.count():
            try:
                await self._listen_once()
            except Exception as error:
                # Whatever it is: watchers wait.
                logger.warning("alerts.listen_failed", attempt=attempt, error=str(error))
            await asyncio.sleep(self._retry_delay)

    async def _listen_once(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5.0)
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(EVENT_CHANNEL, self._notified)
            self._wake(self._subscribers)
            await ended.wait()
        finally:
            await connection.close(timeout=1.0)
