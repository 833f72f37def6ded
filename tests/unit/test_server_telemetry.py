"""A trace tells who spent the deadline, and why a call was refused. Over a real channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from resilience.contract import policies
from resilience.grpc.guard import Guard
from resilience.grpc.measures import Measures
from resilience.grpc.server import PolicyInterceptor
from services.shared.auth.principal import OpenDoor
from services.shared.rpc.interceptor import ServiceCalls

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """A metrics server whose callers have the given permissions, and the spans of its calls."""

    def __init__(self, permissions: set[str]) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        guard = Guard(policies([metrics_pb2.DESCRIPTOR]), OpenDoor(permissions).authenticate)
        self.server = grpc.aio.server(
            interceptors=[
                PolicyInterceptor(guard, ServiceCalls("metrics.airis"), Measures(provider.get_tracer("test"))),
            ]
        )
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(Slow(), self.server)

    async def call(self, method: str, request: Any, timeout: float) -> ReadableSpan:
        """Calls, and gives the server's span of the call."""
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = metrics_pb2_grpc.MetricsServiceStub(channel)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await getattr(stub, method)(request, timeout=timeout, metadata=(("traceparent", PARENT),))
        # The caller has its answer a moment before the server is done with the call.
        await self.server.stop(10.0)
        (span,) = self.exporter.get_finished_spans()
        return span


class Slow(metrics_pb2_grpc.MetricsServiceServicer):
    """Takes a twentieth of a second."""

    async def ListMetrics(self, request: Any, context: Any) -> metrics_pb2.ListMetricsResponse:  # noqa: N802
        await asyncio.sleep(0.05)
        return metrics_pb2.ListMetricsResponse()


@pytest.fixture
async def reader() -> AsyncIterator[Traced]:
    traced = Traced({"metrics.read"})
    yield traced
    await traced.server.stop(None)


async def test_a_span_carries_the_budget_at_entry_and_at_exit(reader: Traced) -> None:
    span = await reader.call("ListMetrics", metrics_pb2.ListMetricsRequest(), timeout=2.0)
    entry, left = span.attributes["deadline.entry_ms"], span.attributes["deadline.exit_ms"]
    # gRPC sends hundredths of a second, rounded up: 2.01 s, of which some is gone by then.
    assert 1000 < entry <= 2010
    assert entry - left >= 45


async def test_a_refusal_is_an_event_on_the_span_with_its_reason(reader: Traced) -> None:
    request = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a", value=1)])
    span = await reader.call("IngestMetrics", request, timeout=2.0)
    (event,) = [event for event in span.events if event.name.startswith("resilience")]
    assert "metrics.write" in str(dict(event.attributes))


async def test_a_span_is_part_of_its_callers_trace_and_says_how_the_call_ended(reader: Traced) -> None:
    span = await reader.call("ListMetrics", metrics_pb2.ListMetricsRequest(), timeout=2.0)
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.name == "/airis.metrics.v1.MetricsService/ListMetrics"
    assert span.kind is SpanKind.SERVER
    assert span.attributes["rpc.service"] == "airis.metrics.v1.MetricsService"
    assert span.attributes["rpc.method"] == "ListMetrics"
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.status.is_ok


async def test_a_callers_mistake_is_no_error_of_the_server(reader: Traced) -> None:
    request = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a", value=1)])
    span = await reader.call("IngestMetrics", request, timeout=2.0)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert span.status.is_ok
