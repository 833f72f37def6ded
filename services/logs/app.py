"""The composition root: the only module that names a technology."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from airis.logs.v1 import logs_pb2
from opentelemetry import metrics
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs import convert, worker
from services.logs.config import LogsConfig
from services.logs.ingest import Checker, LogIngest
from services.logs.model import LogColumns
from services.logs.query import LogQuery
from services.logs.rpc import DOMAIN, RAW, LogServicer
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.logs.store.port import LogReader, LogWriter
from services.logs.tail import LogTail
from services.shared.app import open_bus
from services.shared.application import Engine, Parts, Place, SignalApplication, Store
from services.shared.bus.intake import Intake
from services.shared.bus.port import Bus, InsertLimits
from services.shared.bus.recent_ids import RecentIds
from services.shared.bus.repeats import KnownIds, Repeats
from services.shared.bus.replay import Replay
from services.shared.clickhouse.client import ClickHouse
from services.shared.rpc.server import Binding
from services.shared.serving import for_frontends, otlp_binding, serve

_SERVICE = logs_pb2.DESCRIPTOR.services_by_name["LogService"]
_OTLP_SERVICE = logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"]


Chore = Callable[[], Coroutine[Any, Any, None]]


class LogStore(LogWriter, LogReader, Store, Protocol):
    """All that the service needs of its store."""

    @property
    def ids(self) -> KnownIds:
        """The ids of what is stored."""


class Settings(Place, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def logs(self) -> LogsConfig:
        """Its own settings."""


def build(settings: Settings) -> SignalApplication[LogColumns]:
    """Puts the logs service together."""
    config, data_dir = settings.logs, settings.data_dir / "logs"
    engine, store, chores = _store(settings)
    checker = Checker(config)
    replay = Replay(convert.read, checker.columns)
    limits = InsertLimits(config.insert_max_items, max_age=config.insert_max_delay)
    bus: Bus[LogColumns] = open_bus(
        settings.bus, "logs", settings.role, data_dir / "journal", replay.decode, limits, config.journal_max_bytes
    )
    is_shared = settings.bus.kind == "kafka"
    repeats = Repeats[LogColumns](store.ids) if is_shared else None
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(bus, recent_ids, replay.decode, time.time_ns, store.ids if is_shared else None)
    query = LogQuery(store)
    tail = LogTail(query, bus, time.monotonic)
    servicer = LogServicer(LogIngest(convert.read, checker, intake), query, tail, time.time_ns)

    method = f"/{_SERVICE.full_name}/IngestLogs"
    endpoints = serve(
        settings,
        config,
        DOMAIN,
        Binding(_SERVICE, servicer, RAW),
        otlp_binding(_OTLP_SERVICE, "/v1/logs", servicer.ingest, method),
        handed_over=for_frontends(settings, "logs", servicer.ingest, method),
    )

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for task in (worker.run(bus, store, repeats, replay.decode_all), *(chore() for chore in chores)):
                group.create_task(task)

    return SignalApplication(Parts(engine, store, bus, recent_ids, work, endpoints, settings.role, is_shared))


def _store(settings: Settings) -> tuple[Engine, LogStore, tuple[Chore, ...]]:
    """The configured store, its connection, and what else its worker has to do."""
    config = settings.logs
    if config.store == "elasticsearch":
        # Here, as a service that has ClickHouse starts sooner without it.
        from services.logs.store.adapters.elasticsearch import ElasticsearchLogStore
        from services.logs.store.adapters.elasticsearch_client import Elasticsearch

        elasticsearch = Elasticsearch(config.elasticsearch)
        refused = metrics.get_meter("airis.logs").create_counter(
            "logs.entries_refused", "{entry}", "Entries the store keeps without their fields, or not at all"
        )
        documents = ElasticsearchLogStore(elasticsearch, config, lambda outcome: refused.add(1, {"outcome": outcome}))
        return elasticsearch, documents, (documents.maintain,)
    folder = settings.data_dir / "logs" / "clickhouse"
    clickhouse = ClickHouse(config.store_dsn or f"chdb://{folder}", settings.clickhouse)
    return clickhouse, ClickHouseLogStore(clickhouse, config), ()
