"""Requests that arrive together are decoded and checked together, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.logs import convert as logs
from services.logs import ingest as logs_ingest
from services.logs.config import LogsConfig
from services.metrics import convert as metrics
from services.metrics import ingest as metrics_ingest
from services.metrics.config import MetricsConfig
from services.metrics.series import SeriesIndex
from services.shared.bus.ingest import CheckedRequest, Ingest, Requests
from services.shared.errors import InvalidArgumentError
from services.traces import convert as traces
from services.traces import ingest as traces_ingest
from services.traces.config import TracesConfig

NOW = 1_790_000_000_000_000_000


class Intake:
    """Has the time."""

    def clock(self) -> int:
        return NOW


def points(number: int) -> bytes:
    request = ExportMetricsServiceRequest()
    for host in range(number % 3):
        resource = request.resource_metrics.add()
        resource.resource.attributes.add(key="host").value.string_value = f"h{host}"
        scope = resource.scope_metrics.add()
        for metric in range(1 + number % 2):
            made = scope.metrics.add(name=f"m{metric}")
            made.gauge.data_points.add(time_unix_nano=NOW, as_double=number)
            counter = scope.metrics.add(name=f"c{metric}")
            counter.sum.data_points.add(time_unix_nano=NOW, as_int=number).attributes.add(key="n").value.int_value = 1
            histogram = scope.metrics.add(name="h").histogram.data_points.add(time_unix_nano=NOW, count=number)
            histogram.explicit_bounds.append(1.0)
            histogram.bucket_counts.extend([number, 0])
    return bytes(request.SerializeToString())


def records(number: int) -> bytes:
    request = ExportLogsServiceRequest()
    for service in range(number % 3):
        resource = request.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"s{service}"
        for scope in range(1 + number % 2):
            made = resource.scope_logs.add()
            made.scope.name = f"scope{scope}"
            for line in range(number):
                record = made.log_records.add(time_unix_nano=NOW - line, severity_number=9)
                record.body.string_value = f"line {number}/{line}"
                record.attributes.add(key="n").value.int_value = line
    return bytes(request.SerializeToString())


def spans(number: int) -> bytes:
    request = ExportTraceServiceRequest()
    for service in range(number % 3):
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"s{service}"
        scope = resource.scope_spans.add()
        for at in range(number):
            span = scope.spans.add(
                trace_id=bytes([number + 1] * 16),
                span_id=bytes([at + 1] * 8),
                name=f"op{at}",
                start_time_unix_nano=NOW - 1000,
                end_time_unix_nano=NOW,
            )
            span.attributes.add(key="n").value.int_value = at
            if at % 2:
                span.events.add(time_unix_nano=NOW, name="e")
    return bytes(request.SerializeToString())


class Counting:
    """Reads, and counts how many requests it was given at once."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.sizes: list[int] = []

    def __call__(self, message_type: str, payloads: Sequence[bytes]) -> Requests[Any]:
        self.sizes.append(len(payloads))
        found: Requests[Any] = self._read(message_type, payloads)
        return found


def ingest_of(signal: str) -> tuple[Ingest[Any, Any], Counting]:
    read, checker = {
        "metrics": (metrics.read, lambda: metrics_ingest.Checker(MetricsConfig(), SeriesIndex())),
        "logs": (logs.read, lambda: logs_ingest.Checker(LogsConfig())),
        "traces": (traces.read, lambda: traces_ingest.Checker(TracesConfig())),
    }[signal]
    counting = Counting(read)
    intake: Any = Intake()
    return Ingest(counting, checker(), intake), counting


MADE = {"metrics": (metrics.OTLP, points), "logs": (logs.OTLP, records), "traces": (traces.OTLP, spans)}


def rows(checked: CheckedRequest[Any]) -> list[Any]:
    columns = checked.columns
    tables = [
        getattr(columns, name) for name in ("samples", "distributions", "entries", "spans") if hasattr(columns, name)
    ]
    return [table.to_pylist() for table in tables]


@pytest.mark.parametrize("signal", MADE)
async def test_each_request_gets_the_columns_that_it_gets_alone(signal: str) -> None:
    message_type, make = MADE[signal]
    payloads = [make(number) for number in (1, 4, 0, 5, 2, 3, 8)]
    together, counting = ingest_of(signal)
    found = await asyncio.gather(*(together.check(message_type, "default", payload) for payload in payloads))
    assert counting.sizes == [7]
    alone, _ = ingest_of(signal)
    expected = [await alone.check(message_type, "default", payload) for payload in payloads]
    assert [rows(each) for each in found] == [rows(each) for each in expected]
    assert [each.count for each in found] == [each.count for each in expected]
    assert sum(each.count for each in found) > 10
    assert {each.received_at for each in found} == {NOW}


async def test_a_request_that_is_wrong_is_refused_alone_and_its_items_by_their_own_places() -> None:
    ingest, _ = ingest_of("logs")
    partly = ExportLogsServiceRequest()
    scope = partly.resource_logs.add().scope_logs.add()
    for time in (NOW, 1, NOW):
        scope.log_records.add(time_unix_nano=time).body.string_value = "x"
    sent = [records(4), b"\xff\xff", partly.SerializeToString(), records(5)]
    found = await asyncio.gather(*(ingest.check(logs.OTLP, "default", each) for each in sent), return_exceptions=True)
    assert isinstance(found[1], InvalidArgumentError)
    assert found[1].reason == "MALFORMED_REQUEST"
    first, _, third, fourth = found
    assert isinstance(first, CheckedRequest)
    assert isinstance(third, CheckedRequest)
    assert isinstance(fourth, CheckedRequest)
    assert {at: each.field for at, each in third.rejected.items()} == {1: "log_records[1].timestamp"}
    assert (first.count, third.count, third.columns.count, fourth.count) == (4, 3, 2, 20)
    assert not first.rejected
    assert not fourth.rejected


async def test_tenants_are_not_mixed_and_what_nobody_waits_for_is_not_checked() -> None:
    ingest, counting = ingest_of("logs")
    first = asyncio.create_task(ingest.check(logs.OTLP, "a", records(1)))
    await asyncio.sleep(0)
    others = [asyncio.create_task(ingest.check(logs.OTLP, tenant, records(4))) for tenant in "abab"]
    await asyncio.sleep(0)
    others[0].cancel()
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    tenants = [
        set(each.columns.entries.column("tenant").to_pylist()) for each in found if isinstance(each, CheckedRequest)
    ]
    assert tenants == [{"a"}, {"b"}, {"a"}, {"b"}]
    assert sum(counting.sizes) == 4


async def test_large_requests_are_not_joined_without_limit() -> None:
    ingest, counting = ingest_of("logs")
    large = ExportLogsServiceRequest()
    for _ in range(6):
        large.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=NOW).body.string_value = "x" * 200_000
    payload = large.SerializeToString()
    await asyncio.gather(*(ingest.check(logs.OTLP, "default", payload) for _ in range(4)))
    assert max(counting.sizes) == 1


async def test_whatever_goes_wrong_with_all_together_each_is_answered() -> None:
    def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Any]:
        if len(payloads) > 1:
            raise RuntimeError("only together")
        return logs.read(message_type, payloads)

    intake: Any = Intake()
    ingest = Ingest(read, logs_ingest.Checker(LogsConfig()), intake)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*(ingest.check(logs.OTLP, "default", records(4)) for _ in range(3)))
    assert [each.count for each in found] == [4, 4, 4]
