"""What a span must be like, checked for all spans of a batch at once. The limits are those of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.errors import FieldViolation
from services.traces.model import SpanKind, StatusCode

_DAY_NS = 86_400 * 1_000_000_000
_MAX_OPERATION = 1024
_MAX_SERVICE = 255
_MAX_MESSAGE = 4096
_MAX_ENTRIES = 256


def violations(table: pa.Table, retention_days: int, now_ns: int) -> Iterator[tuple[FieldViolation, list[int]]]:
    """Finds the spans that break a rule.

    Args:
        table: The table of `Spans`.
        retention_days: How long spans are kept; older ones would be dropped after they were acknowledged.
        now_ns: The moment of receipt, nanoseconds since 1970.

    Returns:
        For each broken rule what is wrong, with the field within a span, and the indices of those spans.
    """
    index = table.column("index")
    for violation, wrong in _rules(table, retention_days, now_ns):
        if pc.any(wrong).as_py():
            yield violation, index.filter(wrong).to_pylist()


def _rules(table: pa.Table, retention_days: int, now_ns: int) -> Iterator[tuple[FieldViolation, Any]]:
    column = table.column
    for name, digits in (("trace_id", 32), ("span_id", 16)):
        yield (
            FieldViolation(name, f"must be {digits} hex digits, not all zeros", "INVALID_ID"),
            pc.or_(pc.invert(_is_hex(column(name), digits)), pc.equal(column(name), "0" * digits)),
        )
    parent = column("parent_span_id")
    wrong_parent = pc.or_(pc.invert(_is_hex(parent, 16)), pc.equal(parent, "0" * 16))
    yield (
        FieldViolation("parent_span_id", "must be empty or 16 hex digits, not all zeros", "INVALID_ID"),
        pc.and_(pc.not_equal(parent, ""), wrong_parent),
    )
    for field, name, most in (
        ("operation_name", "operation", _MAX_OPERATION),
        ("service_name", "service", _MAX_SERVICE),
    ):
        length = pc.utf8_length(column(name))
        yield FieldViolation(field, f"must have 1 to {most} characters", "INVALID_NAME"), pc.equal(length, 0)
        yield (
            FieldViolation(field, f"must have 1 to {most} characters", "SIZE_LIMIT_EXCEEDED"),
            pc.greater(length, most),
        )
    yield _enum("kind", column("kind"), 1, max(SpanKind))
    yield _enum("status.code", column("status_code"), 0, max(StatusCode))
    yield (
        FieldViolation("status.message", f"must have at most {_MAX_MESSAGE} characters", "SIZE_LIMIT_EXCEEDED"),
        pc.greater(pc.utf8_length(column("status_message")), _MAX_MESSAGE),
    )
    yield from _times(column("start"), column("end"), retention_days, now_ns)
    yield (
        FieldViolation("tags", f"must have at most {_MAX_ENTRIES} keys", "LABEL_LIMIT_EXCEEDED"),
        pc.greater(column("tag_count"), _MAX_ENTRIES),
    )
    for field, name in (("logs", "event_time"), ("links", "link_trace_id")):
        yield (
            FieldViolation(field, f"must have at most {_MAX_ENTRIES} entries", "SIZE_LIMIT_EXCEEDED"),
            pc.greater(pc.list_value_length(column(name)), _MAX_ENTRIES),
        )
    for name, digits in (("trace_id", 32), ("span_id", 16)):
        yield (
            FieldViolation("links", f"must have a {name} of {digits} hex digits each", "INVALID_ID"),
            _any_item(column(f"link_{name}"), digits),
        )


def _times(start: Any, end: Any, retention_days: int, now_ns: int) -> Iterator[tuple[FieldViolation, Any]]:
    yield FieldViolation("start_time", "is required"), start.is_null()
    out_of_range = pc.or_(pc.less(start, now_ns - retention_days * _DAY_NS), pc.greater(start, now_ns + _DAY_NS))
    yield (
        FieldViolation(
            "start_time",
            f"must not be older than {retention_days} days nor more than one day ahead",
            "TIMESTAMP_OUT_OF_RANGE",
        ),
        out_of_range.fill_null(False),
    )
    yield (
        FieldViolation("end_time", "must not be before start_time", "NEGATIVE_DURATION"),
        pc.less(end, start).fill_null(False),
    )
    yield (
        FieldViolation("end_time", "must not be more than one day ahead", "TIMESTAMP_OUT_OF_RANGE"),
        pc.greater(end, now_ns + _DAY_NS).fill_null(False),
    )


def _enum(field: str, numbers: Any, least: int, most: int) -> tuple[FieldViolation, Any]:
    return (
        FieldViolation(field, "is not a value that is known", "UNKNOWN_ENUM_VALUE"),
        pc.or_(pc.less(numbers, least), pc.greater(numbers, most)),
    )


def _is_hex(ids: Any, digits: int) -> Any:
    return pc.match_substring_regex(ids, rf"\A[0-9a-fA-F]{{{digits}}}\z")


def _any_item(lists: Any, digits: int) -> Any:
    """bool[n]: whether a list has an item that is not that many hex digits."""
    found = np.zeros(len(lists), bool)
    wrong = pc.invert(_is_hex(pc.list_flatten(lists), digits))
    if pc.any(wrong).as_py():
        found[pc.list_parent_indices(lists).filter(wrong).to_numpy()] = True
    return pa.array(found)
