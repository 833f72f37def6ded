"""Spans of the model as OTLP messages, and back, for a Jaeger on either side.

Two things that OTLP or Jaeger cannot keep are said by the attribute `airis.span.end`, which is no tag of a span: a span
that has not finished has no end in the model, and Jaeger gives one that takes no time a nanosecond and a warning. Both
are sent as spans of one nanosecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.traces.model import AttributeValue, Event, Link, Span, SpanKind, StatusCode

END = "airis.span.end"
UNFINISHED = "none"
INSTANT = "start"

SERVICE = "service.name"
UNKNOWN_SERVICE = "unknown_service"

_EVENT = "event"
_STATE = "w3c.tracestate"
_FIRST_INT, _LAST_INT = -(2**63), 2**63 - 1
_KINDS = {kind.value: kind for kind in SpanKind}


def message(span: Span) -> trace_pb2.Span:
    """A span as OTLP has it; its service is that of the resource it stands under."""
    end, mark = span.end_ns, ""
    if end is None or end <= span.start_ns:
        end, mark = span.start_ns + 1, UNFINISHED if end is None else INSTANT
    tags = {key: value for key, value in span.tags.items() if key != END}
    if mark:
        tags[END] = mark
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id),
        name=span.operation_name,
        kind=trace_pb2.Span.SpanKind.ValueType(span.kind),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=end,
        attributes=key_values(tags),
        events=[_event(event) for event in span.events],
        links=[
            trace_pb2.Span.Link(
                trace_id=bytes.fromhex(link.trace_id),
                span_id=bytes.fromhex(link.span_id),
                attributes=key_values(link.tags),
            )
            for link in span.links
        ],
        status=trace_pb2.Status(
            code=trace_pb2.Status.StatusCode.ValueType(span.status_code), message=span.status_message
        ),
    )


def key_values(items: Mapping[str, AttributeValue]) -> list[common_pb2.KeyValue]:
    """Attributes with their types."""
    return [common_pb2.KeyValue(key=key, value=any_value(item)) for key, item in items.items()]


def any_value(item: AttributeValue) -> common_pb2.AnyValue:
    """A value with its type; an integer beyond 64 bits becomes its text."""
    match item:
        case None:
            return common_pb2.AnyValue()
        case bool():
            return common_pb2.AnyValue(bool_value=item)
        case str():
            return common_pb2.AnyValue(string_value=item)
        case bytes():
            return common_pb2.AnyValue(bytes_value=item)
        case int() if _FIRST_INT <= item <= _LAST_INT:
            return common_pb2.AnyValue(int_value=item)
        case int():
            return common_pb2.AnyValue(string_value=str(item))
        case float():
            return common_pb2.AnyValue(double_value=item)
        case Mapping():
            return common_pb2.AnyValue(kvlist_value=common_pb2.KeyValueList(values=key_values(item)))
        case Sequence():
            return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=[any_value(each) for each in item]))


def values(attributes: Iterable[common_pb2.KeyValue]) -> dict[str, AttributeValue]:
    """Attributes by key."""
    return {each.key: value(each.value) for each in attributes}


def value(item: common_pb2.AnyValue) -> AttributeValue:
    """A value of its type; None: it has none."""
    kind: str | None = item.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [value(each) for each in item.array_value.values]
        case "kvlist_value":
            return values(item.kvlist_value.values)
    plain: Any = getattr(item, kind)
    return plain  # type: ignore[no-any-return]


def span(found: trace_pb2.Span, service: str, inherited: Mapping[str, AttributeValue]) -> Span:
    """A span of the model.

    Args:
        found: The message.
        service: Whose it is.
        inherited: What it has of its resource and its scope; its own attributes win.
    """
    tags = {**inherited, **values(found.attributes)}
    if found.trace_state:
        tags.setdefault(_STATE, found.trace_state)
    mark = tags.pop(END, "")
    end: int | None = found.end_time_unix_nano
    if mark in (UNFINISHED, INSTANT):
        end = None if mark == UNFINISHED else found.start_time_unix_nano
    return Span(
        trace_id=found.trace_id.hex(),
        span_id=found.span_id.hex(),
        parent_span_id=found.parent_span_id.hex() if any(found.parent_span_id) else "",
        operation_name=found.name,
        service_name=service,
        start_ns=found.start_time_unix_nano,
        end_ns=end,
        kind=_KINDS.get(found.kind, SpanKind.INTERNAL),
        status_code=StatusCode(found.status.code),
        status_message=found.status.message,
        tags=tags,
        events=tuple(
            Event(
                event.time_unix_nano,
                {**({_EVENT: event.name} if event.name else {}), **values(event.attributes)},
            )
            for event in found.events
        ),
        links=tuple(Link(link.trace_id.hex(), link.span_id.hex(), values(link.attributes)) for link in found.links),
    )


def _event(event: Event) -> trace_pb2.Span.Event:
    name = event.fields.get(_EVENT)
    if not isinstance(name, str):
        name = ""
    fields = {key: item for key, item in event.fields.items() if not (name and key == _EVENT)}
    return trace_pb2.Span.Event(time_unix_nano=event.timestamp_ns, name=name, attributes=key_values(fields))
