"""The soak's verdict on memory, and on processes that ended."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import soak
from bench.overload_traffic import SERVICES
from bench.soak import Samples, growth, restarted, stored_after, total


def test_memory_that_stays_does_not_grow_and_a_warm_up_does_not_count() -> None:
    warm = [(float(at), 100.0 + min(at, 30) * 10) for at in range(100)]
    assert growth(warm) == pytest.approx(0.0)


def test_memory_that_rises_grows_from_end_to_end_of_the_second_half() -> None:
    rising = [(float(at), 100.0 + at) for at in range(101)]
    assert growth(rising) == pytest.approx(200 / 150 - 1)


def test_a_few_samples_say_nothing() -> None:
    assert growth([(0.0, 1.0), (1.0, 100.0)]) == 0.0


def test_processes_are_added_up_sample_by_sample() -> None:
    assert total({"a": [(0.0, 1.0), (5.0, 2.0)], "b": [(0.1, 10.0), (5.1, 20.0), (10.1, 30.0)]}) == [
        (0.0, 11.0),
        (5.0, 22.0),
    ]


class _Platform:
    """Has a process that has ended."""

    def __init__(self) -> None:
        self.was_asked_twice = threading.Event()
        self._asked = 0

    def state(self) -> dict[str, dict[str, Any]]:
        self._asked += 1
        if self._asked == 2:
            self.was_asked_twice.set()
        return {"metrics": {"pid": None}, "logs": {"pid": os.getpid()}}


def test_a_process_that_has_ended_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_SAMPLE_SECONDS", 0.01)
    platform = _Platform()
    samples = Samples(platform)  # type: ignore[arg-type]
    assert platform.was_asked_twice.wait(10)
    assert set(samples.end()) == {"logs"}


def test_a_process_that_ended_is_told() -> None:
    state = {
        "metrics": {"pid": 7, "restarts": 0},
        "logs": {"pid": 8, "restarts": 2},
        "traces": {"pid": None, "restarts": 0},
    }
    assert restarted(state) == [
        "logs ended: started again 2 times, runs",
        "traces ended: started again 0 times, does not run",
    ]


def test_no_signal_waits_until_another_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(len(SERVICES), timeout=10)

    def store_all(service: str, target: str) -> float:
        together.wait()
        return float(len(service))

    monkeypatch.setattr(soak, "store_all", store_all)
    assert stored_after("edge") == {service: len(service) for service in SERVICES}
