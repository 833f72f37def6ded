"""What the overload run sends: for each signal a batch, and a question that people ask of it."""

from __future__ import annotations

import base64
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import grpc
from airis.common.v1 import aggregation_pb2, ingest_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.message import Message

from bench.target import DIRECTLY
from resilience.contract import method_policy

BATCH = 1000
_SERIES = 100
_SHOPS = tuple(f"shop-{number}" for number in range(8))
_FILLED = 50
_PATIENCE_SECONDS = 900.0
_PAUSE_SECONDS = 0.1
_BUSY = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
_HOUR = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one RPC of one service.

    Attributes:
        service: "metrics".
        method: The RPC's path.
        request: What is sent, in base64.
        deadline: The contract's, in seconds.
        latency_p95: What the contract promises, in seconds.
        stores: Whether what is sent is still to be stored when it has been acknowledged.
    """

    service: str
    method: str
    request: str
    deadline: float
    latency_p95: float
    stores: bool

    @property
    def name(self) -> str:
        """ "metrics IngestMetrics"."""
        return f"{self.service} {self.method.rpartition('/')[2]}"


def encoded(request: Message) -> str:
    """A request as `overload_load` takes it."""
    return base64.b64encode(request.SerializeToString()).decode()


def metrics_batch(items: int = BATCH) -> metrics_pb2.IngestMetricsRequest:
    """Points of 100 series, the newest now."""
    request, now = metrics_pb2.IngestMetricsRequest(), time.time_ns()
    for number in range(items):
        point = request.metrics.add(name="load", value=number, labels={"host": f"host-{number % _SERIES}"})
        point.timestamp.FromNanoseconds(now - number * 1_000_000)
    return request


def logs_batch(items: int = BATCH) -> logs_pb2.IngestLogsRequest:
    """Entries of about 200 bytes, one in ten an error, some Korean."""
    request, now = logs_pb2.IngestLogsRequest(), time.time_ns()
    for number in range(items):
        entry = request.entries.add(
            level=logs_pb2.LogEntry.Level.ERROR if number % 10 == 0 else logs_pb2.LogEntry.Level.INFO,
            message=f"order {number:06d} of customer {number % 97} is paid by card, 결제 완료, " + "x" * 130,
            service=_SHOPS[number % len(_SHOPS)],
            labels={"host": f"host-{number % _SERIES}"},
        )
        entry.timestamp.FromNanoseconds(now - number * 1_000_000)
    return request


def traces_batch(items: int = BATCH) -> traces_pb2.IngestSpansRequest:
    """Traces of eight spans."""
    request, now = traces_pb2.IngestSpansRequest(), time.time_ns()
    trace_id = parent = ""
    for number in range(items):
        step = number % len(_SHOPS)
        if step == 0:
            trace_id, parent = uuid.uuid4().hex, ""
        span = request.spans.add(
            trace_id=trace_id,
            span_id=uuid.uuid4().hex[:16],
            parent_span_id=parent,
            operation_name=f"step {step}",
            service_name=_SHOPS[step],
        )
        span.start_time.FromNanoseconds(now - number * 1_000_000)
        span.end_time.FromNanoseconds(now - number * 1_000_000 + 5_000_000)
        parent = span.span_id
    return request


def _metrics_question() -> metrics_pb2.QueryMetricsRequest:
    now = time.time_ns()
    query = metrics_pb2.QueryMetricsRequest(
        metric="load", aggregation=aggregation_pb2.Aggregation.AVG, group_by=["host"]
    )
    query.start_time.FromNanoseconds(now - _HOUR)
    query.end_time.FromNanoseconds(now + _HOUR)
    query.step.seconds = 60
    return query


_SERVICES: dict[str, tuple[Any, Callable[..., Message], Callable[[], Message]]] = {
    "metrics": (metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"], metrics_batch, _metrics_question),
    "logs": (
        logs_pb2.DESCRIPTOR.services_by_name["LogService"],
        logs_batch,
        lambda: logs_pb2.SearchLogsRequest(filter="level = ERROR AND service = shop-0", page_size=50),
    ),
    "traces": (
        traces_pb2.DESCRIPTOR.services_by_name["TraceService"],
        traces_batch,
        lambda: traces_pb2.SearchTracesRequest(filter="service = shop-3", page_size=20),
    ),
}
SERVICES = tuple(_SERVICES)
STORED_AS = {"metrics": ("load",), "logs": _SHOPS, "traces": _SHOPS}
"""The metrics or services that batches are of."""


def kinds(service: str) -> list[Kind]:
    """The query and the ingest of a service, in that order: what is ingested makes queries slower."""
    descriptor, batch, question = _SERVICES[service]
    found = []
    for request, stores in ((question(), False), (batch(), True)):
        (method,) = [each for each in descriptor.methods if each.input_type is request.DESCRIPTOR]
        policy = method_policy(method)
        assert policy.deadline is not None
        found.append(Kind(service, policy.method, encoded(request), policy.deadline, policy.latency_p95, stores))
    return found


def fill(service: str, target: str) -> int:
    """Stores something that can be asked for; returns how many items that are."""
    _, batch, _ = _SERVICES[service]
    with _ingest(service, target) as call:
        for _ in range(_FILLED):
            request: Any = batch()
            # It may be sent again, and is stored once.
            request.request_id = uuid.uuid4().hex
            _send(call, request)
    store_all(service, target)
    return _FILLED * BATCH + 1


def store_all(service: str, target: str) -> float:
    """Stores one item; returns when all that was acknowledged before is stored, and how many seconds that took."""
    _, batch, _ = _SERVICES[service]
    last: Any = batch(1)
    last.request_id = uuid.uuid4().hex
    last.wait_for = ingest_pb2.Acknowledgement.QUERYABLE
    began = time.monotonic()
    with _ingest(service, target) as call:
        _send(call, last)
    return time.monotonic() - began


@contextmanager
def _ingest(service: str, target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target, DIRECTLY) as channel:
        yield channel.unary_unary(kinds(service)[1].method)


def _send(call: Any, request: Message) -> None:
    ends_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            call(request.SerializeToString(), timeout=60)
        except grpc.RpcError as error:
            # A machine that is busy takes longer than the contract has it, and what is full has room again.
            if time.monotonic() > ends_at or error.code() not in _BUSY:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
