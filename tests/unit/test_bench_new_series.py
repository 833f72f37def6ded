"""A million new series: what they cost in memory, and what somebody else notices of them."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from bench.beside import MemoryWatch, Neighbour, p95_ms
from bench.goals import outcomes
from bench.ingest import Run
from bench.load import LoadResult
from bench.load_lane import Lane, Outcome, Phase
from bench.payloads import base_before, payloads
from bench.payloads_calls import CALL_METRIC
from bench.processes import Memory
from bench.results import NEW_SERIES, Results
from bench.runner import Options, quick, run_ingestion
from bench.target import GRPC_METHODS, Endpoint, otlp_grpc


class _Points:
    """Counts points in memory."""

    name = "AIRIS"
    signals = frozenset({"metrics"})
    stores = True

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self.sizes: list[int] = []
        self.hosts: set[str] = set()

    def start(self, directory: Path) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8))
        _, service, method = GRPC_METHODS["metrics"].split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(self._take)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _take(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        size = 0
        for group in ExportMetricsServiceRequest.FromString(request).resource_metrics:
            metrics = group.scope_metrics[0].metrics
            size += sum(len(metric.sum.data_points) + len(metric.gauge.data_points) for metric in metrics)
            if [metric.name for metric in metrics] == [CALL_METRIC]:
                self.hosts.add(group.resource.attributes[1].value.string_value)
        with self._counting:
            self.sizes.append(size)
        return b""

    def endpoint(self, signal: str) -> Endpoint:
        return otlp_grpc(signal, f"127.0.0.1:{self._port}")

    def pids(self) -> list[int]:
        return [os.getpid()]

    def stored(self, signal: str) -> int:
        return sum(self.sizes)

    def disk_bytes(self) -> int:
        return 0

    def stop(self) -> None:
        self._server.stop(None)


@pytest.mark.timeout(300)
def test_somebody_elses_calls_of_known_series_go_on_while_new_series_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.processes.memory", lambda pids: Memory(2.0, 1.0))
    target = _Points()
    (run,) = run_ingestion([target], [NEW_SERIES], quick(Options(base_before(time.time_ns()))), lambda _: None)
    assert not run.faults
    # All that was acknowledged is there: the new series, and the calls.
    assert run.acknowledged == run.stored == sum(target.sizes)
    assert target.sizes.count(1000) == 20
    # Each of its series was known before it was watched, alone for a second and then beside the others.
    calls = [size for size in target.sizes if size == 1]
    # What is overdue at the end of the second is not sent any more.
    assert len(calls) >= 1000 + 2
    assert len(target.hosts) == 1000
    assert run.neighbour_p95_ms["alone"] > 0
    assert run.neighbour_p95_ms["beside"] > 0
    assert run.peak_memory_bytes == 1.0


def _result(latencies: list[float], refused: int = 0, unknown: int = 0) -> LoadResult:
    return LoadResult(len(latencies), refused, unknown, 20, {}, latencies, 1.0, 0, 0.0, 1)


def test_a_call_that_is_not_taken_counts_as_one_that_waited_longest() -> None:
    assert p95_ms([_result([0.01] * 20), _result([0.01] * 20)]) == pytest.approx(10)
    assert p95_ms([_result([0.01] * 18, refused=1, unknown=1)]) == 30_000
    assert math.isnan(p95_ms([]))


class _Stalling:
    """A connection and a clock: the first answer takes ten seconds, each further one a hundredth."""

    def __init__(self) -> None:
        self.now = 0.0
        self._next_seconds = 10.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self, body: bytes, items: int) -> Outcome:
        self.now += self._next_seconds
        self._next_seconds = 0.01
        return Outcome(0)

    def close(self) -> None: ...


def test_each_call_that_was_due_while_nobody_answered_has_waited_since_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stalling = _Stalling()
    monkeypatch.setattr("bench.load_lane.time", stalling)
    monkeypatch.setattr("bench.load_lane.open_sender", lambda endpoint: stalling)
    # One of ten lanes: its calls are due each second, and the load ends amid the stall.
    lane = Lane(Phase(otlp_grpc("metrics", "127.0.0.1:1"), 0, 10, 600.0, 10.0), 0, payloads("calls", 0), 0, 0)

    lane.run(0.0, lambda: 8.5)

    assert lane.tally.latencies == pytest.approx([10.0, *(10.0 - at + 0.01 * at for at in range(1, 9))])


class _Other:
    """Stands in for the load generator of somebody else."""

    def __init__(self, load_began: threading.Event) -> None:
        self._load_began = load_began
        self._ended = threading.Event()
        self.began = threading.Event()
        self.began_after_the_load: list[bool] = []

    def run(self, phase: Phase, began: Callable[[], None]) -> LoadResult:
        self.began_after_the_load.append(self._load_began.is_set())
        self.began.set()
        began()
        assert self._ended.wait(30)
        return _result([0.01])

    def end_phase(self) -> None:
        self._ended.set()


def test_somebody_else_is_watched_from_the_begin_of_a_load_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.beside._LEAST_SECONDS", 0.0)
    load_began = threading.Event()
    other = _Other(load_began)
    neighbour = Neighbour(other, otlp_grpc("metrics", "127.0.0.1:1"))  # type: ignore[arg-type]

    with neighbour.beside(load_began) as beside:
        assert not other.began_after_the_load
        load_began.set()
        assert other.began.wait(30)

    assert other.began_after_the_load == [True]
    assert beside == [_result([0.01])]


def test_nobody_is_watched_beside_a_load_that_did_not_begin() -> None:
    load_began = threading.Event()
    other = _Other(load_began)
    neighbour = Neighbour(other, otlp_grpc("metrics", "127.0.0.1:1"))  # type: ignore[arg-type]

    with pytest.raises(ConnectionError, match="no load"), neighbour.beside(load_began):
        raise ConnectionError("no load")

    assert not other.began_after_the_load


def test_the_highest_memory_counts_and_what_is_not_told_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([5.0, 9.0, math.nan, 7.0])
    looked = threading.Event()

    def memory(_: object) -> Memory:
        found = next(told, None)
        if found is None:
            looked.set()
        return Memory(0.0, math.nan if found is None else found)

    monkeypatch.setattr("bench.processes.memory", memory)
    monkeypatch.setattr("bench.beside._LOOK_SECONDS", 0.0)
    with MemoryWatch([1]) as watch:
        assert looked.wait(30)
    assert watch.most == 9.0
    with MemoryWatch([1]) as untold:
        pass
    assert math.isnan(untold.most)


def test_new_series_have_goals_for_memory_and_for_somebody_else() -> None:
    run = Run("AIRIS", NEW_SERIES, 0, peak_memory_bytes=3 * 2**30)
    run.neighbour_p95_ms = {"alone": 5.0, "beside": 75.0}
    found = {each.what: each.verdict for each in outcomes(Results({}, {}, runs=[run]))}
    assert found["new series: the most memory (PSS) while they come"] == "missed: 2.0 times"
    assert found["new series: acknowledgement p95 of somebody else, alone"] == "reached"
    assert found["new series: acknowledgement p95 of somebody else, while they come"] == "missed by 50 %"
    assert not any(each.what.startswith("new series:") for each in outcomes(Results({}, {})))
