"""The calls that the availability run makes: the same by the SDK, with all its defaults, and by a bare gRPC client."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import grpc
from airis.alerts.v1 import alerts_pb2, alerts_pb2_grpc
from airis.client import AirisClient, AirisError
from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from airis.traces.v1 import traces_pb2, traces_pb2_grpc

from bench.target import DIRECTLY

ITEMS = 100
_SERIES = 20
_BARE_SECONDS = {"ingest": 5.0, "query": 10.0}

Make = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Made:
    """One call.

    Attributes:
        client: "sdk" or "bare".
        call: "metrics.ingest".
        at: When it began, in seconds since the run did.
        seconds: How long it took.
        code: The status code's name.
        text: What a failure said.
    """

    client: str
    call: str
    at: float
    seconds: float
    code: str
    text: str = ""


def _metrics() -> list[metrics_pb2.Metric]:
    now = time.time_ns()
    points = [metrics_pb2.Metric(name="load", value=i, labels={"host": f"host-{i % _SERIES}"}) for i in range(ITEMS)]
    for number, point in enumerate(points):
        point.timestamp.FromNanoseconds(now - number * 1_000_000)
    return points


def _logs() -> list[logs_pb2.LogEntry]:
    level = logs_pb2.LogEntry.Level.INFO
    entries = [
        logs_pb2.LogEntry(level=level, service="load", message=f"order {i} is paid: 결제 완료") for i in range(ITEMS)
    ]
    for entry in entries:
        entry.timestamp.GetCurrentTime()
    return entries


def _spans() -> list[traces_pb2.Span]:
    trace_id, now = uuid.uuid4().hex, time.time_ns()
    parent, spans = "", list[traces_pb2.Span]()
    for number in range(ITEMS):
        span = traces_pb2.Span(
            trace_id=trace_id,
            span_id=uuid.uuid4().hex[:16],
            parent_span_id=parent,
            operation_name=f"step {number % 10}",
            service_name=f"load-{number % 4}",
        )
        span.start_time.FromNanoseconds(now + number)
        span.end_time.FromNanoseconds(now + 1_000_000)
        spans.append(span)
        parent = parent or span.span_id
    return spans


def sdk_calls(client: AirisClient) -> dict[str, Make]:
    """The calls by the SDK."""

    async def search() -> None:
        async for _ in client.logs.search('service = "load" "paid"', page_size=10).pages():
            return

    async def list_alerts() -> None:
        async for _ in client.alerts.list().pages():
            return

    average = aggregation_pb2.Aggregation.AVG
    return {
        "metrics.ingest": lambda: client.metrics.ingest(_metrics()),
        "logs.ingest": lambda: client.logs.ingest(_logs()),
        "traces.ingest": lambda: client.traces.ingest(_spans()),
        "metrics.query": lambda: client.metrics.query("load", aggregation=average, group_by=["host"]),
        "logs.query": search,
        "traces.query": client.traces.service_map,
        "alerts.query": list_alerts,
    }


def bare_calls(channel: grpc.aio.Channel) -> dict[str, Make]:
    """The same calls by generated stubs, without any policy but a deadline."""
    metrics, logs = metrics_pb2_grpc.MetricsServiceStub(channel), logs_pb2_grpc.LogServiceStub(channel)
    traces, alerts = traces_pb2_grpc.TraceServiceStub(channel), alerts_pb2_grpc.AlertServiceStub(channel)
    slow = _BARE_SECONDS["query"]

    def ingest(stub: Any, request: Any, field: str, items: Callable[[], list[Any]]) -> Make:
        def call() -> Awaitable[object]:
            message = request(request_id=uuid.uuid4().hex, **{field: items()})
            answer: Awaitable[object] = stub(message, timeout=_BARE_SECONDS["ingest"])
            return answer

        return call

    query = metrics_pb2.QueryMetricsRequest(
        metric="load", aggregation=aggregation_pb2.Aggregation.AVG, group_by=["host"]
    )
    search = logs_pb2.SearchLogsRequest(filter='service = "load" "paid"', page_size=10)
    return {
        "metrics.ingest": ingest(metrics.IngestMetrics, metrics_pb2.IngestMetricsRequest, "metrics", _metrics),
        "logs.ingest": ingest(logs.IngestLogs, logs_pb2.IngestLogsRequest, "entries", _logs),
        "traces.ingest": ingest(traces.IngestSpans, traces_pb2.IngestSpansRequest, "spans", _spans),
        "metrics.query": lambda: metrics.QueryMetrics(query, timeout=slow),
        "logs.query": lambda: logs.SearchLogs(search, timeout=slow),
        "traces.query": lambda: traces.GetServiceMap(traces_pb2.GetServiceMapRequest(), timeout=slow),
        "alerts.query": lambda: alerts.ListAlerts(alerts_pb2.ListAlertsRequest(), timeout=slow),
    }


class Load:
    """Calls that come when they come, answered or not.

    Args:
        edge: Host and port.
        rate: Calls a second of each kind and client.
        dice: Spreads them.

    Attributes:
        made: What became of them.
    """

    def __init__(self, edge: str, rate: float, dice: random.Random) -> None:
        self._edge, self._rate, self._dice = edge, rate, dice
        self._began = time.monotonic()
        self._ended = asyncio.Event()
        self.made: list[Made] = []

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """No further calls are made."""
        self._ended.set()

    async def run(self) -> None:
        """Calls until told to end; returns when all are answered."""
        self._began = time.monotonic()
        async with AirisClient(self._edge) as client, grpc.aio.insecure_channel(self._edge, DIRECTLY) as channel:
            kinds = [("sdk", name, make) for name, make in sdk_calls(client).items()]
            kinds += [("bare", name, make) for name, make in bare_calls(channel).items()]
            async with asyncio.TaskGroup() as group:
                for who, name, make in kinds:
                    group.create_task(self._offer(group, who, name, make))

    async def _offer(self, group: asyncio.TaskGroup, who: str, name: str, make: Make) -> None:
        at = self.now() + self._dice.expovariate(self._rate)
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), max(at - self.now(), 0.0))
            except TimeoutError:
                group.create_task(self._call(who, name, make))
                at += self._dice.expovariate(self._rate)

    async def _call(self, who: str, name: str, make: Make) -> None:
        began, code, text = self.now(), "OK", ""
        try:
            await make()
        except AirisError as error:
            code, text = error.code.name, error.message
        except grpc.RpcError as error:
            code, text = error.code().name, error.details() or ""
        self.made.append(Made(who, name, began, self.now() - began, code, text))
