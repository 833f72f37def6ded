"""The composition root: the only module that names a technology."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any, Protocol

from airis.metrics.v1 import metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from services.metrics import convert, worker
from services.metrics.config import MetricsConfig
from services.metrics.ingest import Checker, MetricIngest
from services.metrics.known_requests import KnownRequests
from services.metrics.model import MetricColumns
from services.metrics.query import MetricQuery
from services.metrics.rpc import DOMAIN, RAW, MetricsServicer
from services.metrics.series import SeriesIndex
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.app import open_bus
from services.shared.application import Parts, Place, SignalApplication
from services.shared.bus.intake import Intake
from services.shared.bus.port import Bus, InsertLimits
from services.shared.bus.recent_ids import RecentIds
from services.shared.bus.repeats import Repeats
from services.shared.bus.replay import Replay
from services.shared.clickhouse.client import ClickHouse
from services.shared.rpc.server import Binding
from services.shared.serving import for_frontends, otlp_binding, serve

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
    clickhouse = ClickHouse(config.store_dsn or f"chdb://{data_dir / 'clickhouse'}", settings.clickhouse)
    store = ClickHouseMetricStore(clickhouse, config)
    index = SeriesIndex()
    checker = Checker(config, index)
    is_shared = settings.bus.kind == "kafka"
    replay = Replay(convert.read, checker.columns)
    limits = InsertLimits(config.insert_max_items, max_age=config.insert_max_delay)
    bus: Bus[MetricColumns] = open_bus(
        settings.bus, "metrics", settings.role, data_dir / "journal", replay.decode, limits, config.journal_max_bytes
    )
    repeats = Repeats[MetricColumns](store.ids) if is_shared else None
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(bus, recent_ids, replay.decode, time.time_ns, store.ids if is_shared else None)
    # What another process stores, this one need not remember to write.
    seen = SeriesIndex(writes=False) if is_shared else index
    known = KnownRequests(seen, config.raw_retention_days)
    ingest = MetricIngest(convert.read, Checker(config, seen), intake, known)
    servicer = MetricsServicer(ingest, MetricQuery(store), time.time_ns)

    method = f"/{_SERVICE.full_name}/IngestMetrics"
    endpoints = serve(
        settings,
        config,
        DOMAIN,
        Binding(_SERVICE, servicer, RAW),
        otlp_binding(_OTLP_SERVICE, "/v1/metrics", servicer.ingest, method),
        handed_over=for_frontends(settings, "metrics", servicer.ingest, method),
    )

    def work() -> Coroutine[Any, Any, None]:
        return worker.run(bus, store, index, repeats, replay.decode_all)

    return SignalApplication(Parts(clickhouse, store, bus, recent_ids, work, endpoints, settings.role, is_shared))
