"""A benchmark's run fails when an item is lost or doubled, and tells its figures otherwise."""

from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import psutil
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from rich.console import Console

from bench import processes
from bench.folders import work_folder
from bench.goals import Outcome, outcomes
from bench.growth import Stage, grow, ratio
from bench.ingest import IngestRun, Plan, Run, faults_of
from bench.load import LoadGenerator, Phase
from bench.payloads import base_before, payloads
from bench.report import print_report
from bench.report_html import page
from bench.results import Results, spread
from bench.runner import Options, quick, run_ingestion
from bench.target import GRPC_METHODS, Endpoint, otlp_grpc


class _Counting:
    """Counts records in memory, and may be told to forget or repeat some."""

    signals = frozenset({"logs"})
    stores = True

    def __init__(self, name: str, mistake: int = 0, answer: bytes = b"") -> None:
        self.name = name
        self._mistake, self._answer = mistake, answer
        self._count, self._counting = 0, threading.Lock()
        self.sent: list[bytes] = []
        self.stopped = 0

    def start(self, directory: Path) -> None:
        """Serves on a free port."""
        assert directory.is_dir()
        assert not list(directory.iterdir())
        self._count = 0
        self._server = grpc.server(ThreadPoolExecutor(8))
        _, service, method = GRPC_METHODS["logs"].split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(self._take)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _take(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.sent.append(request)
        logs = ExportLogsServiceRequest.FromString(request).resource_logs
        refused = b"refused" in self._answer
        with self._counting:
            self._count += sum(len(group.scope_logs[0].log_records) for group in logs) - (1000 if refused else 0)
        if refused:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return self._answer

    def endpoint(self, signal: str) -> Endpoint:
        """Its port."""
        return otlp_grpc(signal, f"127.0.0.1:{self._port}")

    def pids(self) -> list[int]:
        """This process."""
        return [os.getpid()]

    def stored(self, signal: str) -> int:
        """What was taken, and the mistake."""
        return self._count + self._mistake

    def disk_bytes(self) -> int:
        """100 bytes a record."""
        return self._count * 100

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop(None)
        self.stopped += 1


def _options() -> Options:
    return quick(Options(base_before(time.time_ns())))


@pytest.mark.timeout(300)
def test_a_run_tells_its_figures_and_one_with_a_wrong_count_has_failed() -> None:
    right, doubling = _Counting("right"), _Counting("doubling", 3)
    options, seen = _options(), list[Run]()
    runs = run_ingestion([right, doubling], ["logs", "traces"], options, seen.append)
    assert runs == seen
    assert [run.target for run in runs] == ["right", "doubling"]
    good, bad = runs
    assert not good.faults
    assert good.stored == good.acknowledged > 0
    assert good.acknowledged % 1000 == 0
    assert good.refused == good.unknown == 0
    assert good.per_second > 0
    assert good.per_cpu_second > 0
    assert good.bytes_per_item == pytest.approx(100)
    assert 0 < good.half_peak_ms["p50"] <= good.half_peak_ms["p95"] <= good.half_peak_ms["p99"]
    assert bad.faults == [f"3 items are doubled (read back: {bad.stored})"]
    assert right.stopped == doubling.stopped == 1
    # Both got the same bytes, and no request twice.
    first = payloads("logs", options.base_ns).request(0)
    for target in (right, doubling):
        assert first in target.sent
        assert len(set(target.sent)) == len(target.sent)


@pytest.mark.timeout(300)
def test_a_phase_that_failed_has_no_part_in_the_next_one(tmp_path: Path) -> None:
    target = _Counting("right")
    target.start(tmp_path)
    phase = Phase(target.endpoint("logs"), 0, 2, 30.0, requests=4)
    with LoadGenerator("logs", base_before(time.time_ns())) as load:
        with pytest.raises(ConnectionError, match="InvalidURL"):
            load.run(Phase(Endpoint("http", "127.0.0.1:none", "/"), 0, 2, 1.0, requests=2))
        after_a_fault = load.run(phase)
        os.kill(load.pids[0], signal.SIGKILL)
        with pytest.raises(ConnectionError):
            load.run(phase)
        after_a_kill = load.run(phase)
    target.stop()
    assert after_a_fault.acknowledged == after_a_kill.acknowledged == 4000


@pytest.mark.timeout(300)
def test_a_run_of_which_nothing_was_acknowledged_has_failed(tmp_path: Path) -> None:
    class _Forgetful(_Counting):
        stores = False

    plan = Plan("logs", 0.5, 0.0, 0.0, merge_seconds=0.0)
    with LoadGenerator("logs", base_before(time.time_ns()), processes=1) as load:
        refused, forgotten = (
            IngestRun(kind("refusing", answer=b"refused"), plan, load, 0, tmp_path).measure()
            for kind in (_Counting, _Forgetful)
        )
    assert refused.faults == ["nothing was acknowledged at the peak", "nothing was acknowledged"]
    assert forgotten.faults == ["nothing was acknowledged at the peak"]
    assert refused.peak_refused == forgotten.peak_refused == 1.0


@pytest.mark.timeout(300)
def test_refused_requests_and_items_are_not_taken_for_acknowledged(tmp_path: Path) -> None:
    partial = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=7))
    target = _Counting("partial", answer=partial.SerializeToString())
    base = base_before(time.time_ns())
    with LoadGenerator("logs", base, processes=1) as load:
        target.start(tmp_path)
        result = load.run(Phase(target.endpoint("logs"), 0, 2, 30.0, requests=6))
        target.stop()
        assert (result.requests, result.acknowledged, result.refused) == (6, 6 * 993, 42)
        assert result.next_number == 6
        refusing = _Counting("refusing", answer=b"refused")
        refusing.start(tmp_path)
        refused = load.run(Phase(refusing.endpoint("logs"), 6, 2, 30.0, requests=4))
        refusing.stop()
        assert (refused.acknowledged, refused.refused, refused.unknown) == (0, 4000, 0)
        assert refused.errors == {"RESOURCE_EXHAUSTED: full": 4}
        assert (refused.refused_share, result.refused_share) == (1.0, 0.007)
        assert math.isnan(refused.latency(0.95))


def test_a_target_that_does_not_start_is_a_failed_run_and_the_others_go_on() -> None:
    class _Broken(_Counting):
        def start(self, directory: Path) -> None:
            raise OSError("no such program")

        def stop(self) -> None:
            self.stopped += 1

    broken = _Broken("broken")
    (run,) = run_ingestion([broken], ["logs"], _options(), lambda run: None)
    assert run.faults == ["did not run: no such program"]
    assert broken.stopped == 1


def test_unknown_items_may_be_stored_once_or_not() -> None:
    assert not faults_of(100, 20, {"read back": 100})
    assert not faults_of(100, 20, {"read back": 120, "distinct": 110})
    assert faults_of(100, 20, {"read back": 121}) == ["1 items are doubled (read back: 121)"]
    assert faults_of(100, 20, {"read back": 99}) == ["1 of 100 acknowledged items are lost (read back: 99)"]
    # What was refused as a whole is no proof of anything.
    assert faults_of(0, 0, {"read back": 0}) == ["nothing was acknowledged"]
    # One lost and another doubled: the count is right, and that of the distinct ones is not.
    counts = {"read back": 100, "distinct": 99}
    assert faults_of(100, 0, counts) == ["1 of 100 acknowledged items are lost (distinct: 99)"]


def _results() -> Results:
    results = Results({"cores": "2"}, {})
    for repeat, figure in enumerate((500_000.0, 700_000.0, 650_000.0)):
        half = {"p50": 3.0, "p95": 60.0, "p99": 90.0}
        run = Run("AIRIS", "metrics", repeat, per_second=2 * figure, per_cpu_second=figure, half_peak_ms=half)
        run.bytes_per_item, run.peak_refused = 1.5, 0.25
        results.runs += [run, Run("Peer <1>", "metrics", repeat, per_second=figure, per_cpu_second=figure / 2)]
    return results


def test_goals_are_reached_missed_or_not_measured() -> None:
    found = {(each.what, each.goal): each.verdict for each in outcomes(_results())}
    assert found["metrics: points per server CPU-second", 600_000] == "reached"
    assert found["metrics: points per server CPU-second", 1_000_000] == "missed by 35 %"
    assert found["metrics: acknowledgement p95 at half the peak", 50.0] == "missed by 20 %"
    assert found["logs: lines per server CPU-second", 200_000] == "not measured"
    assert Outcome("x", "ms", 10.0, False, 45.0).verdict == "missed: 4.5 times"


def test_results_are_medians_with_their_spread_and_valid_json(tmp_path: Path) -> None:
    results = _results()
    row = results.row("metrics", "AIRIS")
    assert row is not None
    assert row.per_cpu_second == spread([500_000, 650_000, 700_000])
    assert row.per_cpu_second.median == 650_000
    results.write(tmp_path / "results.json", [])
    tree = json.loads((tmp_path / "results.json").read_text())
    assert tree["rows"][0]["per_cpu_second"] == {"median": 650_000, "lowest": 500_000, "highest": 700_000, "count": 3}
    assert tree["runs"][1]["bytes_per_item"] is None


def test_how_many_times_a_target_ours_is_stands_in_its_row(tmp_path: Path) -> None:
    results = _results()
    results.runs.append(Run("Jaeger", "traces", 0, per_second=5.0, per_cpu_second=5.0))
    results.write(tmp_path / "results.json", [])
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    ratios = {(row["signal"], row["target"]): (row["ours_wall"], row["ours_cpu"]) for row in rows}
    assert ratios == {
        ("metrics", "AIRIS"): (1.0, 1.0),
        ("metrics", "Peer <1>"): (2.0, 2.0),
        # Nothing of ours to compare it with.
        ("traces", "Jaeger"): (None, None),
    }


def test_bytes_of_tables_and_of_all_files_are_both_told(tmp_path: Path) -> None:
    results = _results()
    results.runs[0].files_per_item = 41.5
    out = io.StringIO()
    print_report(results, Console(file=out, width=250))
    header, row = (next(line for line in out.getvalue().splitlines() if word in line) for word in ("B/item", "AIRIS"))
    assert "all files" in header
    assert "1.5 (1.5 to 1.5)" in row
    assert "41.5" in row
    assert "<td class=n>41.5</td>" in page(results)
    results.write(tmp_path / "results.json", [])
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["files_per_item"]["median"] == 41.5


def test_a_failed_run_has_no_part_in_the_figures() -> None:
    results = _results()
    results.runs.append(Run("AIRIS", "metrics", 3, per_cpu_second=9e6, faults=["3 items are doubled"]))
    row = results.row("metrics", "AIRIS")
    assert row is not None
    assert (row.per_cpu_second.highest, row.per_cpu_second.count) == (700_000, 3)
    assert row.faults == ("3 items are doubled",)


def test_peers_that_ran_have_their_goals_and_parts_that_did_not_have_none() -> None:
    results = _results()
    assert not any(
        each.what.startswith(("calls", "start", "metrics: points per server CPU-second, of"))
        for each in outcomes(results)
    )
    for name, figure in (("VictoriaMetrics 1.150", 1_000_000.0), ("Prometheus 3.15", 325_000.0)):
        results.runs.append(Run(name, "metrics", 0, per_cpu_second=figure))
    found = {each.what: each.verdict for each in outcomes(results)}
    assert found["metrics: points per server CPU-second, of those of Prometheus 3.15"] == "reached"
    assert found["metrics: points per server CPU-second, of those of VictoriaMetrics 1.150"] == "missed by 35 %"


@pytest.mark.timeout(300)
def test_what_cannot_be_read_back_in_time_is_a_failed_run(tmp_path: Path) -> None:
    plan = Plan("logs", 0.5, 0.0, 0.0, settle_seconds=0.2, merge_seconds=0.0)
    with LoadGenerator("logs", base_before(time.time_ns()), processes=1) as load:
        run = IngestRun(_Counting("late", -1000), plan, load, 0, tmp_path).measure()
    assert run.faults[0] == "not all could be read back within 0 s"
    assert "are lost" in run.faults[1]


def test_data_is_not_put_where_a_sync_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {tmp_path / "disk": "ext4", tmp_path / "memory": "tmpfs"}
    mounts = [SimpleNamespace(mountpoint=str(folder), fstype=kind) for folder, kind in kinds.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    results = tmp_path / "results"
    for folder, expected in ((tmp_path / "disk", tmp_path / "disk"), (tmp_path / "memory", results / "work")):
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        assert work_folder(None, results) == expected
        assert expected.is_dir()
    assert work_folder(tmp_path / "memory" / "chosen", results) == tmp_path / "memory" / "chosen"


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    html = page(_results())
    assert "<svg" in html
    assert "Peer &lt;1&gt;" in html
    assert "Peer <1>" not in html
    assert "http" not in html.replace("http.", "")
    assert "missed by 35 %" in html
    assert "<td class=n>25 %</td>" in html


def test_start_and_queries_are_drawn_beside_their_goals() -> None:
    start = {"first_start_seconds": 8.0, "start_seconds": 4.0, "idle_memory_bytes": 2.0**30, "idle_cpu_percent": 2.0}
    figures = {"question": "rare <word>", "p50_ms": 26.0, "p95_ms": 37.0, "goal_ms": 7.0, "items": 1}
    queries = [{**figures, "place": place} for place in ("grpc", "rest")]
    html = page(Results({}, {}, start=[start, {**start, "start_seconds": 5.0}], queries=queries))
    charts = dict(zip(re.findall("<h3>(.*?)</h3>", html), re.findall("<svg.*?</svg>", html), strict=True))
    drawn = {title: (chart.count("<rect"), chart.count('class="goal"')) for title, chart in charts.items()}
    assert drawn == {
        "AIRIS, s": (2, 2),
        "AIRIS, MiB": (1, 1),
        "AIRIS, % of a core": (1, 1),
        "grpc: p50 in ms, and a line to p95": (1, 1),
        # The goal is over gRPC.
        "rest: p50 in ms, and a line to p95": (1, 0),
    }
    assert "4.5 (4 to 5)" in charts["AIRIS, s"]
    assert "rare &lt;word&gt;" in charts["grpc: p50 in ms, and a line to p95"]


def test_cpu_time_of_a_process_counts_with_its_children(tmp_path: Path) -> None:
    before = processes.cpu_seconds([os.getpid()])
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    assert processes.cpu_seconds([os.getpid()]) - before >= 0.03
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "a", tmp_path / "b")
    assert 10_000 <= processes.disk_bytes(tmp_path) <= 20_480


def test_memory_that_the_system_does_not_tell_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    monkeypatch.setattr(processes, "tree", list)
    for pid in ("1", "2"):
        (tmp_path / pid).mkdir()
    (tmp_path / "1" / "smaps_rollup").write_text("Rss:  8 kB\nPss:  4 kB\n")
    ended, untold = 3, 2
    assert processes.memory([1, ended]) == processes.Memory(8192, 4096)
    unknown = processes.memory([1, untold])
    assert math.isnan(unknown.rss)
    names = ("first_start_seconds", "start_seconds", "idle_cpu_percent")
    results = Results({}, {}, start=[{**dict.fromkeys(names, 1.0), "idle_memory_bytes": unknown.pss}])
    assert {each.what: each.verdict for each in outcomes(results)}["idle memory (PSS)"] == "not measured"


@pytest.mark.timeout(300)
def test_growth_fills_a_target_in_stages_and_finds_what_is_doubled() -> None:
    told: list[Stage] = []
    right, doubling = _Counting("right"), _Counting("doubling", 2)
    grown = grow(right, "logs", 32_000, told=told.append)
    assert [stage.items for stage in grown.stages] == [16_000, 32_000]
    assert grown.stages == told
    assert all(min(stage.per_cpu_second, stage.per_second, stage.p95_ms, stage.memory_bytes) > 0 for stage in told)
    assert (grown.errors, grown.faults, right.stopped) == ({}, [], 1)
    assert len(set(right.sent)) == len(right.sent) == 32
    assert grow(doubling, "logs", 16_000).faults == ["2 items are doubled (read back: 16002)"]


def test_growth_compares_the_last_tenth_with_the_first_but_for_the_very_first_stage() -> None:
    first, last = [100.0, 50.0] * 5, [80.0, 40.0] * 5
    stages = [Stage(n, figure, 1.0, 1.0, 1) for n, figure in enumerate([1.0, *first, *[1000.0] * 70, *last])]
    assert ratio(stages) == pytest.approx(0.8)
    assert ratio(stages[:1]) == 1.0
