"""Wire to columns, and protobuf to model and back. Nothing else."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from airis.traces.v1 import traces_pb2
from google.protobuf import json_format, struct_pb2, timestamp_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.bus.ingest import Requests
from services.shared.rpc import attributes, times
from services.shared.rpc.attribute_merge import last_of_each_key
from services.shared.rpc.attribute_pool import AttributeSets, pooled
from services.shared.rpc.ingest_wire import Dialect, IngestWire
from services.traces import otlp
from services.traces.model import (
    AttributeValue,
    Bottleneck,
    CriticalPath,
    DurationQuantiles,
    Latency,
    LatencyPoint,
    OperationInfo,
    ServiceInfo,
    ServiceMap,
    Span,
    Spans,
    StatusCode,
    TraceComparison,
    TraceSummary,
)

# What may be sent, as `read` names it.
UNARY = traces_pb2.IngestSpansRequest.DESCRIPTOR.full_name
STREAM = traces_pb2.StreamSpansRequest.DESCRIPTOR.full_name
OTLP = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name


def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Spans]:
    """Turns the bytes of ingest requests of one type into spans. See `IngestWire.read`."""
    return _WIRE.read(message_type, payloads)


def _airis_spans(flat: pa.StructArray) -> Spans:
    field = attributes.children(flat)
    tags = _value_maps(field["tags"])
    status = attributes.children(field["status"])
    log_offsets, logs = attributes.flattened(field["logs"])
    link_offsets, links = attributes.flattened(field["links"])
    log, link = attributes.children(logs), attributes.children(links)
    columns = {
        "index": pa.array(np.arange(len(flat), dtype=np.int32)),
        **{name: field[name] for name in ("trace_id", "span_id", "parent_span_id")},
        "operation": field["operation_name"],
        "service": field["service_name"],
        "kind": otlp.known_kind(field["kind"]),
        "status_code": status["code"].fill_null(0),
        "status_message": status["message"].fill_null(""),
        "start": field["start_time"].cast(pa.int64()),
        "end": field["end_time"].cast(pa.int64()),
        "tag_count": pa.array(tags.counts.astype(np.int32)),
        **tags.maps("tag"),
        "event_time": otlp.nested(log_offsets, log["timestamp"].cast(pa.int64()).fill_null(0)),
        "event_fields": otlp.nested(log_offsets, otlp.texts(_value_maps(log["fields"]))),
        "link_trace_id": otlp.nested(link_offsets, link["trace_id"]),
        "link_span_id": otlp.nested(link_offsets, link["span_id"]),
        "link_tags": otlp.nested(link_offsets, otlp.texts(_value_maps(link["tags"]))),
    }
    return Spans(pa.table(columns), "spans")


def _value_maps(maps: pa.MapArray) -> AttributeSets:
    # Of a key that is twice in a map on the wire the last counts, as in any protobuf map.
    return last_of_each_key(pooled(attributes.from_value_map(maps))[0])


_WIRE = IngestWire(
    Dialect(traces_pb2.IngestSpansRequest, "spans", _airis_spans),
    Dialect(traces_pb2.StreamSpansRequest, "spans", _airis_spans),
    Dialect(
        trace_service_pb2.ExportTraceServiceRequest,
        "resource_spans",
        otlp.spans,
        (("scope_spans",), ("spans",)),
        otlp.REQUEST,
    ),
)


def time_range(request: Any, now_ns: int) -> tuple[int, int]:
    """The range of a request with `start_time` and `end_time`: nanoseconds since 1970, the end excluded.

    Raises:
        InvalidArgumentError: It is empty.
    """

    def given(name: str) -> timestamp_pb2.Timestamp | None:
        return getattr(request, name) if request.HasField(name) else None

    return times.time_range(given("start_time"), given("end_time"), now_ns)


def value(item: AttributeValue, levels: int = attributes.MAX_LEVELS) -> struct_pb2.Value:
    """An attribute as JSON's types have it: what they cannot carry becomes text, never a wrong number.

    Args:
        item: The attribute.
        levels: Lists and maps that are deeper within each other become JSON text, as clients could not read them;
            below 0: none do.
    """
    match item:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=item)
        case str():
            return struct_pb2.Value(string_value=item)
        case bytes():
            return struct_pb2.Value(string_value=base64.b64encode(item).decode())
        case int():
            plain = attributes.plain_integer(item)
            return value(plain) if isinstance(plain, str) else struct_pb2.Value(number_value=plain)
        case float():
            return struct_pb2.Value(number_value=item) if math.isfinite(item) else value(_NON_FINITE[str(item)])
        case Mapping() | Sequence() if levels == 0:
            whole = json_format.MessageToDict(value(item, -1))
            return value(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))
        case Mapping():
            fields = {key: value(each, levels - 1) for key, each in item.items()}
            return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
        case Sequence():
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[value(each, levels - 1) for each in item]))


_STATUS_CODES = {
    StatusCode.UNSPECIFIED: traces_pb2.Span.Status.CODE_UNSPECIFIED,
    StatusCode.OK: traces_pb2.Span.Status.OK,
    StatusCode.ERROR: traces_pb2.Span.Status.ERROR,
}
_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _values(items: Mapping[str, AttributeValue]) -> dict[str, struct_pb2.Value]:
    return {key: value(item) for key, item in items.items()}


def span(found: Span) -> traces_pb2.Span:
    """A span of the answer."""
    return traces_pb2.Span(
        trace_id=found.trace_id,
        span_id=found.span_id,
        parent_span_id=found.parent_span_id,
        operation_name=found.operation_name,
        service_name=found.service_name,
        kind=found.kind.name,
        start_time=times.to_timestamp(found.start_ns),
        end_time=None if found.end_ns is None else times.to_timestamp(found.end_ns),
        tags=_values(found.tags),
        logs=[
            traces_pb2.Span.Log(
                timestamp=times.to_timestamp(event.timestamp_ns) if event.timestamp_ns else None,
                fields=_values(event.fields),
            )
            for event in found.events
        ],
        status=traces_pb2.Span.Status(code=_STATUS_CODES[found.status_code], message=found.status_message),
        links=[
            traces_pb2.Span.Link(trace_id=link.trace_id, span_id=link.span_id, tags=_values(link.tags))
            for link in found.links
        ],
    )


def trace(spans: Sequence[Span]) -> traces_pb2.Trace:
    """A whole trace."""
    return traces_pb2.Trace(trace_id=spans[0].trace_id, spans=[span(each) for each in spans])


def summary(found: TraceSummary) -> traces_pb2.TraceSummary:
    """What is known of a trace without its spans."""
    return traces_pb2.TraceSummary(
        trace_id=found.trace_id,
        root_service_name=found.root_service_name,
        root_operation_name=found.root_operation_name,
        start_time=times.to_timestamp(found.start_ns),
        duration=times.to_duration(found.duration_ns),
        span_count=found.span_count,
        error_count=found.error_count,
        services=found.services,
    )


def service(found: ServiceInfo) -> traces_pb2.Service:
    """What is known of a service."""
    return traces_pb2.Service(service=found.service, span_count=found.span_count, error_count=found.error_count)


def operation(found: OperationInfo) -> traces_pb2.Operation:
    """What is known of an operation."""
    return traces_pb2.Operation(
        operation=found.operation,
        kind=found.kind.name,
        span_count=found.span_count,
        error_count=found.error_count,
        durations=_quantiles(found.durations),
    )


def service_map(found: ServiceMap) -> traces_pb2.ServiceMap:
    """Which services call which."""
    return traces_pb2.ServiceMap(
        services=[service(each) for each in found.services],
        edges=[
            traces_pb2.ServiceMap.Edge(
                caller=edge.caller,
                callee=edge.callee,
                call_count=edge.call_count,
                error_count=edge.error_count,
                durations=_quantiles(edge.durations),
            )
            for edge in found.edges
        ],
    )


def latency(found: Latency) -> traces_pb2.GetLatencyResponse:
    """Figures over time."""
    return traces_pb2.GetLatencyResponse(
        points=[_latency_point(point) for point in found.points],
        total=_latency_point(found.total),
        step=times.to_duration(found.step_ns),
    )


def _latency_point(point: LatencyPoint) -> traces_pb2.GetLatencyResponse.Point:
    return traces_pb2.GetLatencyResponse.Point(
        timestamp=times.to_timestamp(point.timestamp_ns),
        rate=point.rate,
        error_ratio=point.error_ratio,
        durations=_quantiles(point.durations),
    )


def _quantiles(durations: DurationQuantiles) -> traces_pb2.DurationQuantiles:
    return traces_pb2.DurationQuantiles(
        p50=times.to_duration(durations.p50_ns),
        p95=times.to_duration(durations.p95_ns),
        p99=times.to_duration(durations.p99_ns),
    )


def critical_path(found: CriticalPath) -> traces_pb2.CriticalPath:
    """The critical path of a trace."""
    return traces_pb2.CriticalPath(
        trace_id=found.trace_id,
        duration=times.to_duration(found.duration_ns),
        segments=[
            traces_pb2.CriticalPath.Segment(
                span_id=segment.span_id,
                service_name=segment.service_name,
                operation_name=segment.operation_name,
                start_time=times.to_timestamp(segment.start_ns),
                duration=times.to_duration(segment.duration_ns),
            )
            for segment in found.segments
        ],
        warnings=[
            traces_pb2.CriticalPath.Warning(kind=warning.kind.name, span_id=warning.span_id)
            for warning in found.warnings
        ],
    )


def bottleneck(found: Bottleneck) -> traces_pb2.Bottleneck:
    """An operation that takes time on critical paths."""
    return traces_pb2.Bottleneck(
        service_name=found.service_name,
        operation_name=found.operation_name,
        self_time=times.to_duration(found.self_time_ns),
        share=found.share,
        trace_count=found.trace_count,
    )


def comparison(found: TraceComparison) -> traces_pb2.CompareTracesResponse:
    """How two traces differ."""
    return traces_pb2.CompareTracesResponse(
        differences=[
            traces_pb2.CompareTracesResponse.Difference(
                service_name=each.service_name,
                operation_name=each.operation_name,
                base_span_count=each.base_span_count,
                other_span_count=each.other_span_count,
                base_self_time=times.to_duration(each.base_self_time_ns),
                other_self_time=times.to_duration(each.other_self_time_ns),
            )
            for each in found.differences
        ],
        base_duration=times.to_duration(found.base_duration_ns),
        other_duration=times.to_duration(found.other_duration_ns),
    )
