"""The SDK finds instances in a real Consul, and loses no call while they come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.client import AirisClient, Discovery, SyncAirisClient
from airis.client import errors as client_errors
from airis.client.discovery_channel import DiscoveredChannel
from airis.client.signals.metrics import query_request
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from deploy.servers import Server, make_server
from tests.discovered_service import DiscoveredService, Load
from tests.service_process import ServiceProcess

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def processes(
    consul: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[DiscoveredService]]]:
    """Two instances, and the prefix that they are registered with."""
    prefix, folder = f"t{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("instances")
    services = [DiscoveredService(consul.address, prefix, folder / f"{name}.log") for name in "ab"]
    yield prefix, services
    for service in services:
        asyncio.run(service.kill())


@pytest.fixture
async def pair(processes: tuple[str, list[DiscoveredService]]) -> list[DiscoveredService]:
    """Both run."""
    _, services = processes
    await asyncio.gather(*(service.start() for service in services if not service.is_running))
    return services


@pytest.fixture
def prefix(processes: tuple[str, list[DiscoveredService]]) -> str:
    return processes[0]


@pytest.fixture
def own_prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


async def test_calls_without_any_retry_lose_nothing_while_instances_come_and_leave(
    consul: Server, prefix: str, pair: list[DiscoveredService]
) -> None:
    discovery = Discovery(consul.address, prefix)
    directory = discovery.open()
    # Below all policies: what fails here fails.
    channel = DiscoveredChannel(f"{prefix}-metrics", directory, grpc.aio.insecure_channel)
    stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
    load = Load(lambda: stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(metric="m"), timeout=5))
    a, b = pair
    await load.until_answered_by(a.name, b.name)
    for leaving, staying in ((a, b), (b, a)):
        await leaving.stop()
        await load.until_answered_by(staying.name, within=3)
        await leaving.start()
        await load.until_answered_by(a.name, b.name, within=5)
    await load.end()
    assert load.failures == []
    assert min(load.answers[a.name], load.answers[b.name]) > 10
    await channel.close()
    await directory.close()


async def test_a_killed_instance_costs_no_call_and_is_called_again_when_it_is_back(
    consul: Server, prefix: str, pair: list[DiscoveredService]
) -> None:
    a, b = pair
    async with AirisClient(discovery=f"consul://{consul.address}/{prefix}") as client:
        load = Load(lambda: client.metrics.query("m"))
        await load.until_answered_by(a.name, b.name)
        for _ in range(2):
            await b.kill()
            await load.until_answered_by(a.name, within=3)
            await b.start()
            await load.until_answered_by(a.name, b.name, within=10)
        await load.end()
    assert load.failures == []


async def test_calls_are_shared_evenly_in_turn_and_by_load(
    consul: Server, prefix: str, pair: list[DiscoveredService]
) -> None:
    a, b = pair
    for balancing in ("round_robin", "least_request"):
        discovery = Discovery(consul.address, prefix, balancing=balancing)  # type: ignore[arg-type]
        async with AirisClient(discovery=discovery) as client:
            load = Load(lambda client=client: client.metrics.query("m"))
            await load.until_answered_by(a.name, b.name)
            load.answers.clear()
            await asyncio.sleep(1)
            await load.end()
        assert load.failures == []
        shares = [load.answers[service.name] / sum(load.answers.values()) for service in pair]
        assert min(shares) > 0.4, (balancing, shares)


async def test_a_stream_that_lost_its_instance_begins_again_at_another(
    consul: Server, prefix: str, pair: list[DiscoveredService]
) -> None:
    a, b = pair
    async with AirisClient(discovery=f"consul://{consul.address}/{prefix}") as client:
        load = Load(lambda: client.metrics.query("m"))
        await load.until_answered_by(a.name, b.name)
        for service in pair:
            watched = client.metrics.watch(query_request("m"))
            await anext(watched)
            await service.kill()
            with contextlib.suppress(client_errors.AirisError):
                # Whichever it was at: it goes on, or ends with an error.
                for _ in range(5):
                    await anext(watched)
            again = client.metrics.watch(query_request("m"))
            async with asyncio.timeout(5):
                await anext(again)
            await again.aclose()
            await watched.aclose()
            await service.start()
            await load.until_answered_by(a.name, b.name)
        await load.end()
    assert load.failures == []


def test_the_blocking_client_finds_instances_too(
    consul: Server, own_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = DiscoveredService(consul.address, own_prefix, tmp_path / "log")
    asyncio.run(service.start())
    try:
        monkeypatch.setenv("AIRIS_DISCOVERY_URL", f"consul://{consul.address}/{own_prefix}")
        with SyncAirisClient() as client:
            assert client.metrics.query("m").series[0].labels["instance"] == service.name
    finally:
        asyncio.run(service.kill())


async def test_without_instances_a_call_fails_in_time_and_succeeds_once_there_is_one(
    consul: Server, own_prefix: str, tmp_path: Path
) -> None:
    async with AirisClient(discovery=f"consul://{consul.address}/{own_prefix}") as client:
        began = time.monotonic()
        with pytest.raises(client_errors.AirisError, match="No healthy instance of"):
            await client.metrics.query("m", timeout=0.6)
        assert time.monotonic() - began < 2
        waiting = asyncio.create_task(client.metrics.query("m"))
        service = DiscoveredService(consul.address, own_prefix, tmp_path / "log")
        await service.start()
        try:
            answer = await waiting
            assert answer.series[0].labels["instance"] == service.name
        finally:
            await service.kill()


async def test_the_last_known_instances_serve_while_consul_is_away(own_prefix: str, tmp_path: Path) -> None:
    server = make_server("consul", tmp_path / "consul")
    await asyncio.to_thread(server.start)
    services = [DiscoveredService(server.address, own_prefix, tmp_path / f"{name}.log") for name in "ab"]
    a, b = services
    try:
        await a.start()
        async with AirisClient(discovery=f"consul://{server.address}/{own_prefix}") as client:
            load = Load(lambda: client.metrics.query("m"))
            await load.until_answered_by(a.name)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(1)
            await load.until_answered_by(a.name)
            await b.start()
            await asyncio.to_thread(server.start)
            # Both tell Consul again that they are there.
            await load.until_answered_by(a.name, b.name, within=15)
            await load.end()
        assert load.failures == []
    finally:
        for service in services:
            with contextlib.suppress(AssertionError):
                await service.kill()
        await asyncio.to_thread(server.stop)


async def test_a_session_that_lost_its_instance_goes_on_at_another(
    consul: Server, own_prefix: str, tmp_path: Path
) -> None:
    services = [
        ServiceProcess(
            "metrics",
            tmp_path / name,
            AIRIS_DISCOVERY__KIND="consul",
            AIRIS_DISCOVERY__CONSUL__ADDRESS=consul.address,
            AIRIS_DISCOVERY__CONSUL__SERVICE_PREFIX=own_prefix,
            AIRIS_EMBEDDED="true",
        )
        for name in "ab"
    ]
    a, b = services
    try:
        await asyncio.gather(*(asyncio.to_thread(service.start) for service in services))
        async with AirisClient(discovery=f"consul://{consul.address}/{own_prefix}") as client:
            sent = 0
            async with client.metrics.session() as session:
                # Wherever it is at first, one of these is the end of its instance.
                for end in (lambda: None, a.stop, lambda: (a.start(), b.kill())):
                    await asyncio.to_thread(end)
                    for _ in range(5):
                        await session.send([metrics_pb2.Metric(name="m", value=sent)])
                        sent += 1
                    async with asyncio.timeout(20):
                        await session.flush()
            assert (session.stored_items, session.rejected_items) == (sent, 0)
        assert sent == 15
    finally:
        for service in services:
            if service.process is not None:
                service.kill()
