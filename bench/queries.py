"""How long questions take at a size of data, and where the time goes.

Run: `python -m bench.queries --data-dir PATH [--points 5000000] [--lines 1000000] [--spans 1000000] [--repeats 200]
[--port-offset N]`. The data is made once for a folder and used again, if there is as much of it as is asked for.
Whatever else the folder's `metrics`, `logs` and `traces` hold is removed.

Each question is asked with other parameters each time. Four places are measured, each beyond the one before:

- engine: the statements alone, through chdb, one after the other;
- service: the servicer in the same process, without gRPC;
- grpc: a client at the service's port;
- rest: through Envoy, as JSON over one kept connection.

Of 100 million points, 10 million lines or 10 million spans, p95 over grpc is to be under 50 ms: ends with 1 where it
is not, or the answer was empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import psutil
from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2

from bench import query_data as data
from bench.airis_target import OFFSETS, AirisTarget
from bench.folders import absolute
from bench.goals import Outcome
from bench.query_loading import load
from bench.query_places import QueryFigure, ask_in_process, over_grpc, over_rest
from bench.query_questions import HOUR, QUESTIONS, Sizes, over_all
from bench.target import DIRECTLY, SIGNALS
from services.supervisor import ports

LARGE = {"metrics": 100_000_000, "logs": 10_000_000, "traces": 10_000_000}
"""From how many items on p95 is judged."""
LARGE_P95_MS = 50.0
_KEPT = "sizes.json"
_SERVICES = Path(__file__).parent.parent / "services"


class OtherSizesError(Exception):
    """A folder has data of other sizes than were asked for."""


def outcomes(figures: Sequence[QueryFigure]) -> list[Outcome]:
    """The goals of the questions that were asked of much data; those of less are in `bench.goals`."""
    return [
        Outcome(
            f"query of {each.stored:,}: {each.question}, p95",
            "ms",
            LARGE_P95_MS,
            False,
            each.p95_ms if each.items else math.nan,
        )
        for each in figures
        if each.place == "grpc" and each.stored >= LARGE[each.signal]
    ]


def _check_counts(platform: AirisTarget, sizes: Sizes) -> None:
    """Raises `RuntimeError` if the services do not have what was loaded."""
    counts = {"points": 0, "lines": 0, "spans": 0}

    def ask(name: str, method: str, request: Any, response: Any) -> Any:
        with grpc.insecure_channel(platform.address(ports.GRPC[name]), DIRECTLY) as channel:
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


def _prepare(data_dir: Path, sizes: Sizes) -> Sizes:
    """Loads what is not there yet; returns what is."""
    kept, migrations = data_dir / _KEPT, sorted(path.name for path in _SERVICES.glob("*/store/sql/*.sql"))
    known = json.loads(kept.read_text()) if kept.exists() else {}
    sizes = Sizes(sizes.points // 10_000 * 10_000, sizes.lines, sizes.spans // 16 * 16, sizes.end)
    if known.get("migrations") == migrations:
        there = Sizes(**known["sizes"])
        if any(there.of(signal) != sizes.of(signal) for signal in SIGNALS):
            raise OtherSizesError(f"{data_dir} has {there}, not {sizes}: name its sizes, or another folder.")
        return there
    kept.unlink(missing_ok=True)
    for name in SIGNALS:
        if (data_dir / name).exists():
            shutil.rmtree(data_dir / name)
    data_dir.mkdir(parents=True, exist_ok=True)
    for name in SIGNALS:
        _in_child(load, name, data_dir, sizes)
    written = kept.with_suffix(".new")
    written.write_text(json.dumps({"sizes": asdict(sizes), "migrations": migrations}))
    written.replace(kept)
    return sizes


def measure(
    data_dir: Path,
    sizes: Sizes,
    repeats: int = 200,
    offsets: range = OFFSETS,
    only: Sequence[str] = (),
    *,
    in_process: bool = False,
) -> list[QueryFigure]:
    """Loads what is not there yet and asks every question everywhere.

    Args:
        data_dir: Where the data is kept for the next run; made anew if the tables have changed since, or not all of it
            was loaded.
        sizes: How much to load.
        repeats: How often each question is asked in each place.
        offsets: Of the platform's ports; a free one is chosen.
        only: Signals; empty: all.
        in_process: Leave out what needs a running platform.

    Raises:
        OtherSizesError: The folder has more or less.
        RuntimeError: The platform refuses a question, or lost or doubled an item.
        TargetError: It does not start.
    """
    sizes = _prepare(data_dir, sizes)
    print(f"{data_dir} has {sizes}", flush=True)
    names = only or SIGNALS
    figures = [figure for name in names for figure in _in_child(ask_in_process, name, data_dir, sizes, repeats)]
    if in_process:
        return figures
    platform = AirisTarget(offsets=offsets)
    platform.start(data_dir)
    try:
        if not only:
            try:
                _check_counts(platform, sizes)
            except RuntimeError:
                # The next run loads it anew.
                (data_dir / _KEPT).unlink()
                raise
        for question in QUESTIONS:
            if question.signal in names:
                service = _service(platform, question.signal)
                address = platform.address(ports.GRPC[question.signal])
                figures.append(over_grpc(question, address, sizes, repeats, service))
                address = platform.address(ports.ENVOY["REST, gRPC, gRPC-Web"])
                figures.append(over_rest(question, address, sizes, repeats, service))
    finally:
        platform.stop()
    return figures


def _service(platform: AirisTarget, name: str) -> psutil.Process:
    (supervisor,) = platform.pids()
    children = psutil.Process(supervisor).children(recursive=True)
    return next(child for child in children if child.cmdline()[-2:] == ["services", name])


def main() -> int:
    """Measures, and prints a table, the goals, and both as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=absolute, required=True)
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--port-offset", type=int, help="of the platform's ports; default: one that is free")
    parser.add_argument("--only", nargs="*", default=[], choices=SIGNALS)
    parser.add_argument("--in-process", action="store_true", help="the service and the engine only")
    given = parser.parse_args()
    sizes = Sizes(given.points, given.lines, given.spans, int(time.time()) // 10 * 10 - 30)
    offsets = OFFSETS if given.port_offset is None else range(given.port_offset, given.port_offset + 1)
    try:
        figures = measure(given.data_dir, sizes, given.repeats, offsets, given.only, in_process=given.in_process)
    except OtherSizesError as error:
        sys.exit(str(error))
    print(f"load average {os.getloadavg()[0]:.1f}; milliseconds")
    print(f"{'question':38}{'place':8}{'goal':>6}{'p10':>8}{'p50':>8}{'p95':>8}{'CPU':>8}{'items':>8}")
    for each in figures:
        print(
            f"{each.question:38}{each.place:8}{each.goal_ms:6.0f}{each.p10_ms:8.2f}{each.p50_ms:8.2f}{each.p95_ms:8.2f}"
            f"{each.cpu_ms:8.2f}{each.items:8d}"
        )
    judged = outcomes(figures)
    for goal in judged:
        print(f"{goal.what}: {goal.figure:.2f} ms, goal {goal.goal:.0f}: {goal.verdict}")
    for figure in figures:
        print(json.dumps(asdict(figure)))
    for goal in judged:
        print(json.dumps({**asdict(goal), "verdict": goal.verdict}))
    return 0 if all(goal.reached for goal in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
