"""OTLP requests of each signal in several shapes, and what decodes and checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from services.shared.bus.ingest import Requests
from services.traces import convert as traces
from services.traces import ingest as traces_ingest
from services.traces.config import TracesConfig

NOW = 1_790_000_000_000_000_000


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


MADE = {"metrics": (metrics.OTLP, points), "logs": (logs.OTLP, records), "traces": (traces.OTLP, spans)}
"""For each signal the type of a request, and what makes the one of a number."""


def reader_and_checker(signal: str) -> tuple[Counting, Any]:
    """What decodes requests of a signal, and what checks them; both new."""
    if signal == "metrics":
        return Counting(metrics.read), metrics_ingest.Checker(MetricsConfig(), SeriesIndex())
    if signal == "logs":
        return Counting(logs.read), logs_ingest.Checker(LogsConfig())
    return Counting(traces.read), traces_ingest.Checker(TracesConfig())


def rows(columns: Any) -> list[Any]:
    """The rows of a batch's columns."""
    names = ("samples", "distributions", "entries", "spans")
    return [getattr(columns, name).to_pylist() for name in names if hasattr(columns, name)]
