"""Each long run leaves its figures behind, without being asked."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import availability, growth, overload, soak
from bench.growth import Growth
from bench.overload_goals import Verdict


class _Platform:
    """Starts nothing."""

    def __init__(self, _folder: Path, *_: str) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def _soak(*_: object) -> dict[str, Any]:
    memory = {"first": 1.0, "last": 1.0, "most": 1.0, "growth": 0.0, "between_thirds": 0.0}
    call = {"calls": 1, "failed": 0, "p95": 0.2, "promised_p95": 0.1, "p95_by_thirds": [0.2], "late_p95": 0.0}
    calls = {soak.kinds(service)[1].name: call for service in soak.SERVICES}
    return {"calls": calls, "memory": {}, "total": memory, "failed_share": 0.0, "faults": []}


async def _availability(*_: object) -> dict[str, Any]:
    return {"clients": {}, "canary": {"signals": []}, "kills": [], "ok": False}


def _overload(*_: object, **__: object) -> list[Verdict]:
    figures = {field.name: 1.0 for field in dataclasses.fields(Verdict)}
    return [Verdict(**{**figures, "name": "logs IngestLogs", "refused": {}, "faults": ()})]  # type: ignore[arg-type]


def _growth(*_: object) -> Growth:
    return Growth("logs", [], 0.5, {}, [])


@pytest.mark.parametrize(
    ("program", "name", "measure"),
    [
        (overload, "measure", _overload),
        (soak, "soak", _soak),
        (availability, "run", _availability),
        (growth, "grow", _growth),
    ],
)
def test_a_run_writes_its_figures_where_results_go(
    program: ModuleType, name: str, measure: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(program, name, measure)
    monkeypatch.setattr(program, "Platform", _Platform, raising=False)
    monkeypatch.setattr(soak, "lost_or_doubled", lambda *_: [])
    monkeypatch.setattr(overload, "_own_core", set)
    monkeypatch.setattr(sys, "argv", ["measure"])

    assert program.main() == 1

    written = tmp_path / "results" / f"{program.__name__.removeprefix('bench.')}.json"
    found = json.loads(written.read_text())
    assert found["ok"] is False
