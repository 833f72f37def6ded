"""The soak's verdict on memory, and on processes that ended."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from overload_load import Call

from bench import soak
from bench.overload_traffic import SERVICES, kinds
from bench.processes import Memory
from bench.soak import Samples, between_thirds, goals, growth, restarted, since_due, stored_after, total


def test_memory_that_stays_does_not_grow_and_a_warm_up_does_not_count() -> None:
    warm = [(float(at), 100.0 + min(at, 30) * 10) for at in range(100)]
    assert growth(warm) == pytest.approx(0.0)


def test_memory_that_rises_grows_from_end_to_end_of_the_second_half() -> None:
    rising = [(float(at), 100.0 + at) for at in range(101)]
    assert growth(rising) == pytest.approx(200 / 150 - 1)


def test_the_last_third_is_held_against_the_first_by_medians() -> None:
    rising = [(float(at), 100.0 + at) for at in range(91)]
    # What a merge takes for a moment is not typical.
    rising[80] = (80.0, 9000.0)
    assert between_thirds(rising) == pytest.approx(175 / 115 - 1)


def kept() -> dict[str, Any]:
    """Figures of a soak that keeps all that is promised."""
    calls = {
        name: {"p95": 0.1, "promised_p95": 0.1, "late_p95": 0.1}
        for name in ("metrics IngestMetrics", "logs IngestLogs")
    }
    return {"calls": calls, "total": {"growth": 0.05}, "failed_share": 0.001, "faults": []}


def test_a_soak_that_keeps_all_that_is_promised_is_met() -> None:
    assert all(is_met for _, is_met in goals(kept()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"total": {"growth": 0.06}}, "memory grows by 5% at most in the second half: +6.0%"),
        ({"failed_share": 0.002}, "0.1% of the calls fail at most: 0.200%"),
        ({"faults": ["metrics: 1 items are doubled"]}, "no process ends, and each acknowledged item is stored once"),
        (
            {"calls": {"logs IngestLogs": {"p95": 0.7, "promised_p95": 0.1, "late_p95": 0.0}}},
            "p95 of logs IngestLogs is 100 ms at most: 700 ms",
        ),
        (
            {"calls": {"logs IngestLogs": {"p95": 0.1, "promised_p95": 0.1, "late_p95": 0.2}}},
            "p95 of logs IngestLogs is shown: sent 100 ms late at most: 200 ms (p95)",
        ),
    ],
)
def test_each_promise_that_a_soak_breaks_is_told(change: dict[str, Any], told: str) -> None:
    assert [text for text, is_met in goals({**kept(), **change}) if not is_met] == [told]


def test_what_is_promised_of_a_soaks_calls_is_the_contracts() -> None:
    assert [kinds(service)[1].latency_p95 for service in SERVICES] == [0.1, 0.1, 0.1]


def test_a_call_takes_as_long_as_its_user_waits_from_when_it_was_due() -> None:
    (waited,) = since_due([Call("", 1.0, 0.25, "OK", None, late=0.5)])
    assert (waited.at, waited.seconds) == (1.0, 0.75)


def test_a_few_samples_say_nothing() -> None:
    assert growth([(0.0, 1.0), (1.0, 100.0)]) == 0.0


def test_processes_are_added_up_sample_by_sample() -> None:
    assert total({"a": [(0.0, 1.0), (5.0, 2.0)], "b": [(0.1, 10.0), (5.1, 20.0), (10.1, 30.0)]}) == [
        (0.0, 11.0),
        (5.0, 22.0),
    ]


class _Platform:
    """Has a supervisor, and a process that has ended."""

    def __init__(self) -> None:
        self.process = SimpleNamespace(pid=os.getppid())
        self.was_asked_twice = threading.Event()
        self._asked = 0

    def state(self) -> dict[str, dict[str, Any]]:
        self._asked += 1
        if self._asked == 2:
            self.was_asked_twice.set()
        return {"metrics": {"pid": None}, "logs": {"pid": os.getpid()}}


def test_the_supervisor_has_memory_of_its_own_and_a_process_that_has_ended_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def memory(pids: list[int], *, descendants: bool = True) -> Memory:
        # What the supervisor started is counted by its own names.
        assert descendants is (pids != [os.getppid()])
        return Memory(0.0, pids[0] * 2**20)

    monkeypatch.setattr(soak, "_SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr(soak, "memory", memory)
    platform = _Platform()
    samples = Samples(platform)  # type: ignore[arg-type]
    assert platform.was_asked_twice.wait(10)
    found = samples.end()
    assert {name: each[0][1] for name, each in found.items()} == {"logs": os.getpid(), "supervisor": os.getppid()}


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
