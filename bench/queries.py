"""How long questions take at a size of data, and where the time goes.

Run: `python -m bench.queries --data-dir PATH [--points 5000000] [--lines 1000000] [--spans 1000000] [--repeats 200]
[--port-offset 4000]`. The data is made once for a folder and used again; the sizes of what is there count then.
Whatever else the folder's `metrics`, `logs` and `traces` hold is removed.

Each question is asked with other parameters each time. Four places are measured, each beyond the one before:

- engine: the statements alone, through chdb, one after the other;
- service: the servicer in the same process, without gRPC;
- grpc: a client at the service's port;
- rest: through Envoy, as JSON over one kept connection.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import chdb.state
import grpc
import psutil
import pyarrow as pa
from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf.json_format import MessageToDict

from bench import query_data as data
from bench.folders import absolute
from bench.query_questions import HOUR, MINUTE, QUESTIONS, Question, Sizes, over_all
from bench.target import DIRECTLY
from services.metrics.model import SeriesRow
from services.metrics.store.adapters.clickhouse import series_table
from services.shared.bus.port import Header, Position
from services.shared.clickhouse.client import ClickHouse

__all__ = ["QUESTIONS", "QueryFigure", "Question", "Sizes", "measure"]

_SERVICES = Path(__file__).parent.parent / "services"
_SIGNALS = ("metrics", "logs", "traces")
_PORTS = {"metrics": 8001, "logs": 8002, "traces": 8003, "edge": 8080}
_EDGE_MINUTES = 16
_MERGE_SECONDS = 60.0


@dataclass(frozen=True)
class QueryFigure:
    """How long one question took.

    Attributes:
        question: What was asked.
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
    place: str
    goal_ms: float
    p10_ms: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    asked: int
    items: int


class _Recording(ClickHouse):
    """Keeps the statements of queries, in the order in which they are asked."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.statements: list[tuple[str, Mapping[str, object]]] = []

    async def query(self, sql: str, parameters: Mapping[str, object] | None = None, **limits: Any) -> pa.Table:
        self.statements.append((sql, parameters or {}))
        return await super().query(sql, parameters, **limits)


def _store(name: str, data_dir: Path) -> tuple[_Recording, Any]:
    config = getattr(importlib.import_module(f"services.{name}.config"), f"{name.title()}Config")()
    clickhouse = _Recording(f"chdb://{data_dir / name / 'clickhouse'}")
    adapter = importlib.import_module(f"services.{name}.store.adapters.clickhouse")
    return clickhouse, getattr(adapter, f"ClickHouse{_SINGULAR[name]}Store")(clickhouse, config)


_SINGULAR = {"metrics": "Metric", "logs": "Log", "traces": "Trace"}


def _servicer(name: str, store: Any) -> Any:
    rpc = importlib.import_module(f"services.{name}.rpc")
    query = getattr(importlib.import_module(f"services.{name}.query"), f"{_SINGULAR[name]}Query")(store)
    nothing: Any = None
    if name == "metrics":
        return rpc.MetricsServicer(nothing, query, time.time_ns)
    if name == "logs":
        return rpc.LogServicer(nothing, query, nothing, time.time_ns)
    return rpc.TraceServicer(nothing, query, time.time_ns)


async def _load(name: str, data_dir: Path, sizes: Sizes) -> None:
    clickhouse, store = _store(name, data_dir)
    await clickhouse.open()
    await store.open()
    began, number = time.monotonic(), 0
    if name == "metrics":
        series: list[SeriesRow] = []
        for columns in data.points(sizes.points, sizes.end * 1000):
            series += columns.series
            if columns.series:
                await clickhouse.insert("series", series_table(series, sizes.end * 1_000_000_000))
            await clickhouse.insert("samples", columns.samples)
    elif name == "logs":
        for number, entries in enumerate(data.lines(sizes.lines, sizes.end * 1_000_000_000)):
            await store.write([(Position(number), Header(data.TENANT, "bench", 0, 0), entries)], f"token-{number}")
    else:
        for number, spans in enumerate(data.spans(sizes.spans, sizes.end * 1_000_000_000)):
            await store.write([(Header(data.TENANT, "bench", 0, 0), spans)], f"token-{number}")
        last = sizes.end // MINUTE
        first = last - sizes.spans // data.SPANS_A_TRACE // data.TRACES_A_SECOND // MINUTE - 1
        for minute in range(first, last + 1, _EDGE_MINUTES):
            await store.refresh_edges(minute, min(minute + _EDGE_MINUTES - 1, last))
    loaded = time.monotonic() - began
    parts = await _wait_for_merges(clickhouse)
    print(f"{name}: loaded in {loaded:.0f} s; {parts}", file=sys.stderr)
    await clickhouse.close()


async def _wait_for_merges(clickhouse: ClickHouse) -> str:
    """Returns when nothing is merged any more, or after a minute; says how many parts there are."""
    until = time.monotonic() + _MERGE_SECONDS
    while time.monotonic() < until:
        (running,) = await clickhouse.rows("SELECT count() AS n FROM system.merges", timeout=10)
        if not running["n"]:
            break
        await asyncio.sleep(1)
    rows = await clickhouse.rows(
        "SELECT table, count() AS parts, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = 'airis' GROUP BY table ORDER BY table",
        timeout=10,
    )
    return ", ".join(f"{r['table']} {r['rows']} rows {r['parts']} parts {r['bytes'] >> 20} MiB" for r in rows)


async def _layers(name: str, data_dir: Path, sizes: Sizes, repeats: int) -> list[QueryFigure]:
    """The service and the engine, in this process."""
    clickhouse, store = _store(name, data_dir)
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
        figures.append(_figure(question, "service", times[5:], used, question.count(answer)))
        figures.append(_engine(question, data_dir / name / "clickhouse", clickhouse.statements, repeats))
    await clickhouse.close()
    return figures


def _engine(question: Question, path: Path, statements: Sequence[tuple[str, Any]], repeats: int) -> QueryFigure:
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
    return _figure(question, "engine", times, used, rows)


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(f"'{item}'" if isinstance(item, str) else str(item) for item in value) + "]"
    return str(value)


def _figure(question: Question, place: str, times: Sequence[float], used: float, items: int) -> QueryFigure:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    asked = len(times)
    return QueryFigure(
        question.name, place, question.goal_ms, cuts[9], cuts[49], cuts[94], used / asked * 1000, asked, items
    )


def _over_grpc(question: Question, offset: int, sizes: Sizes, repeats: int, service: psutil.Process) -> QueryFigure:
    times, answer, used = [], None, 0.0
    response = _response(question)
    with grpc.insecure_channel(f"127.0.0.1:{_PORTS[question.signal] + offset}", DIRECTLY) as channel:
        call = channel.unary_unary(
            question.method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        for n in range(repeats + 5):
            request = question.ask(n + 10_000, sizes)
            used = used or _cpu(service)
            began = time.perf_counter()
            answer = call(request, timeout=30)
            times.append((time.perf_counter() - began) * 1000)
    return _figure(question, "grpc", times[5:], _cpu(service) - used, question.count(answer))


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _response(question: Question) -> Any:
    service, method = question.method.lstrip("/").rsplit("/", 1)
    file = {"metrics": metrics_pb2, "logs": logs_pb2, "traces": traces_pb2}[question.signal]
    found = file.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
    return getattr(file, found.output_type.name)


def _over_rest(question: Question, offset: int, sizes: Sizes, repeats: int, service: psutil.Process) -> QueryFigure:
    times, body, used = [], b"", 0.0
    connection = http.client.HTTPConnection("127.0.0.1", _PORTS["edge"] + offset, timeout=30)
    for n in range(repeats + 5):
        fields = MessageToDict(question.ask(n + 20_000, sizes))
        path, sent = question.path, None
        if question.verb == "POST":
            sent = json.dumps(fields)
        else:
            path = path.replace("{trace_id}", fields.pop("traceId", ""))
            path += f"?{urlencode(fields)}" if fields else ""
        used = used or _cpu(service)
        began = time.perf_counter()
        connection.request(question.verb, path, sent, {"content-type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - began) * 1000)
        if answer.status != http.client.OK:
            raise RuntimeError(f"{question.name}: {answer.status} {body[:300]!r}")
    connection.close()
    return _figure(question, "rest", times[5:], _cpu(service) - used, len(body))


def _check_counts(offset: int, sizes: Sizes) -> None:
    """Raises `RuntimeError` if the services do not have what was loaded."""
    counts = {"points": 0, "lines": 0, "spans": 0}

    def ask(name: str, method: str, request: Any, response: Any) -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{_PORTS[name] + offset}", DIRECTLY) as channel:
            call = channel.unary_unary(method, lambda message: message.SerializeToString(), response.FromString)
            return call(request, timeout=60)

    for metric in range(data.METRICS):
        request = metrics_pb2.QueryMetricsRequest(
            metric=data.metric_name(metric), aggregation=aggregation_pb2.Aggregation.COUNT
        )
        request.step.seconds = 40 * 24 * HOUR
        answer = ask("metrics", QUESTIONS[0].method, over_all(request, sizes, 0), metrics_pb2.QueryMetricsResponse)
        counts["points"] += int(sum(point.value for series in answer.series for point in series.points))
    lines = over_all(logs_pb2.CountLogsRequest(), sizes, 0)
    counts["lines"] = ask("logs", QUESTIONS[4].method, lines, logs_pb2.CountLogsResponse).total_count
    services = over_all(traces_pb2.ListServicesRequest(), sizes, 0)
    method = "/airis.traces.v1.TraceService/ListServices"
    answer = ask("traces", method, services, traces_pb2.ListServicesResponse)
    counts["spans"] = sum(service.span_count for service in answer.services)
    if counts != {"points": sizes.points, "lines": sizes.lines, "spans": sizes.spans}:
        raise RuntimeError(f"{sizes} were loaded, the services have {counts}")


def _in_child(target: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a coroutine function in a process of its own: a chdb folder belongs to one process, and one to a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, target, arguments).result()


def _run(target: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    return asyncio.run(target(*arguments))


def measure(
    data_dir: Path,
    sizes: Sizes,
    repeats: int = 200,
    offset: int = 4000,
    only: Sequence[str] = (),
    *,
    in_process: bool = False,
) -> list[QueryFigure]:
    """Loads what is not there yet and asks every question everywhere.

    Args:
        data_dir: Where the data is kept for the next run; made anew if the tables have changed since, or not all of it
            was loaded.
        sizes: How much to load; what is there already counts in its place.
        repeats: How often each question is asked in each place.
        offset: Added to the platform's ports.
        only: Signals; empty: all.
        in_process: Leave out what needs a running platform.

    Raises:
        RuntimeError: The platform does not start, refuses a question, or lost or doubled an item.
    """
    kept, migrations = data_dir / "sizes.json", sorted(path.name for path in _SERVICES.glob("*/store/sql/*.sql"))
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("migrations") == migrations:
        sizes = Sizes(**known["sizes"])
    else:
        kept.unlink(missing_ok=True)
        for name in _SIGNALS:
            if (data_dir / name).exists():
                shutil.rmtree(data_dir / name)
        data_dir.mkdir(parents=True, exist_ok=True)
        sizes = Sizes(sizes.points // 10_000 * 10_000, sizes.lines, sizes.spans // 16 * 16, sizes.end)
        for name in _SIGNALS:
            _in_child(_load, name, data_dir, sizes)
        written = kept.with_suffix(".new")
        written.write_text(json.dumps({"sizes": asdict(sizes), "migrations": migrations}))
        written.replace(kept)
    names = only or _SIGNALS
    figures = [figure for name in names for figure in _in_child(_layers, name, data_dir, sizes, repeats)]
    if in_process:
        return figures
    command = [str(Path(sys.executable).parent / "airis"), "up", "--data-dir", str(data_dir)]
    with (data_dir / "up.log").open("w") as log:
        platform = subprocess.Popen(
            [*command, "--port-offset", str(offset)], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        _wait_until_ready(platform, data_dir / "up.log")
        if not only:
            try:
                _check_counts(offset, sizes)
            except RuntimeError:
                # The next run loads it anew.
                kept.unlink()
                raise
        for question in QUESTIONS:
            if question.signal in names:
                service = _service(platform.pid, question.signal)
                figures.append(_over_grpc(question, offset, sizes, repeats, service))
                figures.append(_over_rest(question, offset, sizes, repeats, service))
    finally:
        platform.send_signal(signal.SIGINT)
        platform.wait(60)
    return figures


def _service(platform: int, name: str) -> psutil.Process:
    children = psutil.Process(platform).children(recursive=True)
    return next(child for child in children if child.cmdline()[-2:] == ["services", name])


def _wait_until_ready(platform: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while "AIRIS is ready" not in (text := log.read_text()):
        if platform.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"The platform did not start:\n{text[-2000:]}")
        time.sleep(0.2)


def main() -> None:
    """Measures, and prints a table and the figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=absolute, required=True)
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--port-offset", type=int, default=4000)
    parser.add_argument("--only", nargs="*", default=[], choices=_SIGNALS)
    parser.add_argument("--in-process", action="store_true", help="the service and the engine only")
    given = parser.parse_args()
    sizes = Sizes(given.points, given.lines, given.spans, int(time.time()) // 10 * 10 - 30)
    figures = measure(given.data_dir, sizes, given.repeats, given.port_offset, given.only, in_process=given.in_process)
    print(f"load average {os.getloadavg()[0]:.1f}; milliseconds")
    print(f"{'question':38}{'place':8}{'goal':>6}{'p10':>8}{'p50':>8}{'p95':>8}{'CPU':>8}{'items':>8}")
    for each in figures:
        print(
            f"{each.question:38}{each.place:8}{each.goal_ms:6.0f}{each.p10_ms:8.2f}{each.p50_ms:8.2f}{each.p95_ms:8.2f}"
            f"{each.cpu_ms:8.2f}{each.items:8d}"
        )
    for figure in figures:
        print(json.dumps(asdict(figure)))


if __name__ == "__main__":
    main()
