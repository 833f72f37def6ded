"""The composition root: the only module that names a technology."""

from __future__ import annotations

import time
from typing import Protocol

from airis.traces.v1 import traces_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

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
from services.traces import convert, worker
from services.traces.config import TracesConfig
from services.traces.ingest import Checker, SpanIngest
from services.traces.model import SpanColumns
from services.traces.query import TraceQuery
from services.traces.rpc import DOMAIN, INGEST, RAW, TraceServicer
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

_SERVICE = traces_pb2.DESCRIPTOR.services_by_name["TraceService"]
_OTLP_SERVICE = trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"]


class Settings(Place, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def traces(self) -> TracesConfig:
        """Its own settings."""


def build(settings: Settings) -> SignalApplication[SpanColumns]:
    """Puts the traces service together."""
    config, data_dir = settings.traces, settings.data_dir / "traces"
    clickhouse = ClickHouse(config.store_dsn or f"chdb://{data_dir / 'clickhouse'}")
    store = ClickHouseTraceStore(clickhouse, config)
    checker = Checker(config)

    def decode(header: Header, payload: bytes) -> SpanColumns:
        spans, _ = convert.decode(header.message_type, payload)
        return checker.columns(spans, header)

    journal: Journal[SpanColumns] = Journal(
        data_dir / "journal",
        decode,
        limits=InsertLimits(config.insert_max_items, max_age=config.insert_max_delay),
        max_backlog_bytes=config.journal_max_bytes,
    )
    recent_ids = RecentIds(clock=time.time_ns)
    intake = Intake(journal, recent_ids, decode, time.time_ns)
    servicer = TraceServicer(SpanIngest(checker, intake), TraceQuery(store), time.time_ns)

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
            otlp={"/v1/traces": otlp_handler(servicer.ingest.export, INGEST.otlp[0], DOMAIN)},
            interceptors=server_interceptors(),
        )

    parts = Parts(
        clickhouse,
        store,
        journal,
        recent_ids,
        lambda: worker.run(journal, store, store, config, time.time_ns),
        endpoints,
    )
    return SignalApplication(parts)
