"""The requests of the benchmarks are valid OTLP, deterministic, and share no item."""

from __future__ import annotations

from itertools import chain

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.payloads import ITEMS, METRIC_NAMES, SERVICES, base_before, payloads

BASE = 1_790_000_000_000_000_000


def _points(request: bytes):
    for group in ExportMetricsServiceRequest.FromString(request).resource_metrics:
        resource = tuple((each.key, each.value.string_value) for each in group.resource.attributes)
        for metric in group.scope_metrics[0].metrics:
            for point in chain(metric.sum.data_points, metric.gauge.data_points):
                attributes = tuple((each.key, str(each.value)) for each in point.attributes)
                yield (resource, metric.name, attributes), point


def _records(request: bytes):
    for group in ExportLogsServiceRequest.FromString(request).resource_logs:
        yield from group.scope_logs[0].log_records


def _spans(request: bytes):
    for group in ExportTraceServiceRequest.FromString(request).resource_spans:
        yield from ((group.resource.attributes[0].value.string_value, span) for span in group.scope_spans[0].spans)


@pytest.mark.parametrize("signal", ["metrics", "logs", "traces"])
def test_the_same_number_gives_the_same_bytes_and_another_one_others(signal: str) -> None:
    once, again = payloads(signal, BASE), payloads(signal, BASE)
    assert once.request(7) == again.request(7)
    assert once.request(7) != once.request(8)
    assert once.items == ITEMS[signal]


def test_a_sweep_reports_each_series_once_and_the_next_sweep_the_same_ones_later() -> None:
    source = payloads("metrics", BASE)
    first = {series: point for number in range(10) for series, point in _points(source.request(number))}
    second = {series: point for number in range(10, 20) for series, point in _points(source.request(number))}
    assert source.period == 10
    assert len(first) == 10_000
    assert first.keys() == second.keys()
    for series, point in first.items():
        later = second[series]
        assert 9_900_000_000 < later.time_unix_nano - point.time_unix_nano < 10_100_000_000
        assert point.time_unix_nano > BASE
        if point.HasField("as_int"):
            assert 0 <= point.as_int <= later.as_int
    assert {name for _, name, _ in first} == set(METRIC_NAMES)
    assert all(len(resource) + len(attributes) == 8 for resource, _, attributes in first)


def test_a_million_series_are_new_in_each_request() -> None:
    source = payloads("metrics", BASE, series=1_000_000)
    seen = {series for number in (0, 1, 500, 999) for series, _ in _points(source.request(number))}
    assert len(seen) == 4000


def test_calls_have_one_point_each_of_a_thousand_series() -> None:
    source = payloads("calls", BASE)
    points = [point for number in range(1001) for point in _points(source.request(number))]
    assert source.items == 1
    assert len(points) == 1001
    assert len({series for series, _ in points}) == source.period == 1000
    assert len({(series, point.time_unix_nano) for series, point in points}) == 1001
    assert {name for (_, name, _), _ in points} < set(METRIC_NAMES)


def test_records_have_200_bytes_differ_and_are_partly_korean() -> None:
    source = payloads("logs", BASE)
    records = [record for number in (0, 32) for record in _records(source.request(number))]
    bodies = {record.body.string_value for record in records}
    assert len(records) == len(bodies) == 2000
    assert 190 < sum(len(body.encode()) for body in bodies) / len(bodies) < 210
    korean = sum(any("가" <= letter <= "힣" for letter in body) for body in bodies)
    assert 0.1 < korean / len(bodies) < 0.3
    assert len({record.time_unix_nano for record in records}) == 2000
    assert {record.severity_number for record in records} == {5, 9, 13, 17}


def test_traces_are_trees_of_eight_services() -> None:
    source = payloads("traces", BASE)
    spans = [each for number in (0, 32) for each in _spans(source.request(number))]
    assert len(spans) == 2 * 512
    assert len({span.span_id for _, span in spans}) == len(spans)
    assert {service for service, _ in spans} == set(SERVICES)
    traces: dict[bytes, dict[bytes, tuple[str, object]]] = {}
    for service, span in spans:
        traces.setdefault(span.trace_id, {})[span.span_id] = (service, span)
    assert len(traces) == 64
    for members in traces.values():
        assert len({service for service, _ in members.values()}) == 8
        roots = [span for _, span in members.values() if not span.parent_span_id]
        assert len(roots) == 1
        for _, span in members.values():
            assert span.start_time_unix_nano < span.end_time_unix_nano
            if span.parent_span_id:
                parent = members[span.parent_span_id][1]
                assert parent.start_time_unix_nano <= span.start_time_unix_nano
                assert span.end_time_unix_nano <= parent.end_time_unix_nano


def test_the_base_is_in_the_past_at_a_whole_minute() -> None:
    base = base_before(BASE, hours=2)
    assert base % 60_000_000_000 == 0
    assert 0 <= BASE - base - 2 * 3600 * 1_000_000_000 < 60_000_000_000
