"""Columns as the OTLP requests that write them, none larger than Jaeger takes.

Spans with lists, maps, bytes or nulls are written one by one, all others as columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.traces import otlp_spans, span_rows
from services.traces.model import Span
from services.traces.store.adapters import jaeger_columns
from services.traces.store.adapters.jaeger_spans import TENANT

logger = structlog.get_logger(__name__)

CUT = "airis.cut_bytes"
"""The tag of a span that was too large to be kept whole: how many bytes it had."""

_CHUNK = 5_000


def requests(spans: pa.Table, max_bytes: int) -> Iterator[bytes]:
    """The requests that write spans.

    Args:
        spans: The table of `SpanColumns`.
        max_bytes: What one request may have. A span that is larger alone goes without tags, events and links.
    """
    is_writable = jaeger_columns.writable(spans)
    for rows, write in ((is_writable, jaeger_columns.request), (pc.invert(is_writable), _one_by_one)):
        chosen = spans.filter(rows)
        for begin in range(0, chosen.num_rows, _CHUNK):
            yield from _within(chosen.slice(begin, _CHUNK), write, max_bytes)


def _within(spans: pa.Table, write: Callable[[pa.Table], bytes], max_bytes: int) -> Iterator[bytes]:
    payload = write(spans)
    if len(payload) <= max_bytes:
        yield payload
    elif spans.num_rows > 1:
        middle = spans.num_rows // 2
        yield from _within(spans.slice(0, middle), write, max_bytes)
        yield from _within(spans.slice(middle), write, max_bytes)
    else:
        yield _request(_bare(_rows(spans), len(payload)))


def _one_by_one(spans: pa.Table) -> bytes:
    return _request(_rows(spans))


def _rows(spans: pa.Table) -> list[tuple[str, Span]]:
    table = spans.drop_columns(["start_time"]).append_column("start", spans.column("start_time").cast(pa.int64()))
    return list(zip(table.column("tenant").to_pylist(), map(span_rows.whole, table.to_pylist()), strict=True))


def _request(rows: list[tuple[str, Span]]) -> bytes:
    by_resource: dict[tuple[str, str], trace_pb2.ScopeSpans] = {}
    for tenant, span in rows:
        found = by_resource.setdefault((tenant, span.service_name), trace_pb2.ScopeSpans())
        found.spans.append(otlp_spans.message(span))
    request = trace_service_pb2.ExportTraceServiceRequest(
        resource_spans=[
            trace_pb2.ResourceSpans(
                resource=resource_pb2.Resource(
                    attributes=otlp_spans.key_values({otlp_spans.SERVICE: service, TENANT: tenant})
                ),
                scope_spans=[scope_spans],
            )
            for (tenant, service), scope_spans in by_resource.items()
        ]
    )
    return bytes(request.SerializeToString())


def _bare(rows: list[tuple[str, Span]], size: int) -> list[tuple[str, Span]]:
    ((tenant, span),) = rows
    logger.warning("span_cut", trace_id=span.trace_id, span_id=span.span_id, bytes=size)
    return [(tenant, replace(span, tags={CUT: size}, events=(), links=()))]
