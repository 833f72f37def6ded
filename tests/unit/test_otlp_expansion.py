"""What OTLP says once for many items costs no more memory than the items, and a bomb is refused before it goes off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.logs import convert as logs
from services.metrics import convert as metrics
from services.shared.errors import InvalidArgumentError
from services.traces import convert as traces

NOW = 1_790_000_000_000_000_000
ITEMS = 3000
MEBIBYTE = 1024 * 1024


def shared_by_records(size: int) -> Any:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="shared").value.string_value = "x" * size
    scope = resource.scope_logs.add()
    for number in range(ITEMS):
        scope.log_records.add(time_unix_nano=NOW + number).body.string_value = "a line"
    return request


def shared_by_spans(size: int) -> Any:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    scope = resource.scope_spans.add()
    scope.scope.attributes.add(key="shared").value.string_value = "x" * size
    for number in range(ITEMS):
        scope.spans.add(
            trace_id=b"t" * 16,
            span_id=number.to_bytes(8, "big"),
            name="call",
            start_time_unix_nano=NOW,
            end_time_unix_nano=NOW,
        )
    return request


def named_service_of_spans(size: int) -> Any:
    request = shared_by_spans(1)
    service = request.resource_spans[0].resource.attributes.add(key="service.name")
    service.value.string_value = "x" * size
    return request


def shared_by_points(size: int) -> Any:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu", description="x" * size)
    for number in range(ITEMS):
        point = metric.gauge.data_points.add(as_double=1.5, time_unix_nano=NOW + number)
        point.attributes.add(key="host").value.string_value = f"h{number}"
    return request


SHARED = [
    pytest.param(logs.read, logs.OTLP, shared_by_records, id="logs"),
    pytest.param(traces.read, traces.OTLP, shared_by_spans, id="spans-scope"),
    pytest.param(traces.read, traces.OTLP, named_service_of_spans, id="spans-service"),
    pytest.param(metrics.read, metrics.OTLP, shared_by_points, id="metrics"),
]


@pytest.fixture
def pool() -> Any:
    """Counts what Arrow takes in a test."""
    before = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    yield counted
    pa.set_memory_pool(before)


@pytest.mark.parametrize(("read", "message_type", "request_of"), SHARED)
def test_what_is_shared_by_too_many_is_refused_before_it_is_written_out(
    read: Callable[[str, list[bytes]], Any], message_type: str, request_of: Callable[[int], Any], pool: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="Send fewer items in a request") as refused:
        read(message_type, [request_of(120_000).SerializeToString()])
    assert refused.value.reason == "SIZE_LIMIT_EXCEEDED"
    assert pool.max_memory() < 20 * MEBIBYTE


@pytest.mark.parametrize(("read", "message_type", "request_of"), SHARED)
def test_many_items_take_no_more_memory_than_their_number_says(
    read: Callable[[str, list[bytes]], Any], message_type: str, request_of: Callable[[int], Any], pool: Any
) -> None:
    items = read(message_type, [request_of(100).SerializeToString()]).items
    assert items.count == ITEMS
    assert pool.max_memory() < 20 * MEBIBYTE
