"""The data that queries are measured on is whole, or made anew."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from bench import queries
from bench.query_questions import Sizes

SIZES = Sizes(10_000, 100, 160, 1_790_000_000)


class _Children:
    """Stands in for the processes that load; `dies_at` is the load that does not end."""

    def __init__(self, dies_at: int = 0) -> None:
        self.loaded: list[str] = []
        self._dies_at = dies_at

    def __call__(self, target: Callable[..., Any], name: str, data_dir: Path, *_: object) -> list[Any]:
        if target is queries._load:
            (data_dir / name).mkdir()
            self.loaded.append(name)
            if len(self.loaded) == self._dies_at:
                raise BrokenProcessPool
        return []


def test_what_an_interrupted_load_left_is_removed_and_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = _Children(dies_at=2)
    monkeypatch.setattr(queries, "_in_child", children)

    with pytest.raises(BrokenProcessPool):
        queries.measure(tmp_path, SIZES, in_process=True)
    queries.measure(tmp_path, SIZES, in_process=True)
    queries.measure(tmp_path, SIZES, in_process=True)

    assert children.loaded == ["metrics", "logs", "metrics", "logs", "traces"]


def test_data_that_is_counted_otherwise_than_it_was_loaded_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Platform:
        pid = 1

        def __init__(self, *_: object, **__: object) -> None: ...

        def send_signal(self, number: int) -> None: ...

        def wait(self, within: float) -> None: ...

    def miscount(offset: int, sizes: Sizes) -> None:
        raise RuntimeError("one is lost")

    children = _Children()
    monkeypatch.setattr(queries, "_in_child", children)
    monkeypatch.setattr(queries, "_check_counts", miscount)
    monkeypatch.setattr(queries, "_wait_until_ready", lambda platform, log: None)
    monkeypatch.setattr(subprocess, "Popen", Platform)

    with pytest.raises(RuntimeError, match="one is lost"):
        queries.measure(tmp_path, SIZES)
    queries.measure(tmp_path, SIZES, in_process=True)

    assert children.loaded == ["metrics", "logs", "traces"] * 2


def test_a_child_that_is_killed_is_an_error_and_not_waited_for() -> None:
    with pytest.raises(BrokenProcessPool):
        queries._in_child(os._exit, 1)
