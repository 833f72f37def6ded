"""What frontends take of the contracts: one unary method of each signal, and OTLP's."""

from __future__ import annotations

from dataclasses import dataclass

from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.descriptor import MethodDescriptor
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


@dataclass(frozen=True, slots=True)
class Signal:
    """What is taken of a signal.

    Attributes:
        name: "metrics".
        unary: The method of our own contract.
        export: OTLP's.
        otlp_path: OTLP's over HTTP.
    """

    name: str
    unary: MethodDescriptor
    export: MethodDescriptor
    otlp_path: str

    @property
    def domain(self) -> str:
        """The ErrorInfo domain."""
        return f"{self.name}.airis"


def path_of(method: MethodDescriptor) -> str:
    """How gRPC names a method."""
    return f"/{method.containing_service.full_name}/{method.name}"


SIGNALS = (
    Signal(
        "metrics",
        metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].methods_by_name["IngestMetrics"],
        metrics_service_pb2.DESCRIPTOR.services_by_name["MetricsService"].methods_by_name["Export"],
        "/v1/metrics",
    ),
    Signal(
        "logs",
        logs_pb2.DESCRIPTOR.services_by_name["LogService"].methods_by_name["IngestLogs"],
        logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"].methods_by_name["Export"],
        "/v1/logs",
    ),
    Signal(
        "traces",
        traces_pb2.DESCRIPTOR.services_by_name["TraceService"].methods_by_name["IngestSpans"],
        trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].methods_by_name["Export"],
        "/v1/traces",
    ),
)
