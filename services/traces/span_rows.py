"""Rows of a store's spans (`SpanColumns`), as plain values, as spans of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.traces import typed_text
from services.traces.model import AttributeValue, Event, Link, Span, SpanKind, StatusCode


def outline(row: Mapping[str, Any], **more: Any) -> Span:
    """A span without status message, tags, events and links, or with those given."""
    duration = row["duration_ns"]
    return Span(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        operation_name=row["operation"],
        service_name=row["service"],
        start_ns=row["start"],
        end_ns=None if duration is None else row["start"] + duration,
        kind=SpanKind(row["kind"]),
        status_code=StatusCode(row["status_code"]),
        **more,
    )


def whole(row: Mapping[str, Any]) -> Span:
    """A span with all that is kept of it."""
    return outline(
        row,
        status_message=row["status_message"],
        tags=_tags(row),
        events=tuple(
            Event(at, _decoded(fields)) for at, fields in zip(row["event_time"], row["event_fields"], strict=True)
        ),
        links=tuple(
            Link(trace_id, span_id, _decoded(tags))
            for trace_id, span_id, tags in zip(row["link_trace_id"], row["link_span_id"], row["link_tags"], strict=True)
        ),
    )


def _tags(row: Mapping[str, Any]) -> dict[str, AttributeValue]:
    tags: dict[str, AttributeValue] = {}
    for name in ("tag_string", "tag_int64", "tag_double", "tag_bool"):
        tags.update(row[name])
    tags.update((key, typed_text.decode_any_value(text)) for key, text in row["tag_encoded"])
    return tags


def _decoded(entries: list[tuple[str, str]]) -> dict[str, AttributeValue]:
    return {key: typed_text.decode(text) for key, text in entries}
