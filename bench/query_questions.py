"""What is asked of the data of `query_data`, once for each goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.message import Message

from bench import query_data as data

HOUR, MINUTE = 3_600, 60
"""Seconds."""


@dataclass(frozen=True)
class Sizes:
    """How much data there is, and the second since 1970 at which it ends."""

    points: int
    lines: int
    spans: int
    end: int

    def of(self, signal: str) -> int:
        """How many items of a signal there are."""
        return {"metrics": self.points, "logs": self.lines, "traces": self.spans}[signal]

    def __str__(self) -> str:
        return f"{self.points:,} points, {self.lines:,} lines and {self.spans:,} spans"


@dataclass(frozen=True)
class Question:
    """One goal: `ask` makes the n-th request, no two alike; `count` says how much an answer holds."""

    name: str
    signal: str
    goal_ms: float
    method: str
    ask: Callable[[int, Sizes], Message]
    count: Callable[[Any], int]
    path: str
    verb: str = "GET"


def _metric(n: int, sizes: Sizes, metric: int, function: Any, label: str) -> Message:
    # Not at whole minutes, as a caller's clock is not.
    reach = max(HOUR, min(sizes.points // 10_000 * 10, 12 * HOUR) - HOUR)
    end = sizes.end - n * 97 % max(reach - HOUR, 600) - 13
    request = metrics_pb2.QueryMetricsRequest(metric=data.metric_name(metric), aggregation=function, group_by=[label])
    request.start_time.seconds, request.end_time.seconds = end - HOUR, end
    request.step.seconds = MINUTE
    return request


def _average(n: int, sizes: Sizes) -> Message:
    return _metric(n, sizes, n * 2 % data.METRICS, aggregation_pb2.Aggregation.AVG, "host")


def _rate(n: int, sizes: Sizes) -> Message:
    return _metric(n, sizes, (n * 2 + 1) % data.METRICS, aggregation_pb2.Aggregation.RATE, "host")


def over_all(request: Any, sizes: Sizes, n: int) -> Any:
    """The request with a range that has everything."""
    request.start_time.seconds, request.end_time.seconds = sizes.end - 30 * 24 * HOUR, sizes.end + 1 + n % 1000
    return request


def _rare_word(n: int, sizes: Sizes) -> Any:
    return over_all(logs_pb2.SearchLogsRequest(filter=data.needle(n * 7919 % 50_000), page_size=50), sizes, n)


def _newest_errors(n: int, sizes: Sizes) -> Any:
    text = f"service = service-{n % data.LOG_SERVICES:02d} AND level >= ERROR"
    return over_all(logs_pb2.SearchLogsRequest(filter=text, page_size=50), sizes, n)


def _korean_count(n: int, sizes: Sizes) -> Any:
    return over_all(logs_pb2.CountLogsRequest(filter=data.KOREAN[n % len(data.KOREAN)]), sizes, n)


def _trace(n: int, sizes: Sizes) -> Message:
    return traces_pb2.GetTraceRequest(trace_id=data.trace_id(n * 104_729 % (sizes.spans // data.SPANS_A_TRACE)))


def _slow_traces(n: int, sizes: Sizes) -> Any:
    text = f"service = {data.TRACE_SERVICES[n % 8]} AND duration > {600 + n % 37}ms"
    return over_all(traces_pb2.SearchTracesRequest(filter=text, page_size=20), sizes, n)


def _service_map(n: int, sizes: Sizes) -> Any:
    return over_all(traces_pb2.GetServiceMapRequest(), sizes, n * 61)


QUESTIONS = (
    Question(
        "average by label, one hour by minute",
        "metrics",
        5,
        "/airis.metrics.v1.MetricsService/QueryMetrics",
        _average,
        lambda answer: sum(len(series.points) for series in answer.series),
        "/api/v1/metrics:query",
        "POST",
    ),
    Question(
        "rate by host",
        "metrics",
        7,
        "/airis.metrics.v1.MetricsService/QueryMetrics",
        _rate,
        lambda answer: sum(len(series.points) for series in answer.series),
        "/api/v1/metrics:query",
        "POST",
    ),
    Question(
        "rare word",
        "logs",
        7,
        "/airis.logs.v1.LogService/SearchLogs",
        _rare_word,
        lambda answer: len(answer.entries),
        "/api/v1/logs:search",
    ),
    Question(
        "newest 50 errors of a service",
        "logs",
        7,
        "/airis.logs.v1.LogService/SearchLogs",
        _newest_errors,
        lambda answer: len(answer.entries),
        "/api/v1/logs:search",
    ),
    Question(
        "Korean word count",
        "logs",
        10,
        "/airis.logs.v1.LogService/CountLogs",
        _korean_count,
        lambda answer: answer.total_count,
        "/api/v1/logs:count",
    ),
    Question(
        "trace by id",
        "traces",
        3,
        "/airis.traces.v1.TraceService/GetTrace",
        _trace,
        lambda answer: len(answer.spans),
        "/api/v1/traces/{trace_id}",
    ),
    Question(
        "service and duration",
        "traces",
        20,
        "/airis.traces.v1.TraceService/SearchTraces",
        _slow_traces,
        lambda answer: len(answer.traces),
        "/api/v1/traces",
    ),
    Question(
        "service map",
        "traces",
        20,
        "/airis.traces.v1.TraceService/GetServiceMap",
        _service_map,
        lambda answer: len(answer.edges),
        "/api/v1/serviceMap",
    ),
)
