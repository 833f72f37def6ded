"""A bucket of tokens: exact, lazy, and not to be fooled by its clock."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from fakes.clock import FakeClock

from resilience.token_bucket import TokenBucket


def test_it_begins_full_and_gives_the_burst_at_once() -> None:
    bucket = TokenBucket(10, 5, FakeClock())

    assert [bucket.take() for _ in range(5)] == [0.0] * 5
    assert bucket.take() > 0


def test_a_refusal_says_when_the_token_comes_and_then_it_is_there() -> None:
    clock = FakeClock()
    bucket = TokenBucket(3, 1, clock)
    bucket.take()

    wait = bucket.take()

    assert wait == pytest.approx(1 / 3, abs=1e-6)
    clock.advance(wait - 0.000_01)
    assert bucket.take() > 0
    clock.advance(0.000_01)
    assert bucket.take() == 0.0


def test_several_tokens_are_taken_all_or_none() -> None:
    clock = FakeClock()
    bucket = TokenBucket(1, 10, clock)
    bucket.take(8)

    assert bucket.take(5) == 3.0
    assert bucket.available() == 2
    clock.advance(3)
    assert bucket.take(5) == 0.0
    assert bucket.available() == 0


def test_nothing_is_lost_or_won_by_rounding_in_a_million_steps() -> None:
    clock = FakeClock(0)
    bucket = TokenBucket(0.1, 1_000_000, clock)
    bucket.take(1_000_000)
    taken = 0

    for step in range(1, 100_001):
        # Steps of a length that no binary fraction has.
        clock.now = step * 0.7
        taken += bucket.take() == 0.0

    assert taken == int(Fraction("0.1") * Fraction("0.7") * 100_000)


def test_it_holds_no_more_than_the_burst_however_long_it_waits() -> None:
    clock = FakeClock()
    bucket = TokenBucket(100, 3, clock)
    clock.advance(10_000)

    assert bucket.available() == 3
    assert [bucket.take() == 0.0 for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_neither_adds_nor_takes() -> None:
    clock = FakeClock()
    bucket = TokenBucket(1, 2, clock)
    bucket.take(2)
    clock.advance(1)
    assert bucket.available() == 1

    before = clock.now
    clock.now = before - 100
    assert bucket.available() == 1
    clock.now = before
    assert bucket.available() == 1, "the time that was gone through twice counts once"
    clock.advance(1)
    assert bucket.available() == 2


def test_threads_together_get_what_one_would() -> None:
    bucket = TokenBucket(1, 1_000, FakeClock())
    taken: list[int] = []

    def take() -> None:
        taken.append(sum(bucket.take() == 0.0 for _ in range(500)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == 1_000


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (float("inf"), 1), (float("nan"), 1), (1, 0)])
def test_settings_out_of_range_are_refused(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(per_second, burst)


@pytest.mark.parametrize("tokens", [0, -1, 6])
def test_a_take_that_can_never_succeed_is_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match="tokens must be 1 to 5"):
        TokenBucket(1, 5).take(tokens)
