"""Which entries are refused, at the very limit and one beyond it, and how that is worded."""

from __future__ import annotations

from typing import Any

import pytest
from airis.logs.v1 import logs_pb2

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import LogColumns
from services.shared.bus.ingest import Checked
from services.shared.errors import InvalidArgumentError

NOW = 1_790_000_000_000_000_000
DAY = 86_400_000_000_000
KIB = 1024


def check(*entries: logs_pb2.LogEntry, config: LogsConfig | None = None) -> Checked[LogColumns]:
    payload = logs_pb2.IngestLogsRequest(entries=entries).SerializeToString()
    return Checker(config or LogsConfig()).check(convert.read(convert.UNARY, [payload]).items, "default", NOW)


def entry(**fields: Any) -> logs_pb2.LogEntry:
    return logs_pb2.LogEntry(**{"message": "m", **fields})


def at(nanoseconds: int) -> logs_pb2.LogEntry:
    timed = entry()
    timed.timestamp.FromNanoseconds(nanoseconds)
    return timed


@pytest.mark.parametrize(
    "accepted",
    [
        entry(message="가" * (256 * KIB // 3)),
        entry(message="x" * 256 * KIB),
        entry(stack_trace="x" * 256 * KIB),
        entry(service="가" * 255),
        entry(level=5),
        entry(trace_id="0AF7651916CD43DD8448EB211C80319C", span_id="b7ad6b7169203331"),
        entry(labels={str(n): "" for n in range(64)}),
        entry(labels={"가" * 255: "나" * 4096}),
        entry(metadata={str(n): {"bool_value": False} for n in range(256)}),
        entry(duration_ms=-1e308),
        at(NOW - 90 * DAY),
        at(NOW + DAY),
    ],
)
def test_an_entry_at_a_limit_is_accepted(accepted: logs_pb2.LogEntry) -> None:
    checked = check(accepted)
    assert checked.rejected == {}
    assert checked.columns.entries.num_rows == 1


@pytest.mark.parametrize(
    ("refused", "field", "reason"),
    [
        (entry(message=""), "message", "INVALID_FIELD"),
        (entry(message="x" * (256 * KIB + 1)), "message", "SIZE_LIMIT_EXCEEDED"),
        (entry(stack_trace="x" * (256 * KIB + 1)), "stack_trace", "SIZE_LIMIT_EXCEEDED"),
        (entry(service="가" * 256), "service", "SIZE_LIMIT_EXCEEDED"),
        (entry(level=6), "level", "UNKNOWN_ENUM_VALUE"),
        (entry(level=-1), "level", "UNKNOWN_ENUM_VALUE"),
        (entry(trace_id="0af7"), "trace_id", "INVALID_ID"),
        (entry(trace_id="0" * 32), "trace_id", "INVALID_ID"),
        (entry(trace_id="0af7651916cd43dd8448eb211c80319c\n"), "trace_id", "INVALID_ID"),
        (entry(span_id="g" * 16), "span_id", "INVALID_ID"),
        (entry(labels={str(n): "" for n in range(65)}), "labels", "LABEL_LIMIT_EXCEEDED"),
        (entry(labels={"": "x"}), "labels", "LABEL_LIMIT_EXCEEDED"),
        (entry(labels={"가" * 256: "x"}), "labels", "LABEL_LIMIT_EXCEEDED"),
        (entry(labels={"a": "b", "k": "x" * 4097}), "labels", "LABEL_LIMIT_EXCEEDED"),
        (entry(metadata={str(n): {"bool_value": False} for n in range(257)}), "metadata", "LABEL_LIMIT_EXCEEDED"),
        (entry(duration_ms=float("nan")), "duration_ms", "NON_FINITE_VALUE"),
        (entry(duration_ms=float("-inf")), "duration_ms", "NON_FINITE_VALUE"),
        (at(NOW - 90 * DAY - 1), "timestamp", "TIMESTAMP_OUT_OF_RANGE"),
        (at(NOW + DAY + 1), "timestamp", "TIMESTAMP_OUT_OF_RANGE"),
    ],
)
def test_an_entry_beyond_a_limit_is_refused_alone_and_named(
    refused: logs_pb2.LogEntry, field: str, reason: str
) -> None:
    checked = check(entry(labels={"a": "b"}), refused, entry(labels={"c": "d"}))
    assert list(checked.rejected) == [1]
    violation = checked.rejected[1]
    assert (violation.field, violation.reason) == (f"entries[1].{field}", reason)
    assert checked.columns.entries.column("index").to_pylist() == [0, 2]
    assert [dict(labels) for labels in checked.columns.entries.column("labels").to_pylist()] == [{"a": "b"}, {"c": "d"}]


def test_an_entry_without_a_time_gets_the_time_of_receipt() -> None:
    times = check(entry(), at(NOW - 1)).columns.entries.column("timestamp").cast("int64").to_pylist()
    assert times == [NOW, NOW - 1]


def test_more_entries_than_allowed_refuse_the_request() -> None:
    config = LogsConfig(max_items=2)
    assert check(entry(), entry(), config=config).rejected == {}
    with pytest.raises(InvalidArgumentError, match="at most 2") as caught:
        check(entry(), entry(), entry(), config=config)
    assert caught.value.reason == "SIZE_LIMIT_EXCEEDED"
