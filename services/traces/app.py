"""The composition root: the only module that names a technology."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from airis.traces.v1 import traces_pb2
from jaeger.storage.v2 import dependency_storage_pb2, trace_storage_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

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
from services.traces import convert, worker
from services.traces.config import TracesConfig
from services.traces.ingest import Checker, SpanIngest
from services.traces.jaeger_rpc import DependencyServicer, JaegerTraceServicer
from services.traces.model import SpanColumns
from services.traces.query import TraceQuery
from services.traces.rpc import DOMAIN, RAW, TraceServicer
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore
from services.traces.store.adapters.jaeger import JaegerTraceStore
from services.traces.store.adapters.jaeger_client import Jaeger
from services.traces.store.port import EdgeWriter, SpanWriter, TraceReader

_SERVICE = traces_pb2.DESCRIPTOR.services_by_name["TraceService"]
_OTLP_SERVICE = trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"]
_JAEGER_TRACES = trace_storage_pb2.DESCRIPTOR.services_by_name["TraceReader"]
_JAEGER_DEPENDENCIES = dependency_storage_pb2.DESCRIPTOR.services_by_name["DependencyReader"]


class Settings(Place, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def traces(self) -> TracesConfig:
        """Its own settings."""


class _TraceStore(Store, SpanWriter, TraceReader, Protocol):
    """Keeps spans."""


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What spans are kept with. `edges` and `ids` are there if it keeps those."""

    engine: Engine
    store: _TraceStore
    edges: EdgeWriter | None
    ids: KnownIds | None


def _keeping(settings: Settings) -> _Keeping:
    config = settings.traces
    if config.store == "jaeger":
        jaeger = Jaeger(config.jaeger)
        return _Keeping(jaeger, JaegerTraceStore(jaeger, config.jaeger), None, None)
    dsn = config.store_dsn or f"chdb://{settings.data_dir / 'traces' / 'clickhouse'}"
    clickhouse = ClickHouse(dsn, settings.clickhouse)
    store = ClickHouseTraceStore(clickhouse, config, time.time_ns)
    return _Keeping(clickhouse, store, store, store.ids)


def build(settings: Settings) -> SignalApplication[SpanColumns]:
    """Puts the traces service together."""
    config, data_dir = settings.traces, settings.data_dir / "traces"
    keeping = _keeping(settings)
    store = keeping.store
    checker = Checker(config)
    replay = Replay(convert.read, checker.columns)
    limits = InsertLimits(config.insert_max_items, max_age=config.insert_max_delay)
    bus: Bus[SpanColumns] = open_bus(
        settings.bus, "traces", settings.role, data_dir / "journal", replay.decode, limits, config.journal_max_bytes
    )
    is_shared = settings.bus.kind == "kafka"
    repeats = Repeats[SpanColumns](keeping.ids) if is_shared and keeping.ids else None
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(bus, recent_ids, replay.decode, time.time_ns, keeping.ids if is_shared else None)
    query = TraceQuery(store)
    servicer = TraceServicer(SpanIngest(convert.read, checker, intake), query, time.time_ns)
    # What a Jaeger asks of a remote storage; it writes over OTLP.
    jaeger = (
        Binding(
            _JAEGER_TRACES,
            JaegerTraceServicer(query, config.raw_retention_days, time.time_ns),
            policy_of=f"/{_SERVICE.full_name}/SearchTraces",
        ),
        Binding(
            _JAEGER_DEPENDENCIES,
            DependencyServicer(query, config.rollup_days, time.time_ns),
            policy_of=f"/{_SERVICE.full_name}/GetServiceMap",
        ),
    )

    method = f"/{_SERVICE.full_name}/IngestSpans"
    endpoints = serve(
        settings,
        config,
        DOMAIN,
        Binding(_SERVICE, servicer, RAW),
        otlp_binding(_OTLP_SERVICE, "/v1/traces", servicer.ingest, method),
        *jaeger,
        handed_over=for_frontends(settings, "traces", servicer.ingest, method),
    )

    def work() -> Coroutine[Any, Any, None]:
        return worker.run(bus, store, keeping.edges, config, time.time_ns, repeats, replay.decode_all)

    # A server of its own may start later than we do.
    is_awaited = is_shared or config.store == "jaeger"
    return SignalApplication(Parts(keeping.engine, store, bus, recent_ids, work, endpoints, settings.role, is_awaited))
