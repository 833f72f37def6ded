"""The questions to ours, over gRPC at the services' ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from airis.traces.v1 import traces_pb2, traces_pb2_grpc

from bench.airis_target import AirisTarget
from bench.peers import questions as asked
from bench.peers.questions import Ask, Data
from bench.target import DIRECTLY
from services.supervisor import ports


def questions_of(target: AirisTarget) -> Callable[[Data], Mapping[str, Ask]]:
    """What makes the questions of a signal."""

    def make(data: Data) -> Mapping[str, Ask]:
        channel = grpc.insecure_channel(target.address(ports.GRPC[data.signal]), DIRECTLY)
        return {"metrics": _metrics, "logs": _logs, "traces": _traces}[data.signal](channel, data)

    return make


def _within(request: Any, begin: int, end: int) -> Any:
    request.start_time.seconds, request.end_time.seconds = begin, end
    return request


def _metrics(channel: grpc.Channel, data: Data) -> Mapping[str, Ask]:
    stub = metrics_pb2_grpc.MetricsServiceStub(channel)

    def query(metric: str, aggregation: aggregation_pb2.Aggregation.Function, label: str, number: int) -> int:
        request = metrics_pb2.QueryMetricsRequest(metric=metric, aggregation=aggregation, group_by=[label])
        request.step.seconds = 60
        return len(stub.QueryMetrics(_within(request, *data.hour(number))).series)

    return {
        asked.AVERAGE: lambda number: query(
            "http.server.latency.p50", aggregation_pb2.Aggregation.AVG, "cloud.region", number
        ),
        asked.RATE: lambda number: query("http.server.requests", aggregation_pb2.Aggregation.RATE, "host.name", number),
    }


def _logs(channel: grpc.Channel, data: Data) -> Mapping[str, Ask]:
    stub = logs_pb2_grpc.LogServiceStub(channel)

    def search(text: str) -> int:
        request = logs_pb2.SearchLogsRequest(filter=text, page_size=50)
        return len(stub.SearchLogs(_within(request, data.begin, data.end)).entries)

    def count(text: str) -> int:
        answer = stub.CountLogs(_within(logs_pb2.CountLogsRequest(filter=text), data.begin, data.end))
        return sum(group.count for group in answer.groups)

    return {
        asked.RARE: lambda number: search(f'"{data.line(number)}"'),
        asked.ERRORS: lambda number: search(f"service = {data.service(number)} AND level >= ERROR"),
        asked.KOREAN: lambda number: count(asked.KOREAN_WORDS[number % len(asked.KOREAN_WORDS)]),
    }


def _traces(channel: grpc.Channel, data: Data) -> Mapping[str, Ask]:
    stub = traces_pb2_grpc.TraceServiceStub(channel)
    ids = data.trace_ids(100)

    def trace(number: int) -> int:
        return len(stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=ids[number % len(ids)])).spans)

    def slow(number: int) -> int:
        text = f"service = {data.root_service} AND duration > {300 + number % 37}ms"
        request = traces_pb2.SearchTracesRequest(filter=text, page_size=20)
        return len(stub.SearchTraces(_within(request, data.begin, data.end)).traces)

    def service_map(number: int) -> int:
        request = _within(traces_pb2.GetServiceMapRequest(), data.begin, data.end - number % 10)
        return len(stub.GetServiceMap(request).edges)

    return {asked.TRACE: trace, asked.SLOW: slow, asked.MAP: service_map}
