"""The client waits for a connection that was lost, and for no other: to a real server that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
from airis.client import AirisClient, AirisError, UnavailableError
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from envoy_edge import Metrics, Seen, serve
from service_process import free_port

from resilience.events import Event
from resilience.grpc.client import ClientSettings

NO_DELAY = {"uniform": lambda low, high: low}
REQUEST = [metrics_pb2.Metric(name="a")]


@dataclass
class Mortal:
    """A server that can be ended and started again at its port."""

    port: int = field(default_factory=free_port)
    server: grpc.aio.Server | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        register = metrics_pb2_grpc.add_MetricsServiceServicer_to_server
        self.server = await serve(self.port, (register, Metrics(Seen())))

    async def end(self) -> None:
        assert self.server is not None
        await self.server.stop(None)


@pytest.fixture
async def mortal() -> AsyncIterator[Mortal]:
    server = Mortal()
    await server.start()
    yield server
    await server.end()


async def test_calls_wait_for_a_connection_that_was_lost(mortal: Mortal) -> None:
    failures = asyncio.Event()

    def listen(event: Event) -> None:
        if event.kind == "retry":
            failures.set()

    settings = ClientSettings(reconnect_seconds=10.0, listener=listen, **NO_DELAY)
    async with AirisClient(mortal.target, resilience=settings) as client:
        await client.metrics.ingest(REQUEST)
        await mortal.end()
        # The first finds it out and is repeated, the others come later; none of them fails.
        first = asyncio.create_task(client.metrics.ingest(REQUEST))
        await failures.wait()
        others = [asyncio.create_task(client.metrics.ingest(REQUEST)) for _ in range(30)]
        done, _ = await asyncio.wait({first, *others}, timeout=0.5)
        assert not done
        await mortal.start()
        for answer in await asyncio.gather(first, *others):
            assert answer.accepted_count == 1


async def test_a_client_survives_restarts_one_after_the_other_by_its_defaults(mortal: Mortal) -> None:
    async with AirisClient(mortal.target) as client:
        for _ in range(3):
            await client.metrics.ingest(REQUEST)
            await mortal.end()
            calls = [asyncio.create_task(client.metrics.ingest(REQUEST))]
            await asyncio.wait(calls, timeout=0.3)
            await mortal.start()
            await asyncio.gather(*calls)


async def test_where_nobody_ever_answered_calls_fail_at_once() -> None:
    async with AirisClient(Mortal().target) as client:
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="failed to connect"):
            await client.metrics.ingest(REQUEST)
        assert time.monotonic() - begun < 2.0


async def test_who_stays_away_is_waited_for_once_and_not_by_each_call(mortal: Mortal) -> None:
    async with AirisClient(mortal.target, resilience=ClientSettings(reconnect_seconds=1.0, **NO_DELAY)) as client:
        await client.metrics.ingest(REQUEST)
        await mortal.end()
        begun = time.monotonic()
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await client.metrics.ingest(REQUEST)
        assert 1.0 <= time.monotonic() - begun < 3.0
        await mortal.start()


async def test_a_wait_ends_with_the_deadline_of_its_call(mortal: Mortal) -> None:
    async with AirisClient(mortal.target, resilience=ClientSettings(reconnect_seconds=60.0)) as client:
        await client.metrics.ingest(REQUEST)
        await mortal.end()
        begun = time.monotonic()
        with pytest.raises(AirisError) as raised:
            await client.metrics.ingest(REQUEST, timeout=1.0)
        assert raised.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - begun < 3.0
        await mortal.start()
