"""Batches whose items tell each other apart, in our dialect and in OTLP's: points by value, entries by message and
time, spans by id."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SIGNALS = ("metrics", "logs", "traces")
NAME = "faults.items"
"""The metric, and the service of logs and spans."""
# Elasticsearch counts different moments by them.
MILLISECOND = 1_000_000


def own(signal: str, batch: str, count: int) -> list[Any]:
    """Items of our dialect."""
    now = time.time_ns()
    return [_MAKERS[signal](batch, index, now) for index in range(count)]


def otlp(signal: str, batch: str, count: int) -> Any:
    """An OTLP request."""
    now = time.time_ns()
    if signal == "metrics":
        metrics = ExportMetricsServiceRequest()
        metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name=NAME)
        for index in range(count):
            point = metric.gauge.data_points.add(time_unix_nano=now, as_double=float(index))
            point.attributes.add(key="batch").value.string_value = batch
        return metrics
    if signal == "logs":
        logs = ExportLogsServiceRequest()
        resource = logs.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = NAME
        resource.resource.attributes.add(key="batch").value.string_value = batch
        records = resource.scope_logs.add().log_records
        for index in range(count):
            record = records.add(time_unix_nano=now + index * MILLISECOND, severity_number=9)
            record.body.string_value = f"{batch} {index}"
        return logs
    traces = ExportTraceServiceRequest()
    group = traces.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = NAME
    spans = group.scope_spans.add().spans
    for index in range(count):
        span = spans.add(
            trace_id=bytes.fromhex(trace_id(batch)),
            span_id=(index + 1).to_bytes(8, "big"),
            name="fault",
            start_time_unix_nano=now - 1_000_000,
            end_time_unix_nano=now,
        )
        span.attributes.add(key="batch").value.string_value = batch
    return traces


def trace_id(batch: str) -> str:
    """The trace of a batch of spans: 32 hex digits."""
    return hashlib.blake2b(batch.encode(), digest_size=16).hexdigest()


def _metric(batch: str, index: int, now: int) -> metrics_pb2.Metric:
    point = metrics_pb2.Metric(name=NAME, value=float(index), labels={"batch": batch})
    point.timestamp.FromNanoseconds(now)
    return point


def _entry(batch: str, index: int, now: int) -> logs_pb2.LogEntry:
    entry = logs_pb2.LogEntry(
        message=f"{batch} {index}", service=NAME, level=logs_pb2.LogEntry.INFO, labels={"batch": batch}
    )
    entry.timestamp.FromNanoseconds(now + index * MILLISECOND)
    return entry


def _span(batch: str, index: int, now: int) -> traces_pb2.Span:
    span = traces_pb2.Span(
        trace_id=trace_id(batch),
        span_id=f"{index + 1:016x}",
        operation_name="fault",
        service_name=NAME,
    )
    span.start_time.FromNanoseconds(now - 1_000_000)
    span.end_time.FromNanoseconds(now)
    span.tags["batch"].string_value = batch
    return span


_MAKERS = {"metrics": _metric, "logs": _entry, "traces": _span}
