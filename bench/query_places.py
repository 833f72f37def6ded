"""Asks the questions in each of the four places, and measures how long the answers take."""

from __future__ import annotations

import http.client
import importlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import chdb.state
import grpc
import psutil
import pyarrow as pa
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.json_format import MessageToDict

from bench.query_loading import SINGULAR, open_store
from bench.query_questions import QUESTIONS, Question, Sizes
from bench.target import DIRECTLY


@dataclass(frozen=True)
class QueryFigure:
    """How long one question took.

    Attributes:
        question: What was asked.
        signal: Of what: "metrics", "logs" or "traces".
        stored: How many points, lines or spans there were to ask of.
        place: "engine", "service", "grpc" or "rest".
        goal_ms: What its median at the first size is to be, over gRPC.
        p10_ms: 10 of 100 were as fast: what it takes where nobody else uses the machine.
        p50_ms: The median.
        p95_ms: 95 of 100 were as fast.
        cpu_ms: CPU time of the process that answers, on average; steadier than the rest. Over REST without Envoy's.
        asked: How often, after a warm-up.
        items: Rows, points or entries of a typical answer: an empty one proves nothing.
    """

    question: str
    signal: str
    stored: int
    place: str
    goal_ms: float
    p10_ms: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    asked: int
    items: int


def _servicer(name: str, store: Any) -> Any:
    rpc = importlib.import_module(f"services.{name}.rpc")
    query = getattr(importlib.import_module(f"services.{name}.query"), f"{SINGULAR[name]}Query")(store)
    nothing: Any = None
    if name == "metrics":
        return rpc.MetricsServicer(nothing, query, time.time_ns)
    if name == "logs":
        return rpc.LogServicer(nothing, query, nothing, time.time_ns)
    return rpc.TraceServicer(nothing, query, time.time_ns)


async def ask_in_process(name: str, data_dir: Path, sizes: Sizes, repeats: int) -> list[QueryFigure]:
    """The service and the engine, in this process."""
    clickhouse, store = open_store(name, data_dir)
    await clickhouse.open()
    await store.open()
    servicer = _servicer(name, store)
    figures = []
    for question in (question for question in QUESTIONS if question.signal == name):
        method = getattr(servicer, question.method.rpartition("/")[2])
        clickhouse.statements.clear()
        times, answer, used = [], None, 0.0
        for n in range(-5, repeats):
            request = question.ask(n + 5, sizes)
            if n == 0:
                clickhouse.statements.clear()
                used = time.process_time()
            began = time.perf_counter()
            answer = await method(request, None)
            times.append((time.perf_counter() - began) * 1000)
        used = time.process_time() - used
        figures.append(_figure(question, sizes, "service", times[5:], used, question.count(answer)))
        figures.append(_engine(question, sizes, data_dir / name / "clickhouse", clickhouse.statements, repeats))
    await clickhouse.close()
    return figures


def _engine(
    question: Question, sizes: Sizes, path: Path, statements: Sequence[tuple[str, Any]], repeats: int
) -> QueryFigure:
    connection: Any = chdb.state.connect(str(path.resolve()))
    each, times, rows = max(len(statements) // repeats, 1), [], 0
    used = time.process_time()
    for first in range(0, len(statements), each):
        began, rows = time.perf_counter(), 0
        for sql, parameters in statements[first : first + each]:
            given = {key: _literal(value) for key, value in parameters.items()}
            answer = connection.query(sql, "Arrow", params=given)
            rows += pa.ipc.RecordBatchFileReader(answer.bytes()).read_all().num_rows
        times.append((time.perf_counter() - began) * 1000)
    used = time.process_time() - used
    connection.close()
    return _figure(question, sizes, "engine", times, used, rows)


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(f"'{item}'" if isinstance(item, str) else str(item) for item in value) + "]"
    return str(value)


def _figure(
    question: Question, sizes: Sizes, place: str, times: Sequence[float], used: float, items: int
) -> QueryFigure:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return QueryFigure(
        question=question.name,
        signal=question.signal,
        stored=sizes.of(question.signal),
        place=place,
        goal_ms=question.goal_ms,
        p10_ms=cuts[9],
        p50_ms=cuts[49],
        p95_ms=cuts[94],
        cpu_ms=used / len(times) * 1000,
        asked=len(times),
        items=items,
    )


def over_grpc(question: Question, address: str, sizes: Sizes, repeats: int, service: psutil.Process) -> QueryFigure:
    """At the port of the service, whose process is `service`."""
    times, answer, used = [], None, 0.0
    response = _response(question)
    with grpc.insecure_channel(address, DIRECTLY) as channel:
        call = channel.unary_unary(
            question.method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        for n in range(-5, repeats):
            request = question.ask(n + 10_005, sizes)
            used = _cpu(service) if n == 0 else used
            began = time.perf_counter()
            answer = call(request, timeout=30)
            times.append((time.perf_counter() - began) * 1000)
    return _figure(question, sizes, "grpc", times[5:], _cpu(service) - used, question.count(answer))


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _response(question: Question) -> Any:
    service, method = question.method.lstrip("/").rsplit("/", 1)
    file = {"metrics": metrics_pb2, "logs": logs_pb2, "traces": traces_pb2}[question.signal]
    found = file.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
    return getattr(file, found.output_type.name)


def over_rest(question: Question, address: str, sizes: Sizes, repeats: int, service: psutil.Process) -> QueryFigure:
    """At the port of Envoy; the service behind it is the process `service`."""
    times, body, used = [], b"", 0.0
    connection = http.client.HTTPConnection(address, timeout=30)
    for n in range(-5, repeats):
        fields = MessageToDict(question.ask(n + 20_005, sizes))
        path, sent = question.path, None
        if question.verb == "POST":
            sent = json.dumps(fields)
        else:
            path = path.replace("{trace_id}", fields.pop("traceId", ""))
            path += f"?{urlencode(fields)}" if fields else ""
        used = _cpu(service) if n == 0 else used
        began = time.perf_counter()
        connection.request(question.verb, path, sent, {"content-type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - began) * 1000)
        if answer.status != http.client.OK:
            raise RuntimeError(f"{question.name}: {answer.status} {body[:300]!r}")
    connection.close()
    return _figure(question, sizes, "rest", times[5:], _cpu(service) - used, len(body))
