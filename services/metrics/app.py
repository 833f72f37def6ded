"""The composition root: the only module that names a technology."""

from __future__ import annotations

import time
from typing import Protocol

from airis.metrics.v1 import metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from services.metrics import convert, worker
from services.metrics.config import MetricsConfig
from services.metrics.ingest import Checker, MetricIngest
from services.metrics.model import MetricColumns
from services.metrics.query import MetricQuery
from services.metrics.rpc import DOMAIN, INGEST, RAW, MetricsServicer
from services.metrics.series import SeriesIndex
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
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

_SERVICE = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"]
_OTLP_SERVICE = metrics_service_pb2.DESCRIPTOR.services_by_name["MetricsService"]


class Settings(Place, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def metrics(self) -> MetricsConfig:
        """Its own settings."""


def build(settings: Settings) -> SignalApplication[MetricColumns]:
    """Puts the metrics service together."""
    config, data_dir = settings.metrics, settings.data_dir / "metrics"
    clickhouse = ClickHouse(config.store_dsn or f"chdb://{data_dir / 'clickhouse'}")
    store = ClickHouseMetricStore(clickhouse, config)
    index = SeriesIndex()
    checker = Checker(config, index)

    def decode(header: Header, payload: bytes) -> MetricColumns:
        points, _ = convert.decode(header.message_type, payload)
        return checker.columns(points, header)

    journal: Journal[MetricColumns] = Journal(
        data_dir / "journal",
        decode,
        limits=InsertLimits(config.insert_max_items, max_age=config.insert_max_delay),
        max_backlog_bytes=config.journal_max_bytes,
    )
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(journal, recent_ids, decode, time.time_ns)
    servicer = MetricsServicer(MetricIngest(checker, intake), MetricQuery(store), time.time_ns)

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
            otlp={"/v1/metrics": otlp_handler(servicer.ingest.export, INGEST.otlp[0], DOMAIN)},
            interceptors=server_interceptors(),
        )

    return SignalApplication(
        Parts(clickhouse, store, journal, recent_ids, lambda: worker.run(journal, store, index), endpoints)
    )
