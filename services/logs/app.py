"""The composition root: the only module that names a technology."""

from __future__ import annotations

import time
from typing import Protocol

from airis.logs.v1 import logs_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs import convert, worker
from services.logs.config import LogsConfig
from services.logs.ingest import Checker, LogIngest
from services.logs.model import LogColumns
from services.logs.query import LogQuery
from services.logs.rpc import DOMAIN, INGEST, RAW, LogServicer
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.logs.tail import LogTail
from services.shared.application import Parts, Place, SignalApplication
from services.shared.bus.adapters.journal import Journal
from services.shared.bus.intake import Intake
from services.shared.bus.port import Header, InsertLimits
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.rpc.ingest_methods import OtlpServicer
from services.shared.rpc.otlp_http import otlp_handler
from services.shared.rpc.server import Binding, Endpoints, Ready
from services.shared.telemetry.setup import server_interceptors

_SERVICE = logs_pb2.DESCRIPTOR.services_by_name["LogService"]
_OTLP_SERVICE = logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"]


class Settings(Place, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def logs(self) -> LogsConfig:
        """Its own settings."""


def build(settings: Settings) -> SignalApplication[LogColumns]:
    """Puts the logs service together."""
    config, data_dir = settings.logs, settings.data_dir / "logs"
    clickhouse = ClickHouse(config.store_dsn or f"chdb://{data_dir / 'clickhouse'}")
    store = ClickHouseLogStore(clickhouse, config)
    checker = Checker(config)

    def decode(header: Header, payload: bytes) -> LogColumns:
        records, _ = convert.decode(header.message_type, payload)
        return checker.columns(records, header)

    journal: Journal[LogColumns] = Journal(
        data_dir / "journal",
        decode,
        limits=InsertLimits(config.insert_max_items, max_age=config.insert_max_delay),
        max_backlog_bytes=config.journal_max_bytes,
    )
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(journal, recent_ids, decode, time.time_ns)
    query = LogQuery(store)
    tail = LogTail(query, journal, time.monotonic)
    servicer = LogServicer(LogIngest(checker, intake), query, tail, time.time_ns)

    def endpoints(ready: Ready) -> Endpoints:
        return Endpoints(
            host=settings.host,
            grpc_port=config.grpc_port + settings.port_offset,
            http_port=config.http_port + settings.port_offset,
            domain=DOMAIN,
            bindings=(
                Binding(_SERVICE, servicer, RAW),
                Binding(_OTLP_SERVICE, OtlpServicer(servicer.ingest), frozenset({"Export"})),
            ),
            ready=ready,
            otlp={"/v1/logs": otlp_handler(servicer.ingest.export, INGEST.otlp[0], DOMAIN)},
            interceptors=server_interceptors(),
        )

    return SignalApplication(
        Parts(clickhouse, store, journal, recent_ids, lambda: worker.run(journal, store), endpoints)
    )
