"""A growth that is broken off keeps what it measured, and says before it starts what it takes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import growth
from bench.growth import Stage, grow, needs, ratio
from bench.load import LoadResult, Phase
from bench.target import Endpoint, TargetError, otlp_grpc


class _Load:
    """Stands in for the load generator: all that is sent is acknowledged."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, phase: Phase) -> LoadResult:
        sent = phase.requests or 0
        return LoadResult(sent * 1000, 0, 0, sent, {}, [0.01], 1.0, phase.first + sent, 0.0, 1)


class _Target:
    """Fails at its "start", the "endpoint" of the third stage, when it is asked what it "stored", or in its "audit"."""

    name = "failing"
    signals = frozenset({"logs"})
    stores = True

    def __init__(self, fails: str) -> None:
        self._fails, self._stages = fails, 0
        self.stopped = False

    def _may_fail(self, where: str) -> None:
        if where == self._fails:
            raise TargetError(f"{where} fails")

    def start(self, directory: Path) -> None:
        self._may_fail("start")

    def endpoint(self, signal: str) -> Endpoint:
        self._stages += 1
        if self._stages == 3:
            self._may_fail("endpoint")
        return otlp_grpc(signal, "127.0.0.1:1")

    def pids(self) -> list[int]:
        return [os.getpid()]

    def stored(self, signal: str) -> int:
        self._may_fail("stored")
        return self._stages * 16_000

    def disk_bytes(self) -> int:
        return 0

    def stop(self) -> None:
        self.stopped = True

    def audit(self, signal: str) -> Mapping[str, int]:
        self._may_fail("audit")
        return {"records": self._stages * 16_000}


@pytest.fixture(autouse=True)
def _no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "LoadGenerator", _Load)
    # It makes requests to look at, which takes longer than all the rest.
    monkeypatch.setattr(growth, "_hours", lambda signal, requests: 1.0)
    monkeypatch.setattr("bench.ingest._ANSWER_SECONDS", 0.0)


@pytest.mark.parametrize(("fails", "stages"), [("start", 0), ("endpoint", 2), ("stored", 3), ("audit", 3)])
def test_stages_before_a_failure_are_kept_and_the_run_has_failed(fails: str, stages: int, tmp_path: Path) -> None:
    told: list[Stage] = []
    target = _Target(fails)

    grown = grow(target, "logs", 48_000, tmp_path, told.append)

    assert grown.stages == told
    assert [stage.items for stage in grown.stages] == [16_000 * n for n in range(1, stages + 1)]
    assert grown.faults[0] == f"broken off: {fails} fails"
    assert target.stopped
    assert not list(tmp_path.iterdir())


def test_a_run_that_comes_to_its_end_has_no_faults(tmp_path: Path) -> None:
    assert grow(_Target("nowhere"), "logs", 48_000, tmp_path).faults == []


@pytest.mark.parametrize("fails", ["start", "endpoint"])
def test_a_run_that_is_broken_off_is_printed_and_written_and_ends_with_1(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "AirisTarget", lambda: _Target(fails))
    file = tmp_path / "growth.json"
    options = ["--signals", "logs", "--items", "48000", "--work-dir", str(tmp_path / "work"), "--json", str(file)]
    monkeypatch.setattr("sys.argv", ["growth", *options])

    assert growth.main() == 1

    document = json.loads(file.read_text())
    (written,) = document["signals"]
    assert document["environment"]["cores"]
    assert document["options"] == {"signals": ["logs"], "items": 48_000}
    assert not document["ok"]
    assert written["faults"][0] == f"broken off: {fails} fails"
    assert not written["ok"]
    printed = capsys.readouterr().out
    assert f"logs: broken off: {fails} fails" in printed
    assert printed.count("a CPU-second  ") == len(written["stages"])
    assert printed.index("GiB of disk") < printed.index("broken off")


def test_stages_in_which_nothing_was_acknowledged_have_no_ratio() -> None:
    assert math.isnan(ratio([]))
    nothing, some = Stage(0, 0.0, 0.0, math.nan, 1.0), Stage(1, 1.0, 1.0, 1.0, 1.0)
    assert math.isnan(ratio([nothing] * 3))
    assert math.isnan(ratio([some, some, nothing, some, some]))
    # One that takes nothing in the end is as bad as can be.
    assert ratio([some] * 30 + [nothing]) == 0.0


@pytest.mark.parametrize(("share", "is_fault"), [(0.89, True), (0.9, False)])
def test_a_run_of_which_much_was_not_acknowledged_has_not_come_to_its_end(
    share: float, is_fault: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged = int(16_000 * share)

    class _Refused(_Load):
        def run(self, phase: Phase) -> LoadResult:
            return replace(super().run(phase), acknowledged=acknowledged, refused=16_000 - acknowledged)

    monkeypatch.setattr(growth, "LoadGenerator", _Refused)
    target = _Target("nowhere")
    monkeypatch.setattr(target, "stored", lambda signal: 3 * acknowledged)
    monkeypatch.setattr(target, "audit", lambda signal: {})

    faults = grow(target, "logs", 48_000, tmp_path).faults

    assert faults == ([f"only {3 * acknowledged} of 48000 items were acknowledged"] if is_fault else [])


def _needed(*given: Any) -> str:
    return needs(*given, 2**30, 2.0)


def test_a_run_needs_the_disk_of_its_largest_signal_and_the_time_of_all() -> None:
    logs, both = _needed(["logs"], 10**8), _needed(["metrics", "logs"], 10**8)
    # 87 bytes a line, twice while parts are merged; 64,000 lines a CPU-second on two cores.
    assert logs == "needs up to 16.2 GiB of disk, of which 1.0 GiB are free, and some 0.2 hours"
    assert both == "needs up to 16.2 GiB of disk, of which 1.0 GiB are free, and some 0.3 hours"
    assert "0.9 GiB of disk" in _needed(["metrics"], 10**8)
