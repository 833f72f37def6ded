"""What a Jaeger asks of its storage, as searches of ours, and what it is answered. See docs/jaeger.md."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from jaeger.storage.v2 import dependency_storage_pb2, trace_storage_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.filter.ast import And, Comparison, Expression, Literal, LiteralKind, Operator, Or
from services.shared.filter.printer import to_text
from services.shared.retention import accepted_times
from services.shared.rpc import times
from services.traces import otlp_spans
from services.traces.model import Edge, Span, SpanKind, TraceOrder, TraceSearch, TraceSummary

MAX_TRACES = 1_500
"""What Jaeger's user interface asks for at most."""

_DEFAULT_TRACES = 20
_TRACE_ID_BYTES = 16
# A Go client takes messages of 4 MiB.
_PART_BYTES = 2 * 1024 * 1024
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?")
_KINDS = {kind.name.lower(): kind for kind in SpanKind}


def trace_id(raw: bytes) -> str:
    """The id of a trace in hex. Raises `InvalidArgumentError` if it has not 16 bytes."""
    if len(raw) != _TRACE_ID_BYTES:
        raise InvalidArgumentError(
            f"trace_id must have {_TRACE_ID_BYTES} bytes.",
            violations=(FieldViolation("query.trace_id", f"must have {_TRACE_ID_BYTES} bytes", "INVALID_ID"),),
        )
    return raw.hex()


def span_kind(text: str) -> SpanKind | None:
    """The kind that a text names, as "server"; None: all.

    Raises:
        InvalidArgumentError: There is none of that name.
    """
    if not text:
        return None
    if text.lower() not in _KINDS:
        problem = f"must be empty or one of {', '.join(_KINDS)}"
        raise InvalidArgumentError(f"span_kind {problem}.", violations=(FieldViolation("span_kind", problem),))
    return _KINDS[text.lower()]


def retained(now_ns: int, days: int) -> tuple[int, int]:
    """The range, in nanoseconds, of all that is kept; spans may be a day ahead."""
    oldest, newest = accepted_times(now_ns, days)
    return max(oldest, 0), newest


def time_range(start: timestamp_pb2.Timestamp, end: timestamp_pb2.Timestamp, now_ns: int, days: int) -> tuple[int, int]:
    """A range that Jaeger gives; a moment before 1970, as Go writes none, is that of all that is kept.

    Raises:
        InvalidArgumentError: It is empty.
    """
    first, last = retained(now_ns, days)
    start_ns, end_ns = times.timestamp_ns(start), times.timestamp_ns(end)
    given = start_ns if start_ns > 0 else first, end_ns if 0 < end_ns < 2**63 else last
    if given[0] >= given[1]:
        raise InvalidArgumentError(
            "The start of the range must be before its end.",
            violations=(FieldViolation("start_time_min", "must be before start_time_max"),),
        )
    return given


def search(tenant: str, query: trace_storage_pb2.TraceQueryParameters, now_ns: int, retention_days: int) -> TraceSearch:
    """The search that a query means."""
    start, end = time_range(query.start_time_min, query.start_time_max, now_ns, retention_days)
    limit = min(query.search_depth if query.search_depth > 0 else _DEFAULT_TRACES, MAX_TRACES)
    return TraceSearch(tenant, filter_text(query), start, end, TraceOrder.NEWEST, None, limit)


def filter_text(query: trace_storage_pb2.TraceQueryParameters) -> str:
    """The filter that one span must match."""
    wanted: list[Expression] = []
    if query.service_name:
        wanted.append(_is(("service",), query.service_name))
    if query.operation_name:
        wanted.append(_is(("operation",), query.operation_name))
    for bound, operator in (
        (query.duration_min, Operator.GREATER_OR_EQUAL),
        (query.duration_max, Operator.LESS_OR_EQUAL),
    ):
        if nanoseconds := _positive(bound):
            wanted.append(_comparison(("duration",), operator, LiteralKind.DURATION, f"{nanoseconds}ns", nanoseconds))
    wanted += [_attribute(each.key, each.value) for each in query.attributes if each.key]
    if not wanted:
        return ""
    return to_text(wanted[0] if len(wanted) == 1 else And(tuple(wanted)))


def _attribute(key: str, value: trace_storage_pb2.AnyValue) -> Expression:
    """Jaeger's interface sends texts, and means every value that is written so; some keys mean more than a tag."""
    match value.WhichOneof("value"):
        case "string_value":
            text = value.string_value
        case "bool_value":
            text = "true" if value.bool_value else "false"
        case "int_value":
            text = str(value.int_value)
        case "double_value":
            text = repr(value.double_value)
        case _:
            problem = "must be a text, a number or a boolean"
            raise InvalidArgumentError(
                f"The attribute {key} {problem}.", violations=(FieldViolation(f"query.attributes.{key}", problem),)
            )
    path = ("tags", key)
    options: list[Expression] = [_is(path, text)]
    if text in ("true", "false"):
        options.append(_comparison(path, Operator.EQUAL, LiteralKind.BOOLEAN, text, text == "true"))
    elif (number := _number(text)) is not None:
        kind = LiteralKind.INTEGER if isinstance(number, int) else LiteralKind.NUMBER
        options.append(_comparison(path, Operator.EQUAL, kind, text, number))
    match key, text:
        case "error", "true" | "false":
            operator = Operator.EQUAL if text == "true" else Operator.NOT_EQUAL
            return _comparison(("status",), operator, LiteralKind.WORD, "ERROR", "ERROR")
        case "otel.status_code", "OK" | "ERROR":
            options.append(_comparison(("status",), Operator.EQUAL, LiteralKind.WORD, text, text))
        case "span.kind", kind_name if kind_name in _KINDS:
            options.append(_comparison(("kind",), Operator.EQUAL, LiteralKind.WORD, text.upper(), text.upper()))
    return options[0] if len(options) == 1 else Or(tuple(options))


def _number(text: str) -> int | float | None:
    """The number that a text writes; None: it is no number, or not as one is written."""
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) and math.isfinite(float(text)) else None


def _is(path: tuple[str, ...], text: str) -> Comparison:
    return _comparison(path, Operator.EQUAL, LiteralKind.STRING, text, text)


def _comparison(
    path: tuple[str, ...], operator: Operator, kind: LiteralKind, text: str, value: str | int | float | bool
) -> Comparison:
    return Comparison(path, operator, Literal(kind, value, text=text))


def _positive(duration: duration_pb2.Duration) -> int:
    return max(times.duration_ns(duration), 0)


def parts(spans: Sequence[Span]) -> Iterator[trace_pb2.TracesData]:
    """A trace in messages that are not too large, in the order of its spans."""
    part, size = trace_pb2.TracesData(), 0
    by_service: dict[str, Any] = {}
    for span in spans:
        message = otlp_spans.message(span)
        added = message.ByteSize()
        if size and size + added > _PART_BYTES:
            yield part
            part, size, by_service = trace_pb2.TracesData(), 0, {}
        if span.service_name not in by_service:
            resource_spans = part.resource_spans.add(resource=_resource(span.service_name))
            by_service[span.service_name] = resource_spans.scope_spans.add().spans
            size += resource_spans.ByteSize()
        by_service[span.service_name].append(message)
        size += added
    if size:
        yield part


def _resource(service: str) -> resource_pb2.Resource:
    return resource_pb2.Resource(attributes=otlp_spans.key_values({otlp_spans.SERVICE: service}))


def found(trace: TraceSummary) -> trace_storage_pb2.FoundTraceID:
    """Where a trace is."""
    return trace_storage_pb2.FoundTraceID(
        trace_id=bytes.fromhex(trace.trace_id),
        start=times.to_timestamp(trace.start_ns),
        end=times.to_timestamp(trace.start_ns + trace.duration_ns),
    )


def dependencies(edges: Sequence[Edge]) -> dependency_storage_pb2.GetDependenciesResponse:
    """Which services call which."""
    return dependency_storage_pb2.GetDependenciesResponse(
        dependencies=[
            dependency_storage_pb2.Dependency(
                parent=edge.caller, child=edge.callee, call_count=edge.call_count, source="airis"
            )
            for edge in edges
        ]
    )
