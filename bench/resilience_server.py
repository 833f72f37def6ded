"""The server that `bench.resilience` calls: an echo, bare or behind all that our servers put before a handler.

Run by it in a process of its own, `python -m bench.resilience_server bare|guarded JWKS_FILE`; prints its port.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import uvloop
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from resilience.contract import MethodPolicy, RateRule, policies
from resilience.grpc.guard import Caller, Guard
from resilience.grpc.server import PolicyInterceptor
from services.shared.auth.bearer import bearer_token
from services.shared.auth.config import AuthConfig, open_authenticator
from services.shared.auth.permissions import contract_permissions
from services.shared.rpc.interceptor import ServiceCalls
from services.shared.telemetry.config import TelemetryConfig
from services.shared.telemetry.tracing import traced

METHOD = "/airis.metrics.v1.MetricsService/QueryMetrics"
HEDGED_METHOD = "/airis.traces.v1.TraceService/GetTrace"


class _NoExporter(SpanExporter):
    """Spans are recorded and batched, and then dropped."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def start_telemetry(trace_ratio: float = TelemetryConfig().trace_ratio) -> None:
    """Counts and samples as a service does.

    Args:
        trace_ratio: The share of calls whose span is recorded.
    """
    tracers = TracerProvider(sampler=ParentBased(TraceIdRatioBased(trace_ratio)), shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_NoExporter(), max_queue_size=4096))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False))


def interceptors(jwks_file: Path) -> list[grpc.aio.ServerInterceptor]:
    """All that our servers put before a handler, outermost first.

    Args:
        jwks_file: The keys that tokens are checked with.
    """
    authenticator = open_authenticator(AuthConfig(enabled=True, jwks_file=jwks_file), contract_permissions())

    def authenticate(authorization: str | None, tenant: str | None) -> Caller:
        return authenticator.authenticate(bearer_token(authorization), tenant)

    files = [metrics_pb2.DESCRIPTOR, traces_pb2.DESCRIPTOR]
    guard = Guard([_unlimited(policy) for policy in policies(files)], authenticate)
    return [PolicyInterceptor(guard, ServiceCalls("bench.airis"), traced())]


def _unlimited(policy: MethodPolicy) -> MethodPolicy:
    # The bucket is asked as ever, but is never empty.
    return dataclasses.replace(policy, rate_limit=RateRule(1e9, 1_000_000_000))


async def answer(request: Any, context: Any) -> Any:
    """The handler: it has nothing to do."""
    return _ANSWER


_ANSWER = metrics_pb2.QueryMetricsResponse()


def handler() -> grpc.RpcMethodHandler:
    """The handler as gRPC wants it, with a real request and response."""
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=metrics_pb2.QueryMetricsRequest.FromString,
        response_serializer=metrics_pb2.QueryMetricsResponse.SerializeToString,
    )


async def _serve(kind: str, jwks_file: Path) -> None:
    start_telemetry()
    server = grpc.aio.server(interceptors=interceptors(jwks_file) if kind == "guarded" else [])
    _, service, method = METHOD.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler()}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Path(sys.argv[2])))
