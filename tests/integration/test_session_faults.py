"""An ingest session over a network that resets, half-closes and stalls amid messages, against the real service:
nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from airis.client import AirisClient
from airis.client.backoff import Backoff
from airis.client.session import IngestSession
from airis.client.signals import metrics as metrics_helpers
from airis.client.signals.ingest import QUERYABLE
from airis.common.v1.aggregation_pb2 import Aggregation
from airis.metrics.v1 import metrics_pb2
from fakes.tcp_proxy import Direction, TcpProxy
from service_process import ServiceProcess

from resilience.circuit_breaker import BreakerSettings
from resilience.grpc.client import ClientSettings

MINUTE_NANOSECONDS = 60_000_000_000
SIZE = 50
FAULTS = (
    "reset",
    "reset in a message",
    "reset in an answer",
    "end of file to the server",
    "end of file to the client",
    "delay",
    "cut after a stall",
    "refusal",
)
RECONNECT_QUICKLY = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    service = ServiceProcess("metrics", tmp_path)
    await asyncio.to_thread(service.start)
    yield service
    await asyncio.to_thread(service.stop)


def points(first: int, begin: int) -> list[metrics_pb2.Metric]:
    """Points of one series, a millisecond apart from `begin` on, that tell each other apart by their values."""
    found = []
    for number in range(first, first + SIZE):
        point = metrics_pb2.Metric(name="session.faults", value=float(number), labels={"host": "a"})
        point.timestamp.FromMilliseconds(begin + number)
        found.append(point)
    return found


async def disturb(proxy: TcpProxy, chance: random.Random) -> None:
    """Every fault twice, in any order, each when there is traffic again after the last one."""
    faults = [*FAULTS, *FAULTS]
    chance.shuffle(faults)
    for fault in faults:
        await traffic(proxy, 10_000)
        accepted = proxy.accepted
        match fault:
            case "reset":
                proxy.reset()
            case "reset in a message":
                proxy.reset_after(chance.randint(1, 20_000))
            case "reset in an answer":
                proxy.reset_after(chance.randint(1, 50), Direction.TO_CLIENT)
            case "end of file to the server":
                proxy.half_close(Direction.TO_SERVER)
            case "end of file to the client":
                proxy.half_close(Direction.TO_CLIENT)
            case "delay":
                proxy.delay(0.01)
                await traffic(proxy, 20_000)
            case "cut after a stall":
                # The server may have stored more than the client ever hears.
                proxy.blackhole()
                proxy.reset()
            case "refusal":
                proxy.refuse()
                proxy.reset()
        if fault.startswith("reset in"):
            await proxy.until(lambda accepted=accepted: proxy.accepted > accepted, within=30)
        proxy.heal()


async def traffic(proxy: TcpProxy, byte_count: int) -> None:
    """Returns when so many more bytes have passed to the server, and answers have come back."""
    sent, answered = (proxy.passed(direction) for direction in Direction)
    await proxy.until(
        lambda: proxy.passed(Direction.TO_SERVER) >= sent + byte_count and proxy.passed(Direction.TO_CLIENT) > answered,
        within=30,
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_session_over_a_faulty_network_loses_and_doubles_nothing(service: ServiceProcess, seed: int) -> None:
    quick = ClientSettings(breaker=BreakerSettings(open_seconds=0.2))
    async with (
        TcpProxy(service.grpc) as proxy,
        AirisClient(targets={"metrics": proxy.address}, options=RECONNECT_QUICKLY, resilience=quick) as client,
    ):
        session = IngestSession(client.metrics._calls, metrics_helpers.DIALECT, backoff=Backoff(0.01, 0.05))
        async with session:
            disturbing = asyncio.create_task(disturb(proxy, random.Random(seed)))
            batches, begin = 0, (time.time_ns() - 30 * MINUTE_NANOSECONDS) // 1_000_000
            while not disturbing.done():
                await session.send(points(batches * SIZE, begin))
                batches += 1
            await disturbing
            await session.flush()
            assert session.acknowledged_through == batches
            assert session.stored_items == batches * SIZE
        # Each fault but the delay ends a connection.
        assert proxy.accepted >= 2 * (len(FAULTS) - 1)
    async with AirisClient(targets={"metrics": service.grpc}) as client:
        settled = metrics_pb2.Metric(name="settled", value=1)
        await client.metrics.ingest([settled], wait_for=QUERYABLE)
        totals = []
        for aggregation in (Aggregation.COUNT, Aggregation.SUM):
            answer = await client.metrics.query("session.faults", aggregation=aggregation)
            totals.append(sum(point.value for series in answer.series for point in series.points))
        assert totals == [batches * SIZE, sum(range(batches * SIZE))]
