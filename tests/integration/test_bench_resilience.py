"""What `make bench-resilience` runs, with a few calls: it must not rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_comparison_of_the_benchmark_runs() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "bench.resilience", "--rounds", "1", "--calls", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    lines = made.stdout.splitlines()
    for name in ("client alone, aio", "client alone, blocking", "server alone: auth, every call traced"):
        assert any(line.startswith(name) for line in lines), made.stdout
