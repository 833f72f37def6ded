"""Instances in a real Consul: there while they serve, back when Consul lost them, gone before they stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.client.discovery_consul import ConsulAgent, ConsulDirectory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.servers import Server, make_server
from services.shared.discovery.config import ConsulConfig
from services.shared.discovery.registration import OwnInstance, Registration
from tests.service_process import ServiceProcess

pytestmark = pytest.mark.servers

SERVES = "airis.metrics.v1.MetricsService"


@pytest.fixture(scope="module")
def own_consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that a test may kill."""
    server = make_server("consul", tmp_path_factory.mktemp("consul"))
    server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def healthy(*services: str) -> AsyncIterator[int]:
    """A gRPC server that says SERVING of itself and of these: its port."""
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    for name in ("", *services):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.fixture
async def instance_port() -> AsyncIterator[int]:
    async with healthy(SERVES) as port:
        yield port


def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def registration(server: Server, port: int, name: str, **settings: Any) -> Registration:
    config = ConsulConfig(
        address=server.address, service_prefix=name, refresh_interval=0.2, leave_seconds=0.0, **settings
    )
    return Registration(config, OwnInstance("metrics", "127.0.0.1", port, 9101, "1.0", "all", SERVES))


def ask(server: Server, path: str) -> Any:
    with urllib.request.urlopen(f"http://{server.address}{path}", timeout=5) as answer:
        return json.load(answer)


def put(server: Server, path: str, body: Any, token: str) -> Any:
    request = urllib.request.Request(f"http://{server.address}{path}", json.dumps(body).encode(), method="PUT")
    request.add_header("X-Consul-Token", token)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def forget(server: Server, instance: str) -> None:
    url = f"http://{server.address}/v1/agent/service/deregister/{instance}"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()


async def until(condition: Callable[[], Any], within: float = 15.0) -> Any:
    ends = time.monotonic() + within
    while True:
        found = await asyncio.to_thread(condition)
        if found or time.monotonic() > ends:
            return found
        await asyncio.sleep(0.05)


async def test_an_instance_is_registered_with_its_check_and_gone_when_it_leaves(
    consul: Server, instance_port: int
) -> None:
    name = prefix()
    kept = registration(consul, instance_port, name)
    kept.start()
    (entry,) = await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics?passing"))
    service = entry["Service"]
    assert (service["Address"], service["Port"]) == ("127.0.0.1", instance_port)
    assert service["Meta"] == {"http_port": "9101", "version": "1.0", "role": "all"}
    (check,) = [each for each in entry["Checks"] if each["ServiceID"]]
    assert (check["Type"], check["Interval"], check["Timeout"]) == ("grpc", "30s", "10s")
    await kept.leave()
    assert ask(consul, f"/v1/health/service/{name}-metrics") == []


async def test_an_instance_on_all_addresses_tells_the_one_on_consuls_network(
    consul: Server, instance_port: int
) -> None:
    name = prefix()
    config = ConsulConfig(address=consul.address, service_prefix=name, advertise_host="auto", leave_seconds=0.0)
    kept = Registration(config, OwnInstance("metrics", "0.0.0.0", instance_port, 9101, "1.0", "all", SERVES))
    kept.start()
    (entry,) = await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics?passing"))
    assert entry["Service"]["Address"] == "127.0.0.1"
    await kept.leave()


async def test_consul_finds_out_that_an_instance_does_not_answer(consul: Server, instance_port: int) -> None:
    name = prefix()
    kept = registration(consul, 1, name, check_interval=1.0, check_timeout=1.0)
    kept.start()
    assert await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics"))
    assert await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics?passing") == [])
    await kept.leave()


async def test_a_worker_at_the_address_of_an_instance_does_not_answer_for_it(consul: Server) -> None:
    name = prefix()

    def checked(kept: Registration) -> str:
        """What Consul's last check found; empty: it has made none."""
        found = ask(consul, "/v1/agent/checks").values()
        return next((str(each["Output"]) for each in found if each["ServiceID"] == kept.id), "")

    async with healthy(SERVES) as serving, healthy() as working:
        of_instance, of_worker = (
            registration(consul, port, name, check_interval=1.0, check_timeout=5.0) for port in (serving, working)
        )
        of_instance.start()
        of_worker.start()
        assert await until(lambda: f"/{SERVES}: success" in checked(of_instance), within=30)
        assert await until(lambda: "NotFound" in checked(of_worker), within=30)
        # The agent tells the catalogue in its own time.
        path = f"/v1/health/service/{name}-metrics?passing"
        only = [of_instance.id]
        assert await until(lambda: [each["Service"]["ID"] for each in ask(consul, path)] == only, within=30)
        await of_instance.leave()
        await of_worker.leave()


async def test_an_instance_registers_again_when_consul_lost_it(consul: Server, instance_port: int) -> None:
    name = prefix()
    kept = registration(consul, instance_port, name)
    kept.start()
    assert await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics?passing"))
    forget(consul, kept.id)
    assert await until(lambda: ask(consul, f"/v1/health/service/{name}-metrics?passing"))
    await kept.leave()


async def test_a_consul_that_comes_back_is_told_at_once_and_one_that_is_away_keeps_nobody(
    own_consul: Server, instance_port: int
) -> None:
    name = prefix()
    own_consul.kill()
    # The check would take up to 30 s to pass: what is told is that the instance serves.
    kept = registration(own_consul, instance_port, name)
    kept.start()
    own_consul.start()
    assert await until(lambda: ask(own_consul, f"/v1/health/service/{name}-metrics?passing"), within=10)
    own_consul.kill()
    own_consul.start()
    assert await until(lambda: ask(own_consul, f"/v1/health/service/{name}-metrics?passing"), within=10)
    own_consul.kill()
    async with asyncio.timeout(4):
        await kept.leave()
    own_consul.start()


async def test_a_consul_that_was_started_again_between_two_looks_is_told_at_the_next(
    own_consul: Server, instance_port: int
) -> None:
    looks, seconds = iter((4.0, 0.2)), 0.2

    def until_next_look(_least: float, _most: float) -> float:
        return next(looks, seconds)

    # Its own check would find out later than this test waits.
    config = ConsulConfig(address=own_consul.address, service_prefix=prefix(), leave_seconds=0.0, check_interval=60.0)
    instance = OwnInstance("metrics", "127.0.0.1", instance_port, 9101, "1.0", "all", SERVES)
    kept = Registration(config, instance, uniform=until_next_look)

    def says(status: str) -> bool:
        checks = ask(own_consul, "/v1/agent/checks").values()
        return [check["Status"] for check in checks if check["ServiceID"] == kept.id] == [status]

    kept.start()
    assert await until(lambda: says("passing"), within=2)
    # A connection that breaks would tell it that Consul was away.
    await kept._agent.close()
    await asyncio.to_thread(own_consul.kill)
    await asyncio.to_thread(own_consul.start)
    assert await until(lambda: says("critical"), within=1)
    assert await until(lambda: says("passing"), within=10)
    await kept.leave()


async def test_a_watch_gives_each_change_at_once_and_outlives_consul(own_consul: Server, instance_port: int) -> None:
    name = prefix()
    directory = ConsulDirectory(ConsulAgent(own_consul.address))
    watched = directory.watch(f"{name}-metrics")
    assert await anext(watched) == ()
    kept = registration(own_consul, instance_port, name)
    pending = asyncio.ensure_future(anext(watched))
    kept.start()
    async with asyncio.timeout(3):
        (instance,) = await pending
    assert (instance.target, instance.http_port) == (f"127.0.0.1:{instance_port}", 9101)

    pending = asyncio.ensure_future(anext(watched))
    own_consul.kill()
    assert await until(lambda: directory.fault, within=5)
    assert not pending.done()
    await asyncio.to_thread(own_consul.start)
    assert await until(lambda: ask(own_consul, f"/v1/health/service/{name}-metrics?passing"))
    assert await until(lambda: not directory.fault)
    await kept.leave()
    # Whether it saw nobody, or the same again, before that is a matter of moments.
    async with asyncio.timeout(15):
        while await pending != ():
            pending = asyncio.ensure_future(anext(watched))
    await directory.close()


async def test_consul_asks_for_the_token_of_the_file(tmp_path: Path, instance_port: int) -> None:
    secret = str(uuid.uuid4())
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": secret, "agent": secret}}
    server = make_server("consul", tmp_path / "consul", config={"acl": json.dumps(acl)})
    await asyncio.to_thread(server.start)
    try:
        name = prefix()
        # As docs/discovery.md has it.
        rules = f'service_prefix "{name}-" {{ policy = "write" }} node_prefix "" {{ policy = "read" }}'

        def make_token() -> str:
            put(server, "/v1/acl/policy", {"Name": name, "Rules": rules}, secret)
            return str(put(server, "/v1/acl/token", {"Policies": [{"Name": name}]}, secret)["SecretID"])

        file = tmp_path / "token"
        file.write_text(f"{await asyncio.to_thread(make_token)}\n")
        refused = registration(server, instance_port, f"{name}-a")
        refused.start()
        kept = registration(server, instance_port, f"{name}-b", token_file=str(file))
        kept.start()
        directory = ConsulDirectory(ConsulAgent(server.address, file))
        watched = directory.watch(f"{name}-b-metrics")
        async with asyncio.timeout(15):
            while not await anext(watched):
                pass
        nobody = directory.watch(f"{name}-a-metrics")
        async with asyncio.timeout(5):
            assert await anext(nobody) == ()
        await kept.leave()
        await refused.leave()
        async with asyncio.timeout(5):
            assert await anext(watched) == ()
        await directory.close()
    finally:
        await asyncio.to_thread(server.stop)


def test_a_service_is_in_consul_while_it_runs_and_before_it_drains(consul: Server, tmp_path: Path) -> None:
    name = prefix()
    service = ServiceProcess(
        "metrics",
        tmp_path,
        AIRIS_EMBEDDED="true",
        AIRIS_DISCOVERY__KIND="consul",
        AIRIS_DISCOVERY__CONSUL__ADDRESS=consul.address,
        AIRIS_DISCOVERY__CONSUL__SERVICE_PREFIX=name,
        AIRIS_DISCOVERY__CONSUL__LEAVE_SECONDS="1",
        AIRIS_DISCOVERY__CONSUL__CHECK_INTERVAL="1",
    )
    service.start()
    ends = time.monotonic() + 10
    while not (found := ask(consul, f"/v1/health/service/{name}-metrics?passing")) and time.monotonic() < ends:
        time.sleep(0.05)
    assert f"{found[0]['Service']['Address']}:{found[0]['Service']['Port']}" == service.grpc
    ends = time.monotonic() + 30
    while not any(
        check["ServiceID"] == found[0]["Service"]["ID"] and f"/{SERVES}: success" in check["Output"]
        for check in ask(consul, "/v1/agent/checks").values()
    ):
        assert time.monotonic() < ends
        time.sleep(0.05)
    # After Consul has forgotten it, it still answers, for as long as callers need.
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    while ask(consul, f"/v1/health/service/{name}-metrics"):
        time.sleep(0.02)
    with grpc.insecure_channel(service.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stopping.join(30)
    assert service.process is not None
    assert service.process.returncode == 0
