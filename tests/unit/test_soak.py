"""The soak's verdict on memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from overload_load import Call

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.soak import growth, items, total


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


def test_a_refused_batch_is_not_stored_and_one_without_an_answer_may_be() -> None:
    calls = [Call("", 0.0, 0.1, code, None) for code in ("OK", "OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")]
    assert items(calls, further=1) == {"acknowledged": 2001, "unknown": 1000}
