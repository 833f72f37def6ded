"""A frontend takes what the contracts say, hands it over, and words errors as the services do."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from service_process import free_offset

from resilience.contract import policies
from resilience.grpc.guard import Guard
from services import config
from services.frontend import app
from services.frontend.contract import SIGNALS, path_of
from services.logs.rpc import INGEST as LOGS
from services.metrics.rpc import INGEST as METRICS
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError
from services.shared.handover.owner import HandedOver, Owner
from services.shared.rpc.context import tenant
from services.supervisor import ports
from services.supervisor.envoy_config import runtime_config, send_to_frontends
from services.supervisor.services import aliveness, frontend_programs
from services.traces.rpc import INGEST as TRACES

# Of the metrics, and of the other two.
GRPC, HTTP = 8011, 9111
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Metrics:
    """The owner of the metrics."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.error: Exception | None = None

    async def unary(self, payload: bytes) -> Any:
        return self._take(tenant(), payload, metrics_pb2.IngestMetricsResponse(accepted_count=1, position="7"))

    async def export(self, payload: bytes, owner: str) -> Any:
        return self._take(owner, payload, metrics_service_pb2.ExportMetricsServiceResponse())

    def _take(self, owner: str, payload: bytes, response: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.taken.append((owner, payload))
        return response


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def offset(tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A frontend before an owner of metrics alone, at the ports of this offset."""
    offset = free_offset(*ports.of_frontends(1))
    monkeypatch.setenv("AIRIS_HANDOVER__FOLDER", str(tmp_path))
    monkeypatch.setenv("AIRIS_PORT_OFFSET", str(offset))
    os.chmod(tmp_path, 0o700)
    method = path_of(SIGNALS[0].unary)
    served = HandedOver(tmp_path / "metrics.sock", metrics, "metrics.airis", method)
    owner = Owner(served, Guard(policies([metrics_pb2.DESCRIPTOR]), lambda _, __: pytest.fail("is known")))
    await owner.start()
    frontend = app.build(config.read())
    await frontend.start()
    yield offset
    await frontend.stop()
    await owner.stop()


@pytest.mark.parametrize(
    ("name", "contract"), [("metrics", METRICS), ("logs", LOGS), ("traces", TRACES)], ids=["metrics", "logs", "traces"]
)
def test_a_frontend_takes_the_very_messages_of_the_service(name: str, contract: Any) -> None:
    (signal,) = [each for each in SIGNALS if each.name == name]
    assert signal.domain == contract.domain
    for method, messages in ((signal.unary, contract.unary), (signal.export, contract.otlp)):
        assert (method.input_type, method.output_type) == tuple(each.DESCRIPTOR for each in messages)
        assert not method.client_streaming
        assert not method.server_streaming


def test_envoy_sends_frontends_what_they_take_and_nothing_else() -> None:
    configuration = runtime_config(100)
    before = endpoints(configuration)
    send_to_frontends(configuration, 2)
    after = endpoints(configuration)
    moved = {name for name in before if before[name] != after[name]}
    assert {routed for routed, cluster in routes(configuration) if cluster in moved} == {
        *(path_of(method) for signal in SIGNALS for method in (signal.unary, signal.export)),
        *(signal.otlp_path for signal in SIGNALS),
    }
    for name in moved:
        (service,) = before[name]
        assert after[name] == [service + 10, service + 20]


def test_without_frontends_envoy_sends_the_services_everything() -> None:
    configuration = runtime_config(100)
    send_to_frontends(configuration, 0)
    assert configuration == runtime_config(100)


def test_each_frontend_has_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = frontend_programs(3, 500, {})
    assert [each.name for each in programs] == ["frontend-1", "frontend-2", "frontend-3"]
    listens = []
    for program in programs:
        for variable, value in program.command.environment.items():
            monkeypatch.setenv(variable, value)
        found = config.read()
        services = (found.metrics, found.logs, found.traces)
        shift = found.frontend.port_offset
        own = [service.grpc_port + shift for service in services]
        assert program.address == f"127.0.0.1:{', '.join(str(port + 500) for port in own)}"
        assert aliveness(program.name, 500) == f"http://127.0.0.1:{found.metrics.http_port + shift + 500}/healthz"
        listens += [*own, *(service.http_port + shift for service in services)]
    assert sorted(listens) == sorted(ports.of_frontends(3))
    assert len({*listens, *ports.ALL}) == len(listens) + len(ports.ALL)


def test_a_frontend_that_is_not_told_where_services_are_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match=r"handover\.folder"):
        app.build(config.Configuration())


async def test_all_dialects_reach_the_owner(offset: int, metrics: Metrics) -> None:
    request = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="cpu")])
    exported = metrics_service_pb2.ExportMetricsServiceRequest()
    exported.resource_metrics.add().resource.attributes.add(key="service.name").value.string_value = "한국"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{GRPC + offset}") as channel:
        answer = await metrics_pb2_grpc.MetricsServiceStub(channel).IngestMetrics(request)
        assert (answer.accepted_count, answer.position) == (1, "7")
        await metrics_service_pb2_grpc.MetricsServiceStub(channel).Export(exported)
    text = '{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"한국"}}]}}]}'
    assert await to_thread(post, offset, "/v1/metrics", text.encode()) == (200, {})
    one, *others = metrics.taken
    assert one == ("default", request.SerializeToString())
    assert others == [("default", exported.SerializeToString())] * 2


async def test_errors_are_those_of_the_service(offset: int, metrics: Metrics) -> None:
    metrics.error = ResourceExhaustedError("Full.", reason="BACKLOG_FULL", retry_after=1.5)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{GRPC + offset}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await metrics_pb2_grpc.MetricsServiceStub(channel).IngestMetrics(metrics_pb2.IngestMetricsRequest())
    status = rpc_status.from_call(told.value)
    assert status is not None
    check_details(status)
    code, body = await to_thread(post, offset, "/v1/metrics", b"{}")
    assert code == 429
    assert body["message"] == "Full."
    assert body["details"][0]["domain"] == "metrics.airis"


async def test_what_it_does_not_take_it_refuses(offset: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{GRPC + offset}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await metrics_pb2_grpc.MetricsServiceStub(channel).QueryMetrics(metrics_pb2.QueryMetricsRequest())
    assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_it_is_not_ready_for_a_signal_whose_service_is_away(offset: int) -> None:
    assert await to_thread(get, offset, "/readyz") == (200, "ready\n")
    for logs_or_traces in (1, 2):
        code, body = await to_thread(get, offset + logs_or_traces, "/readyz")
        assert (code, "service cannot be reached now" in body) == (503, True)
        assert await to_thread(get, offset + logs_or_traces, "/healthz") == (200, "alive\n")


def check_details(status: status_pb2.Status) -> None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (status.message, info.domain, info.reason) == ("Full.", "metrics.airis", "BACKLOG_FULL")
    assert retry.retry_delay.ToMilliseconds() == 1500


def endpoints(configuration: dict[str, Any]) -> dict[str, list[int]]:
    """The ports of each cluster."""
    return {
        cluster["name"]: [
            each["endpoint"]["address"]["socket_address"]["port_value"]
            for group in cluster["load_assignment"]["endpoints"]
            for each in group["lb_endpoints"]
        ]
        for cluster in configuration["static_resources"]["clusters"]
    }


def routes(configuration: dict[str, Any]) -> list[tuple[str, str]]:
    """The path and the cluster of each route."""
    found = []
    for listener in configuration["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            if "cluster" in route.get("route", {}):
                found.append((next(iter(route["match"].values())), route["route"]["cluster"]))
    return found


def post(offset: int, path: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{HTTP + offset}{path}", body)
    request.add_header("Content-Type", "application/json")
    code, text = opened(request)
    return code, json.loads(text)


def get(offset: int, path: str) -> tuple[int, str]:
    return opened(urllib.request.Request(f"http://127.0.0.1:{HTTP + offset}{path}"))


def opened(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with DIRECTLY.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
