"""Every call ends with a well-worded status, within the deadline of its contract. Over a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

from services.shared.errors import ResourceExhaustedError
from services.shared.rpc.context import remaining
from services.shared.rpc.interceptor import ServiceInterceptor
from services.shared.rpc.server import Binding

PATH = "/airis.metrics.v1.MetricsService/ListMetrics"
Behavior = Callable[[metrics_pb2.ListMetricsRequest, Any], Awaitable[metrics_pb2.ListMetricsResponse]]


async def never(request: Any, context: Any) -> Any:
    raise AssertionError("the service was called")


class Served:
    """A server whose every RPC does what `behavior` does."""

    def __init__(self, deadline: float) -> None:
        self.behavior: Behavior = never
        self.server = grpc.aio.server(interceptors=[ServiceInterceptor("metrics.airis", {PATH: deadline})])

    async def start(self) -> metrics_pb2_grpc.MetricsServiceStub:
        descriptor = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"]
        self.server.add_generic_rpc_handlers([Binding(descriptor, self).handler()])
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return metrics_pb2_grpc.MetricsServiceStub(self.channel)

    def __getattr__(self, name: str) -> Behavior:
        return self.behavior


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(0.2)
    yield served
    await served.channel.close()
    await served.server.stop(0)


def details(error: grpc.aio.AioRpcError, kind: type) -> list[Any]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


async def test_a_call_beyond_its_contract_ends_with_deadline_exceeded(served: Served) -> None:
    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    served.behavior = hang
    stub = await served.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListMetrics(metrics_pb2.ListMetricsRequest())
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert details(caught.value, error_details_pb2.ErrorInfo)[0].reason == "DEADLINE_EXCEEDED"


async def test_a_query_may_use_what_is_left_of_the_shorter_deadline(served: Served) -> None:
    left: list[float] = []

    async def note(request: Any, context: Any) -> metrics_pb2.ListMetricsResponse:
        left.append(remaining(context))
        return metrics_pb2.ListMetricsResponse()

    served.behavior = note
    stub = await served.start()
    await stub.ListMetrics(metrics_pb2.ListMetricsRequest())
    await stub.ListMetrics(metrics_pb2.ListMetricsRequest(), timeout=0.1)
    assert 0.15 <= left[0] <= 0.2
    assert left[1] < 0.15


async def test_an_unexpected_error_says_nothing_of_its_cause(served: Served) -> None:
    async def fail(request: Any, context: Any) -> Any:
        raise KeyError("a secret")

    served.behavior = fail
    stub = await served.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListMetrics(metrics_pb2.ListMetricsRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


async def test_a_refusal_says_when_to_try_again(served: Served) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        raise ResourceExhaustedError("The backlog is full.", retry_after=1.5)

    served.behavior = refuse
    stub = await served.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListMetrics(metrics_pb2.ListMetricsRequest())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    (retry,) = details(caught.value, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1.5
    # What the Python OTLP exporter reads.
    assert "google.rpc.retryinfo-bin" in dict(caught.value.trailing_metadata())


async def test_a_request_that_breaks_the_contract_never_reaches_the_service(served: Served) -> None:
    stub = await served.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListMetrics(metrics_pb2.ListMetricsRequest(page_size=1001))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (bad,) = details(caught.value, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["page_size"]


@pytest.mark.parametrize("method", ["ListMetrics", "WatchMetrics"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(served: Served, method: str) -> None:
    await served.start()
    path = f"/airis.metrics.v1.MetricsService/{method}"
    open_call = served.channel.unary_stream if method == "WatchMetrics" else served.channel.unary_unary
    call = open_call(path)(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method == "WatchMetrics" else call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value, error_details_pb2.ErrorInfo)[0].reason == "MALFORMED_REQUEST"
