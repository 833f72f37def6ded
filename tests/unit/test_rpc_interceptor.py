"""Every call ends with a well-worded status, within the deadline of its contract. Over a real channel."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

from resilience.contract import policies
from resilience.errors import OverloadedError
from resilience.grpc.guard import Guard
from resilience.grpc.server import PolicyInterceptor
from resilience.priority import Priority
from services.shared.auth.principal import OpenDoor, Principal
from services.shared.errors import ResourceExhaustedError, UnauthenticatedError
from services.shared.rpc.context import remaining
from services.shared.rpc.grpc_server import GrpcServer
from services.shared.rpc.interceptor import ServiceCalls
from services.shared.rpc.server import Binding
from services.shared.rpc.watching import Watches

PATH = "/airis.metrics.v1.MetricsService/ListMetrics"
Behavior = Callable[[metrics_pb2.ListMetricsRequest, Any], Awaitable[metrics_pb2.ListMetricsResponse]]


async def never(request: Any, context: Any) -> Any:
    raise AssertionError("the service was called")


class Served:
    """A server whose every RPC does what `behavior` does."""

    def __init__(self, deadline: float, authenticate: Any = None) -> None:
        self.behavior: Behavior = never
        self.watches = Watches()
        contract = [
            replace(policy, deadline=deadline) if policy.method == PATH else policy
            for policy in policies([metrics_pb2.DESCRIPTOR])
        ]
        everybody = OpenDoor({policy.permission for policy in contract})
        guard = Guard(contract, authenticate or everybody.authenticate)
        self.server = grpc.aio.server(interceptors=[PolicyInterceptor(guard, ServiceCalls("metrics.airis"))])

    async def start(self) -> metrics_pb2_grpc.MetricsServiceStub:
        descriptor = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"]
        handlers = Binding(descriptor, self).handlers(self.watches)
        self.server.add_registered_method_handlers(descriptor.full_name, handlers)
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
        left.append(remaining())
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


@pytest.mark.parametrize("method", ["ListMetrics", "WatchMetrics"])
async def test_nothing_is_parsed_for_who_may_not_call(method: str) -> None:
    shown: list[str | None] = []

    def refuse(token: str | None, tenant: str | None) -> Any:
        shown.append(token)
        raise UnauthenticatedError("Who are you?")

    served = Served(0.2, refuse)
    await served.start()
    path = f"/airis.metrics.v1.MetricsService/{method}"
    open_call = served.channel.unary_stream if method == "WatchMetrics" else served.channel.unary_unary
    # Were it parsed, it would be an invalid argument.
    call = open_call(path)(b"\xff\xff\xff", metadata=(("authorization", "Bearer a"), ("authorization", "Bearer b")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method == "WatchMetrics" else call)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    # Two tokens are none: who checked the call before may have looked at the other one.
    assert shown == ["Bearer a,Bearer b"]
    await served.channel.close()
    await served.server.stop(0)


async def test_a_stream_ends_when_the_token_that_it_was_begun_with_expires() -> None:
    async def answer_once(request: Any, context: Any) -> AsyncIterator[metrics_pb2.WatchMetricsResponse]:
        yield metrics_pb2.WatchMetricsResponse()
        await asyncio.Event().wait()

    caller = Principal("me", "acme", frozenset({"metrics.read"}), expires_at=1000.1)
    guard = Guard(policies([metrics_pb2.DESCRIPTOR]), lambda token, tenant: caller, now=lambda: 1000.0)
    server = grpc.aio.server(interceptors=[PolicyInterceptor(guard, ServiceCalls("metrics.airis"))])
    handler = grpc.unary_stream_rpc_method_handler(
        answer_once, metrics_pb2.WatchMetricsRequest.FromString, metrics_pb2.WatchMetricsResponse.SerializeToString
    )
    service = "airis.metrics.v1.MetricsService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"WatchMetrics": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = metrics_pb2.WatchMetricsRequest(query=metrics_pb2.QueryMetricsRequest(metric="cpu"))
        call = metrics_pb2_grpc.MetricsServiceStub(channel).WatchMetrics(request)
        assert await call.read() == metrics_pb2.WatchMetricsResponse()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    await server.stop(None)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert details(caught.value, error_details_pb2.ErrorInfo)[0].reason == "TOKEN_EXPIRED"


async def test_who_sends_slowly_keeps_nobody_out_and_bulk_that_would_be_refused_is_turned_away_unread() -> None:
    guard = Guard(policies([metrics_pb2.DESCRIPTOR]), OpenDoor({"metrics.read", "metrics.write"}).authenticate)
    interceptor = PolicyInterceptor(guard, ServiceCalls("metrics.airis"))

    async def answer(request: Any, context: Any) -> bytes:
        return b""

    server = GrpcServer((interceptor,), maximum_concurrent_rpcs=1000, turn_away=interceptor.turn_away)
    service, _, read = PATH[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_registered_method_handlers(service, {read: handler, "IngestMetrics": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    bulk = f"/{service}/IngestMetrics"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        slow = [channel.stream_unary(bulk)(timeout=30) for _ in range(300)]
        for method in (bulk, PATH):
            assert await channel.unary_unary(method)(b"", timeout=10) == b""
        with suppress(OverloadedError):
            while True:
                guard.admission.enter(Priority.BULK)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.stream_unary(bulk)(timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(caught.value, error_details_pb2.ErrorInfo)[0].reason == "OVERLOADED"
        assert details(caught.value, error_details_pb2.RetryInfo)
        assert await channel.unary_unary(PATH)(b"", timeout=10) == b""
        for call in slow:
            call.cancel()
    await server.stop(0)


class Large:
    """What a request was parsed to."""


@pytest.mark.parametrize("answers", ["one", "a stream"])
async def test_a_call_that_fails_leaves_nothing_of_its_request_behind_until_garbage_is_collected(answers: str) -> None:
    parsed: list[weakref.ref[Large]] = []

    def parse(_: bytes) -> Large:
        request = Large()
        parsed.append(weakref.ref(request))
        return request

    async def fail(request: Large, context: Any) -> bytes:
        raise ResourceExhaustedError("no room", reason="BACKLOG_FULL", retry_after=1.0)

    async def fail_in_a_stream(request: Large, context: Any) -> AsyncIterator[bytes]:
        yield await fail(request, context)

    handlers = {
        "one": grpc.unary_unary_rpc_method_handler(fail, parse),
        "a stream": grpc.unary_stream_rpc_method_handler(fail_in_a_stream, parse),
    }
    guard = Guard(policies([metrics_pb2.DESCRIPTOR]), OpenDoor({"metrics.read"}).authenticate)
    server = GrpcServer((PolicyInterceptor(guard, ServiceCalls("metrics.airis")),), maximum_concurrent_rpcs=10)
    service, _, name = PATH[1:].partition("/")
    server.add_registered_method_handlers(service, {name: handlers[answers]})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.disable()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(PATH)(b"", timeout=10)
        await server.stop(0)
        assert [each() for each in parsed] == [None] * 3
    finally:
        gc.enable()
