"""What a span must be like, checked for all spans of a batch at once. The limits are those of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.errors import FieldViolation
from services.shared.retention import accepted_times
from services.shared.text_columns import Mask, are_hex, are_ids, byte_lengths, longer_than
from services.shared.whole_columns import whole_columns
from services.traces.model import SpanKind, StatusCode

Rule = tuple[Mask, str, str, str]
"""Which spans break a rule, and the field, description and reason of the violation."""

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
    column = whole_columns(table)
    index = column["index"].to_numpy()
    for wrong, field, description, reason in _rules(column, retention_days, now_ns):
        if np.count_nonzero(wrong):
            yield FieldViolation(field, description, reason), index[wrong].tolist()


def _rules(column: dict[str, pa.Array], retention_days: int, now_ns: int) -> Iterator[Rule]:
    for name, digits in (("trace_id", 32), ("span_id", 16)):
        yield ~are_ids(column[name], digits), name, f"must be {digits} hex digits, not all zeros", "INVALID_ID"
    parent = column["parent_span_id"]
    yield (
        (byte_lengths(parent) > 0) & ~are_ids(parent, 16),
        "parent_span_id",
        "must be empty or 16 hex digits, not all zeros",
        "INVALID_ID",
    )
    for field, name, most in (
        ("operation_name", "operation", _MAX_OPERATION),
        ("service_name", "service", _MAX_SERVICE),
    ):
        described = f"must have 1 to {most} characters"
        yield byte_lengths(column[name]) == 0, field, described, "INVALID_NAME"
        yield longer_than(column[name], most), field, described, "SIZE_LIMIT_EXCEEDED"
    yield _enum("kind", column["kind"], 1, max(SpanKind))
    yield _enum("status.code", column["status_code"], 0, max(StatusCode))
    yield (
        longer_than(column["status_message"], _MAX_MESSAGE),
        "status.message",
        f"must have at most {_MAX_MESSAGE} characters",
        "SIZE_LIMIT_EXCEEDED",
    )
    yield from _times(column["start"], column["end"], retention_days, now_ns)
    yield (
        column["tag_count"].to_numpy() > _MAX_ENTRIES,
        "tags",
        f"must have at most {_MAX_ENTRIES} keys",
        "LABEL_LIMIT_EXCEEDED",
    )
    for field, name in (("logs", "event_time"), ("links", "link_trace_id")):
        offsets = column[name].offsets.to_numpy()
        yield (
            offsets[1:] - offsets[:-1] > _MAX_ENTRIES,
            field,
            f"must have at most {_MAX_ENTRIES} entries",
            "SIZE_LIMIT_EXCEEDED",
        )
    for name, digits in (("trace_id", 32), ("span_id", 16)):
        yield (
            _any_item(column[f"link_{name}"], digits),
            "links",
            f"must have a {name} of {digits} hex digits each",
            "INVALID_ID",
        )


def _times(starts: pa.Array, ends: pa.Array, retention_days: int, now_ns: int) -> Iterator[Rule]:
    (has_start, start), (has_end, end) = (_known(array) for array in (starts, ends))
    oldest, newest = accepted_times(now_ns, retention_days)
    yield ~has_start, "start_time", "is required", "INVALID_FIELD"
    yield (
        has_start & ((start < oldest) | (start > newest)),
        "start_time",
        f"must not be older than {retention_days} days nor more than one day ahead",
        "TIMESTAMP_OUT_OF_RANGE",
    )
    yield has_start & has_end & (end < start), "end_time", "must not be before start_time", "NEGATIVE_DURATION"
    yield has_end & (end > newest), "end_time", "must not be more than one day ahead", "TIMESTAMP_OUT_OF_RANGE"


def _enum(field: str, array: pa.Array, least: int, most: int) -> Rule:
    numbers = array.to_numpy()
    return (numbers < least) | (numbers > most), field, "is not a value that is known", "UNKNOWN_ENUM_VALUE"


def _any_item(lists: pa.ListArray, digits: int) -> Mask:
    """bool[n]: whether a list has an item that is not that many hex digits."""
    found: Mask = np.zeros(len(lists), bool)
    items = lists.flatten()
    if len(items):
        wrong = (~are_hex(items, digits)).nonzero()[0]
        found[pc.list_parent_indices(lists).to_numpy()[wrong]] = True
    return found


def _known(moments: pa.Array) -> tuple[Mask, np.ndarray[Any, np.dtype[np.int64]]]:
    """Which moments there are, and all; 0 for those that are not known."""
    if moments.null_count == 0:
        return np.ones(len(moments), bool), moments.to_numpy()
    return moments.is_valid().to_numpy(zero_copy_only=False), moments.fill_null(0).to_numpy()
