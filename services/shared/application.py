"""The life of a signal service: open the store, replay the journal, serve; and all of it backwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

# pyarrow imports it at the first conversion of an array, which would cost the first request a second.
import pandas  # noqa: F401  isort:skip

from services.shared.bus.port import Bus
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.rpc.server import Endpoints, Ready, RpcServer

ColumnsT = TypeVar("ColumnsT")


class Place(Protocol):
    """Where a service of the platform runs."""

    @property
    def data_dir(self) -> Path:
        """Where journals and in-process engines keep their files."""

    @property
    def host(self) -> str:
        """The address to listen on."""

    @property
    def port_offset(self) -> int:
        """Added to every port."""


class Store(Protocol):
    """What the life of a service needs of its store."""

    async def open(self) -> None:
        """Brings the tables up to date."""

    async def load_ids(self, into: RecentIds) -> None:
        """Reads back the ids of stored requests."""


@dataclass(frozen=True, slots=True)
class Parts(Generic[ColumnsT]):
    """What a service is put together from.

    Attributes:
        clickhouse: Its store's connection.
        store: Its store.
        bus: Holds what is acknowledged and not yet stored.
        recent_ids: The ids of what is there.
        work: What moves inserts from the bus to the store, until cancelled.
        endpoints: What it serves; `ready` is filled in here.
    """

    clickhouse: ClickHouse
    store: Store
    bus: Bus[ColumnsT]
    recent_ids: RecentIds
    work: Callable[[], Coroutine[Any, Any, None]]
    endpoints: Callable[[Ready], Endpoints]


class SignalApplication(Generic[ColumnsT]):
    """A running metrics, logs or traces service.

    Args:
        parts: What it is put together from.
    """

    def __init__(self, parts: Parts[ColumnsT]) -> None:
        self._parts = parts
        self._server = RpcServer(parts.endpoints(self._not_ready))
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the store, replays the journal, and serves."""
        await self._parts.clickhouse.open()
        await self._parts.store.open()
        await self._parts.store.load_ids(self._parts.recent_ids)
        await self._parts.bus.open()
        self._parts.recent_ids.load_headers(self._parts.bus.uncommitted())
        self._worker = asyncio.create_task(self._parts.work())
        await self._server.start()

    async def stop(self) -> None:
        """Stops reading, finishes acknowledgements, then closes. What is not stored yet waits in the journal."""
        await self._server.stop()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._parts.bus.close()
        await self._parts.clickhouse.close()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as the service does."""
        return self._worker

    async def _not_ready(self) -> str:
        if self._worker is None or self._worker.done():
            return "the worker has stopped"
        await self._parts.clickhouse.rows("SELECT 1 AS one", timeout=2.0)
        return ""
