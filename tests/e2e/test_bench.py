"""`python -m bench` starts the platform, loads it, and finds every item once: by query and in the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", ["metrics", "logs", "traces"])
def test_a_quick_benchmark_runs_and_nothing_is_lost_or_doubled(part: str, tmp_path: Path) -> None:
    code = main(["--quick", "--only", part, "--targets", "airis", "--results", str(tmp_path)])
    tree = json.loads((tmp_path / "results.json").read_text())
    (run,) = tree["runs"]
    assert run["faults"] == [], run["output"]
    assert code == 0
    assert run["acknowledged"] > 0
    assert all(count >= run["acknowledged"] for count in run["audit"].values())
    assert "<svg" in (tmp_path / "results.html").read_text()
