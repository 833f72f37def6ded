"""The seed of a run, and its matrix at the end."""

from __future__ import annotations

import os
import random
import secrets

import pytest
from faults.matrix import MATRIX

from bench.folders import RESULTS, work_folder

SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1_000_000))


def pytest_configure() -> None:
    """Where temporary files are in memory, data lies beside the results of benchmarks: a sync of nothing is no sync."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(work_folder(None, RESULTS)))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Where a test takes its victims, moments and points from: the same for the same seed, whatever else runs."""
    return random.Random(f"{SEED}:{request.node.name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what was found, and how to have it again."""
    if MATRIX.rows:
        terminalreporter.section("faults")
        for line in MATRIX.lines():
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"The same again: make faults SEED={SEED}")
