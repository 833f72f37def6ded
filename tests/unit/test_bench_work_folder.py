"""No long run keeps its data in memory, where a sync costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import availability, growth, overload, soak


class StartedError(Exception):
    """What is to be measured would start now."""


def _platform(folder: Path, *_: str) -> None:
    raise StartedError(folder.parent)


@contextmanager
def _alone(service: str, folder: Path) -> Iterator[None]:
    raise StartedError(folder.parent)
    yield


def _grow(target: object, signal: str, items: int, work: Path, told: object) -> None:
    raise StartedError(work)


@pytest.mark.usefixtures("temporary_files_in_memory")
@pytest.mark.parametrize(
    ("program", "name", "start"),
    [
        (soak, "Platform", _platform),
        (availability, "Platform", _platform),
        (overload, "alone", _alone),
        (growth, "grow", _grow),
    ],
)
def test_data_lies_on_a_disk_though_temporary_files_are_in_memory(
    program: ModuleType, name: str, start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(program, name, start)
    monkeypatch.setattr(overload, "_own_core", set)
    monkeypatch.setattr(sys, "argv", ["measure"])

    with pytest.raises(StartedError) as started:
        program.main()

    assert started.value.args == (tmp_path / "results" / "work",)
    assert not list((tmp_path / "memory").iterdir())
