"""The matrix of faults names tests that exist, and no fault has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATRIX = (ROOT / "docs" / "faults.md").read_text()
ROWS = [line for line in MATRIX.splitlines() if line.startswith("| ") and not line.startswith("| Fault |")]
NAMED = sorted(set(re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", MATRIX)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_matrix_names_exists(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_fault_has_a_test(row: str) -> None:
    assert "::test_" in row


def test_every_test_of_a_fault_is_in_the_matrix() -> None:
    there = {
        (str(file.relative_to(ROOT)), test)
        for file in (ROOT / "tests" / "faults").glob("test_*.py")
        for test in re.findall(r"^async def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert there <= set(NAMED)
