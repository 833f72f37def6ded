"""Health and reflection, as everybody may call them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.shared.rpc.grpc_server import GrpcServer
from services.shared.rpc.open_services import Health, serve_health, serve_reflection

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NO_MESSAGE = b"\xff\xff\xff"


@pytest.fixture
async def health() -> Health:
    made = Health()
    made.set("airis.metrics.v1.MetricsService", NOT_SERVING)
    return made


@pytest.fixture
async def server(health: Health) -> AsyncIterator[GrpcServer]:
    made = GrpcServer(maximum_concurrent_rpcs=100)
    serve_health(made, health)
    serve_reflection(made, ["airis.metrics.v1.MetricsService"])
    yield made
    await made.stop(0)


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened


async def test_health_is_checked_listed_and_watched(channel: grpc.aio.Channel, health: Health) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
    listed = (await stub.List(health_pb2.HealthListRequest())).statuses
    assert {name: answer.status for name, answer in listed.items()} == {
        "": SERVING,
        "airis.metrics.v1.MetricsService": NOT_SERVING,
    }
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="airis.metrics.v1.MetricsService"))
    assert (await watch.read()).status == NOT_SERVING
    health.set("airis.metrics.v1.MetricsService", SERVING)
    assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_who_watches_is_told_that_the_server_stops_and_does_not_hold_it_up(
    channel: grpc.aio.Channel, health: Health, server: GrpcServer
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "none")]
    assert [(await watch.read()).status for watch in watches] == [SERVING, SERVICE_UNKNOWN]
    health.end()
    health.set("", SERVING)
    assert (await watches[0].read()).status == NOT_SERVING
    assert [await watch.read() for watch in watches] == [grpc.aio.EOF, grpc.aio.EOF]
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    await asyncio.wait_for(server.stop(60), 30)


async def test_a_service_that_nobody_knows_is_not_found(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="none"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_what_is_served_and_finds_a_method(channel: grpc.aio.Channel) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health.Check"),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, found = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    assert [service.name for service in listed.list_services_response.service] == [
        "airis.metrics.v1.MetricsService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert len(found.file_descriptor_response.file_descriptor_proto) == 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest),
        ("/grpc.health.v1.Health/List", health_pb2.HealthListRequest),
        ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
        ),
    ],
)
async def test_what_is_no_message_is_the_callers_fault_and_leaves_nothing_in_the_log(
    channel: grpc.aio.Channel, path: str, expected: type[Message], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="grpc"), pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in channel.stream_stream(path)(iter([NO_MESSAGE])):
            pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"The request is not a valid {expected.DESCRIPTOR.full_name} message."
    assert [record for record in caplog.records if record.exc_info] == []
