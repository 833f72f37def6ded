"""The life of a signal service: open the store and the bus, store what waits, serve; and all of it backwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from services.shared.background import until_one_ends
from services.shared.bus.config import BusConfig
from services.shared.bus.port import Bus
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.discovery.config import DiscoveryConfig
from services.shared.handover.config import HandoverConfig
from services.shared.patience import once, patiently
from services.shared.rpc.server import Endpoints, Listens, Ready, RpcServer

ColumnsT = TypeVar("ColumnsT")

Role = Literal["all", "serve", "work"]


class Place(Listens, Protocol):
    """Where a service of the platform runs."""

    @property
    def data_dir(self) -> Path:
        """Where journals and in-process engines keep their files."""

    @property
    def role(self) -> Role:
        """What a process does."""

    @property
    def bus(self) -> BusConfig:
        """Where acknowledged batches wait for the store."""

    @property
    def clickhouse(self) -> ClickHouseConfig:
        """What every ClickHouse store is told."""

    @property
    def discovery(self) -> DiscoveryConfig:
        """How instances find each other."""

    @property
    def handover(self) -> HandoverConfig:
        """Where frontends are met."""


class Engine(Protocol):
    """The connection to what keeps the data."""

    async def open(self) -> None:
        """Connects. Raises `UnavailableError` if it does not answer."""

    async def check(self) -> None:
        """Raises `AirisError` with the reason if it does not answer now."""

    async def close(self) -> None:
        """Lets go of it."""


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
        engine: Its store's connection.
        store: Its store.
        bus: Holds what is acknowledged and not yet stored.
        recent_ids: The ids of what is there.
        work: What moves inserts from the bus to the store, until cancelled.
        endpoints: What it serves; `ready` is filled in here.
        role: What this process does of it.
        is_shared: Whether other processes use the same bus and store: then they are waited for at start, and the
            worker tells repeated batches.
    """

    engine: Engine
    store: Store
    bus: Bus[ColumnsT]
    recent_ids: RecentIds
    work: Callable[[], Coroutine[Any, Any, None]]
    endpoints: Callable[[Ready], Endpoints]
    role: Role = "all"
    is_shared: bool = False


class SignalApplication(Generic[ColumnsT]):
    """A running metrics, logs or traces service.

    Args:
        parts: What it is put together from.
    """

    def __init__(self, parts: Parts[ColumnsT]) -> None:
        self._parts = parts
        self._server = RpcServer(parts.endpoints(self._not_ready))
        self._worker: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the store and the bus, and serves and works as its role says."""
        parts = self._parts
        begin = patiently if parts.is_shared else once
        await begin(parts.engine.open)
        await begin(parts.store.open)
        if not parts.is_shared:
            await parts.store.load_ids(parts.recent_ids)
        await begin(parts.bus.open)
        parts.recent_ids.load_headers(parts.bus.uncommitted())
        if parts.role != "serve":
            self._worker = asyncio.create_task(parts.work())
        try:
            await self._server.start()
        except BaseException:
            await self._close()
            raise
        needed = [self._server.serving, *([self._worker] if self._worker else [])]
        self._background = asyncio.create_task(until_one_ends(*needed), name="background")

    async def stop(self) -> None:
        """Stops reading, finishes acknowledgements, then closes. What is not stored yet waits in the bus."""
        await self._server.stop()
        await self._close()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as the service does."""
        return self._background

    async def _not_ready(self) -> str:
        if self._parts.role != "serve" and (self._worker is None or self._worker.done()):
            return "the worker has stopped"
        # At once: each takes its time to find that nothing answers, and the one that does is to be named.
        found = await asyncio.gather(self._parts.bus.check(), self._parts.engine.check(), return_exceptions=True)
        for error in found:
            if error is not None:
                raise error
        return ""

    async def _close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._parts.bus.close()
        await self._parts.engine.close()
