"""The programs of docs/resilience.md run as they stand there, and print what stands under them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", (ROOT / "docs/resilience.md").read_text(), re.DOTALL)
ALONE = [program for program, _ in PROGRAMS if "grpc" not in program]


def run(program: str) -> str:
    """What a program prints, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("program", "printed"), PROGRAMS, ids=["asyncio", "threads", "grpc client", "grpc server"])
def test_a_program_of_the_page_prints_what_stands_under_it(program: str, printed: str) -> None:
    assert run(program) == printed


def test_every_program_of_the_page_is_run() -> None:
    assert (ROOT / "docs/resilience.md").read_text().count("```python") == len(PROGRAMS)


@pytest.mark.parametrize("program", ALONE, ids=["asyncio", "threads"])
def test_the_library_alone_takes_twenty_lines_of_program(program: str) -> None:
    assert len([line for line in program.splitlines() if line.strip()]) <= 20


def test_the_library_alone_brings_no_grpc_protobuf_or_opentelemetry() -> None:
    heavy = ("grpc", "google", "airis", "opentelemetry", "redis", "services")
    printed = run(f"import sys, resilience; print([name for name in {heavy!r} if name in sys.modules])")
    assert printed == "[]\n"
