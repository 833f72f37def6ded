"""Repeats stay a fixed share of calls, whatever happens."""

from __future__ import annotations

import threading

import pytest
from fakes.clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.retry_budget import RetryBudget


def drain(budget: RetryBudget) -> int:
    """Takes all that is there."""
    taken = 0
    while budget.withdraw():
        taken += 1
    return taken


def test_the_reserve_is_there_from_the_beginning() -> None:
    assert drain(RetryBudget(reserve=10, clock=FakeClock())) == 10


def test_ten_calls_allow_one_repeat() -> None:
    budget = RetryBudget(ratio=0.1, reserve=10, clock=FakeClock())
    drain(budget)
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_a_long_calm_saves_no_more_than_the_reserve() -> None:
    budget = RetryBudget(ratio=0.1, reserve=10, clock=FakeClock())
    for _ in range(10_000):
        budget.deposit()
    assert drain(budget) == 10


def test_without_a_reserve_calls_earn_repeats_all_the_same() -> None:
    budget = RetryBudget(ratio=0.5, reserve=0, clock=FakeClock())
    assert drain(budget) == 0
    for _ in range(10):
        budget.deposit()
    assert drain(budget) == 1


def test_a_caller_that_was_silent_begins_with_the_whole_reserve() -> None:
    clock = FakeClock()
    budget = RetryBudget(ratio=0.1, reserve=10, clock=clock, rest=60)
    drain(budget)
    clock.advance(59)
    budget.deposit()
    assert drain(budget) == 0
    clock.advance(60)
    budget.deposit()
    assert drain(budget) == 10


@pytest.mark.parametrize(("calls", "interval"), [(100, 1.0), (10_000, 0.01), (10_000, 0.0)])
def test_a_full_outage_is_met_with_a_tenth_more_at_any_rate(calls: int, interval: float) -> None:
    clock = FakeClock()
    budget = RetryBudget(clock=clock)
    repeats = 0
    for _ in range(calls):
        clock.advance(interval)
        budget.deposit()
        repeats += sum(budget.withdraw() for _ in range(3))
    # The first call finds the bucket full.
    assert repeats == calls // 10 + 10 - 1


@settings(max_examples=150)
@given(
    actions=st.lists(st.sampled_from(["call", "repeat"]), max_size=300),
    ratio=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    reserve=st.integers(1, 5),
)
def test_in_any_stretch_repeats_are_at_most_the_reserve_and_the_share(
    actions: list[str], ratio: float, reserve: int
) -> None:
    budget = RetryBudget(ratio=ratio, reserve=reserve, clock=FakeClock())
    # Repeats above the share, since when that was lowest: the worst stretch that ends here.
    above = 0.0
    for action in actions:
        if action == "call":
            budget.deposit()
            above = max(0.0, above - ratio)
        elif budget.withdraw():
            above += 1
        assert above <= reserve + 1e-9
    assert 0 <= budget.snapshot().tokens <= reserve


def test_threads_never_take_more_than_there_is() -> None:
    budget = RetryBudget(ratio=0.1, reserve=50, clock=FakeClock())
    taken: list[int] = []
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        count = 0
        for _ in range(1_000):
            budget.deposit()
            count += sum(budget.withdraw() for _ in range(2))
        taken.append(count)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    snapshot = budget.snapshot()
    # All that came in went out; what a full bucket could not hold was never there.
    assert sum(taken) == snapshot.withdrawals <= 50 + 800
    assert snapshot.deposits == 8_000
    assert snapshot.withdrawals + snapshot.refusals == 16_000
    assert 0 <= snapshot.tokens < 1


@pytest.mark.parametrize("wrong", [{"ratio": -0.1}, {"reserve": -1}, {"rest": -1}])
def test_negative_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        RetryBudget(**wrong)
