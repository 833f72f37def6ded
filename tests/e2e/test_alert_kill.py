"""kill -9 of the alert service: what was recorded is told, pending goes on, and nothing is recorded twice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from airis.alerts.v1 import alerts_pb2 as pb
from airis.alerts.v1 import alerts_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from service_process import free_port

ROOT = Path(__file__).parents[2]


class HotMetrics(metrics_pb2_grpc.MetricsServiceServicer):
    """Every metric is 95."""

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = metrics_pb2.QueryMetricsResponse()
        response.series.add().points.add(value=95)
        return response


@asynccontextmanager
async def service(dsn: str, metrics_target: str) -> AsyncIterator[tuple[Any, asyncio.subprocess.Process]]:
    """The service as a process of its own, and a stub; killed at the end if it still lives."""
    port = free_port()
    settings = {
        "POSTGRES__DSN": dsn,
        "ALERTS__GRPC_PORT": str(port),
        "ALERTS__HTTP_PORT": str(free_port()),
        "ALERTS__METRICS_TARGET": metrics_target,
        "ALERTS__NOTIFICATION_TIMEOUT": "1",
        "ALERTS__EVALUATION_POLL_INTERVAL": "0.05",
        "ALERTS__NOTIFICATION_POLL_INTERVAL": "0.05",
        "ALERTS__ALLOW_LOCAL_TARGETS": "true",
    }
    path = os.pathsep.join(str(ROOT / part) for part in ("", "gen", "client"))
    environment = {**os.environ, "PYTHONPATH": path, **{f"AIRIS_{key}": text for key, text in settings.items()}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "alerts", env=environment, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
            yield alerts_pb2_grpc.AlertServiceStub(channel), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_service_killed_while_it_notifies_tells_it_after_its_restart(postgres_dsn: str) -> None:
    keys: asyncio.Queue[str] = asyncio.Queue()
    answering = asyncio.Event()

    async def receive(request: web.Request) -> web.Response:
        await keys.put(request.headers["Idempotency-Key"])
        await answering.wait()
        return web.Response()

    metrics = grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(HotMetrics(), metrics)
    target = f"127.0.0.1:{metrics.add_insecure_port('127.0.0.1:0')}"
    await metrics.start()
    application = web.Application()
    application.router.add_post("/", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        async with asyncio.timeout(60):
            async with service(postgres_dsn, target) as (stub, process):
                hook = pb.Channel(webhook=pb.Channel.Webhook(url=url))
                await stub.CreateChannel(pb.CreateChannelRequest(channel=hook, channel_id="hook"))
                rule = pb.AlertRule(
                    display_name="Hot",
                    conditions=[pb.AlertRule.Condition(metric="cpu", threshold=90, duration=Duration(seconds=1))],
                    evaluation_interval=Duration(seconds=1),
                    channels=["channels/hook"],
                )
                await stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id="hot"))
                first = await keys.get()
                process.kill()
            async with service(postgres_dsn, target) as (stub, process):
                watch = stub.WatchAlerts(pb.WatchAlertsRequest(filter="kind = NOTIFIED", max_count=1))
                await watch.initial_metadata()
                answering.set()
                assert await keys.get() == first
                assert [response.event.actor async for response in watch] == ["channels/hook"]
                events = await stub.ListAlertEvents(pb.ListAlertEventsRequest(parent="alerts/-"))
                kinds = [pb.AlertEvent.Kind.Name(event.kind) for event in events.events]
                assert kinds == ["PENDING", "FIRING", "NOTIFIED"]
                process.terminate()
                assert await process.wait() == 0
    finally:
        await runner.cleanup()
        await metrics.stop(None)
