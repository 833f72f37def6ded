"""`python -m bench` starts the platform, loads it, and finds every item once: by query and in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from platform_process import ROOT

from bench.__main__ import PARTS, main

INGESTION = ("metrics", "logs", "traces")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", INGESTION)
def test_a_quick_benchmark_runs_and_nothing_is_lost_or_doubled(part: str, tmp_path: Path) -> None:
    code = main(["--quick", "--only", part, "--targets", "airis", "--results", str(tmp_path)])
    tree = json.loads((tmp_path / "results.json").read_text())
    (run,) = tree["runs"]
    assert run["faults"] == [], run["output"]
    assert code == 0
    assert run["acknowledged"] > 0
    assert all(count >= run["acknowledged"] for count in run["audit"].values())
    assert "<svg" in (tmp_path / "results.html").read_text()


@pytest.mark.timeout(900)
def test_all_other_parts_run_wherever_results_go(tmp_path: Path) -> None:
    others = ",".join(part for part in PARTS if part not in INGESTION)
    command = [sys.executable, "-m", "bench", "--quick", "--only", others, "--targets", "airis", "--results", "here"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as bench:
        try:
            output, _ = bench.communicate(timeout=800)
        except subprocess.TimeoutExpired:
            # It stops what it has started.
            bench.terminate()
            raise
    assert bench.returncode == 0, output[-4000:]
    tree = json.loads((tmp_path / "here" / "results.json").read_text())
    assert {run["signal"] for run in tree["runs"]} == {"new series", "1M series", "calls"}
    assert tree["start"]
    assert tree["journal"]
    assert {figure["place"] for figure in tree["queries"]} == {"engine", "service", "grpc", "rest"}
