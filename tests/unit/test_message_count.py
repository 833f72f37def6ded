"""Too many messages in a request are noticed before anything is built of them, on every level and in every dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp_metrics

from services.logs import convert as logs
from services.metrics import convert as metrics
from services.shared.errors import InvalidArgumentError
from services.shared.rpc.ingest_wire import MOST_ITEMS
from services.shared.rpc.message_count import has_more_messages
from services.traces import convert as traces

PATH = ({1}, {2}, {3, 4})


def varint(value: int) -> bytes:
    parts = b""
    while value > 0x7F:
        parts, value = parts + bytes([value & 0x7F | 0x80]), value >> 7
    return parts + bytes([value])


def message(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def of_levels(outer: int, middle: int, inner: int) -> bytes:
    leaf = b"".join(message(3 + number % 2, b"\x1a\x1a\x1a") for number in range(inner))
    return message(1, message(2, leaf) * middle) * outer


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 70))
def test_it_is_the_largest_number_of_messages_on_a_level_that_counts(
    outer: int, middle: int, inner: int, most: int
) -> None:
    largest = max(outer, outer * middle, outer * middle * inner)
    assert has_more_messages(of_levels(outer, middle, inner), PATH, most) == (largest > most)


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_have_an_answer(payload: bytes, most: int) -> None:
    assert has_more_messages(payload, PATH, most) in (True, False)


def test_what_is_walked_is_bounded() -> None:
    others = bytes([5 << 3, 1]) * 1000
    assert has_more_messages(message(1, others + message(2, b"")) * 3, PATH, 2)
    assert has_more_messages(others + message(1, b"") * 2 + message(5, b"\x0a" * 9), PATH, 4)


def logs_otlp(count: int) -> Any:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    records.extend([type(records.add())()] * (count - 1))
    return request


def spans_otlp(count: int) -> Any:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.extend([type(spans.add())()] * (count - 1))
    return request


def points_otlp(count: int) -> Any:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.sum.data_points.extend([otlp_metrics.NumberDataPoint()] * count)
    return request


def metrics_otlp(count: int) -> Any:
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.extend([otlp_metrics.Metric()] * count)
    return request


REQUESTS = [
    (metrics.read, lambda n: metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric()] * n)),
    (
        metrics.read,
        lambda n: metrics_pb2.StreamMetricsRequest(
            batch=metrics_pb2.StreamMetricsRequest.Batch(metrics=[metrics_pb2.Metric()] * n)
        ),
    ),
    (logs.read, lambda n: logs_pb2.IngestLogsRequest(entries=[logs_pb2.LogEntry()] * n)),
    (traces.read, lambda n: traces_pb2.IngestSpansRequest(spans=[traces_pb2.Span()] * n)),
    (metrics.read, points_otlp),
    (metrics.read, metrics_otlp),
    (logs.read, logs_otlp),
    (traces.read, spans_otlp),
]


@pytest.mark.parametrize(("read", "request_of"), REQUESTS)
def test_a_request_of_empty_items_beyond_the_limit_is_refused(
    read: Callable[[str, list[bytes]], Any], request_of: Callable[[int], Any]
) -> None:
    request = request_of(MOST_ITEMS + 1)
    with pytest.raises(InvalidArgumentError, match=f"more than {MOST_ITEMS} items") as refused:
        read(request.DESCRIPTOR.full_name, [request.SerializeToString()])
    assert refused.value.reason == "SIZE_LIMIT_EXCEEDED"
