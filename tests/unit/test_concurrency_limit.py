"""The adaptive limit, rule by rule, and under overload on virtual time: 8 workers and 10 ms a call, so 800 a second."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest
from fakes.clock import FakeClock
from fakes.queueing_server import Arrival, Ended, poisson, simulate

from resilience.concurrency_limit import ConcurrencyLimit
from resilience.errors import OverloadedError
from resilience.events import Event
from resilience.policy import Chain

CAPACITY = 800.0
SERVICE = 0.010


def make(clock: FakeClock, *, initial: int = 20, minimum: int = 4, maximum: int = 500) -> ConcurrencyLimit:
    return ConcurrencyLimit(
        "server",
        initial=initial,
        minimum=minimum,
        maximum=maximum,
        clock=clock,
        uniform=lambda low, high: (low + high) / 2,
    )


def batch(limit: ConcurrencyLimit, clock: FakeClock, calls: int, seconds: float, dropped: int = 0) -> None:
    """So many calls at once, of which each takes so long."""
    started = [limit.start() for _ in range(calls)]
    clock.advance(seconds)
    for number, start in enumerate(started):
        limit.finish(start, dropped=number < dropped)


class Run:
    """Plays load against a limit and keeps what became of the calls and how the limit went."""

    def __init__(
        self,
        *loads: tuple[float, float, float],
        service: Callable[[random.Random], float] = lambda dice: SERVICE,
        workers: Callable[[float], int] = lambda now: 8,
        patience: float = math.inf,
        initial: int = 20,
    ) -> None:
        dice = random.Random(7)
        clock = FakeClock(0)
        self.limit = limit = make(clock, initial=initial)
        self.limits: list[tuple[float, int]] = []

        def arrivals() -> Iterator[Arrival]:
            for rate, begin, end in loads:
                yield from poisson(rate, begin, end, lambda: service(dice), dice)

        def enter(arrival: Arrival) -> float | None:
            self.limits.append((arrival.at, limit.limit))
            try:
                return limit.start()
            except OverloadedError:
                return None

        self.ended = simulate(arrivals(), clock, enter, limit.finish, workers, patience)

    def between(self, begin: float, end: float) -> list[Ended]:
        return [call for call in self.ended if begin <= call.arrival.at < end]

    def goodput(self, begin: float, end: float) -> float:
        """Calls a second that were answered in time."""
        answered = [call for call in self.between(begin, end) if call.latency is not None and not call.late]
        return len(answered) / (end - begin)

    def refused(self, begin: float, end: float) -> float:
        calls = self.between(begin, end)
        return sum(call.latency is None for call in calls) / len(calls)

    def p95(self, begin: float, end: float) -> float:
        latencies = sorted(call.latency for call in self.between(begin, end) if call.latency is not None)
        return latencies[int(len(latencies) * 0.95)]

    def least_limit(self, begin: float, end: float) -> int:
        return min(limit for at, limit in self.limits if begin <= at < end)


def test_calls_beyond_the_limit_are_refused_until_one_ends() -> None:
    limit = make(FakeClock(), initial=4)
    started = [limit.start() for _ in range(4)]

    with pytest.raises(OverloadedError, match="server has as many calls as it can answer") as refusal:
        limit.start()

    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after > 0
    assert (limit.in_flight, limit.limit) == (4, 4)
    limit.finish(started[0])
    limit.start()
    assert limit.snapshot().rejected == 1


def test_a_share_leaves_the_rest_to_others() -> None:
    limit = make(FakeClock(), initial=10)
    for _ in range(8):
        limit.start(0.8)

    assert limit.try_start(0.8) is None
    assert limit.try_start(0.95) is not None
    assert limit.try_start(0.95) is not None
    assert limit.try_start(0.95) is None
    assert limit.try_start(1.5) is not None


def test_a_refusal_is_an_event() -> None:
    limit = make(FakeClock(), initial=4)
    events: list[Event] = []
    limit.events.subscribe(events.append)
    for _ in range(4):
        limit.start()

    with pytest.raises(OverloadedError):
        limit.start()

    assert [(event.policy, event.name, event.kind) for event in events] == [("concurrency_limit", "server", "rejected")]
    assert events[0].attributes["limit"] == 4


def test_it_grows_to_its_maximum_while_calls_take_no_longer() -> None:
    clock = FakeClock()
    limit = make(clock, initial=10, maximum=40)

    for _ in range(300):
        batch(limit, clock, limit.limit, 0.1)

    assert limit.limit == 40


def test_it_does_not_grow_while_it_is_not_used() -> None:
    clock = FakeClock()
    limit = make(clock, initial=20)

    for _ in range(300):
        batch(limit, clock, 9, 0.1)

    assert limit.limit == 20


def test_calls_that_are_dropped_shrink_it_down_to_its_minimum() -> None:
    clock = FakeClock()
    limit = make(clock, initial=40, minimum=5)

    for _ in range(200):
        batch(limit, clock, 5, 1.0, dropped=5)

    assert limit.limit == 5


def test_seldom_drops_do_not_wear_it_down() -> None:
    clock = FakeClock()
    limit = make(clock, initial=20, maximum=100)

    for _ in range(300):
        batch(limit, clock, limit.limit, 0.1, dropped=1)

    assert limit.limit >= 20


def test_calls_that_their_callers_gave_up_say_nothing() -> None:
    clock = FakeClock()
    limit = make(clock, initial=20)
    for _ in range(10):
        batch(limit, clock, 20, 0.1)
    before = limit.snapshot()

    for _ in range(100):
        started = [limit.start() for _ in range(20)]
        clock.advance(5)
        for start in started:
            limit.finish(start, observed=False)

    assert limit.snapshot() == before


@pytest.mark.parametrize(
    ("initial", "minimum", "maximum"), [(10, 0, 20), (10, 11, 20), (10, 1, 9)], ids=["zero", "below", "above"]
)
def test_bounds_that_contradict_each_other_are_refused(initial: int, minimum: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="minimum <= initial <= maximum"):
        ConcurrencyLimit("server", initial=initial, minimum=minimum, maximum=maximum)


async def test_as_a_policy_it_gives_the_place_back_however_the_operation_ends() -> None:
    limit = make(FakeClock(), initial=4)

    async def fail() -> None:
        assert limit.in_flight == 1
        raise TimeoutError

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(TimeoutError):
        await Chain(limit).run(fail)
    with pytest.raises(KeyboardInterrupt):
        Chain(limit).run_sync(interrupt)
    assert Chain(limit).run_sync(lambda: limit.in_flight) == 1
    assert limit.in_flight == 0


def test_at_its_capacity_a_server_answers_nearly_all() -> None:
    run = Run((CAPACITY, 0, 30))

    assert run.goodput(0, 30) >= 0.9 * CAPACITY
    assert run.p95(0, 30) <= 5 * SERVICE


def test_under_three_times_the_load_goodput_stays_and_latency_is_bounded_by_three_times_the_service_time() -> None:
    run = Run((CAPACITY, 0, 10), (3 * CAPACITY, 10, 60))

    assert run.goodput(10, 60) >= 0.9 * CAPACITY
    assert run.goodput(10, 12) >= 0.9 * CAPACITY, "from the first seconds on"
    assert run.p95(12, 60) <= 3 * SERVICE


def test_without_the_limit_the_same_overload_answers_nobody_in_time() -> None:
    # What the other tests are worth: the simulated server does collapse when nothing protects it.
    dice = random.Random(7)
    clock = FakeClock(0)
    arrivals = poisson(3 * CAPACITY, 0, 20, lambda: SERVICE, dice)

    ended = simulate(arrivals, clock, lambda arrival: clock.now, lambda started, late: None, patience=1.0)

    assert sum(not call.late for call in ended) / 20 <= 0.1 * CAPACITY


def test_a_long_overload_does_not_let_the_limit_run_away() -> None:
    run = Run((3 * CAPACITY, 0, 120))

    assert run.p95(100, 120) <= 3 * SERVICE
    assert run.goodput(100, 120) >= 0.9 * CAPACITY


def test_a_start_in_the_midst_of_overload_with_far_too_high_a_limit_settles_within_ten_seconds() -> None:
    run = Run((3 * CAPACITY, 0, 30), initial=400)

    assert run.p95(10, 30) <= 3 * SERVICE
    assert run.goodput(0, 30) >= 0.9 * CAPACITY


def test_after_the_overload_nobody_is_refused_two_seconds_later() -> None:
    run = Run((3 * CAPACITY, 0, 20), (0.75 * CAPACITY, 20, 40))

    assert run.refused(22, 40) <= 0.01
    assert run.p95(22, 40) <= 3 * SERVICE


def test_a_server_that_loses_most_workers_and_gets_them_back_is_used_fully_within_three_seconds() -> None:
    run = Run(
        (0.75 * CAPACITY, 0, 40),
        workers=lambda now: 1 if 10 <= now < 20 else 8,
        patience=5 * SERVICE,
    )

    assert run.p95(16, 20) <= 6 * SERVICE, "what the one worker is given, it answers"
    assert run.goodput(16, 20) >= 0.9 * CAPACITY / 8
    assert run.goodput(23, 40) >= 0.95 * 0.75 * CAPACITY


def test_fast_and_slow_methods_that_share_it_do_not_wear_it_down() -> None:
    # 2 ms and 82 ms, 10 ms in the mean: no latency is typical, and chance makes windows differ by half.
    run = Run(
        (0.75 * CAPACITY, 0, 60),
        (3 * CAPACITY, 60, 120),
        service=lambda dice: 0.002 if dice.random() < 0.9 else 0.082,
    )

    assert run.goodput(0, 60) >= 0.9 * 0.75 * CAPACITY
    assert run.goodput(60, 120) >= 0.9 * CAPACITY
    assert run.least_limit(2, 120) >= 8, "every worker has something to do"


def test_work_that_becomes_five_times_slower_is_not_taken_for_a_queue() -> None:
    clock_of_shift = 20.0
    dice = random.Random(7)
    clock = FakeClock(0)
    limit = make(clock)
    arrivals = (
        Arrival(call.at, SERVICE * (5 if call.at > clock_of_shift else 1))
        for call in poisson(3 * CAPACITY, 0, 60, lambda: SERVICE, dice)
    )

    ended = simulate(arrivals, clock, lambda arrival: limit.try_start(), limit.finish)

    answered = [call for call in ended if call.latency is not None and call.arrival.at >= clock_of_shift + 5]
    assert len(answered) / 35 >= 0.9 * CAPACITY / 5
    assert max(call.latency for call in answered if call.latency is not None) <= 5 * 5 * SERVICE


def test_only_calls_that_are_late_shrink_it_below_its_minimum_and_it_recovers() -> None:
    clock = FakeClock(0)
    limit = ConcurrencyLimit("server", initial=64, minimum=64, maximum=200, least=8, clock=clock)
    batch(limit, clock, 64, 0.01)
    for _ in range(30):
        batch(limit, clock, limit.limit // 2, 0.2)
    assert 64 <= limit.limit < 70
    for _ in range(60):
        batch(limit, clock, limit.limit // 2, 0.2, dropped=limit.limit // 4)
    assert 8 <= limit.limit < 32
    for _ in range(400):
        batch(limit, clock, limit.limit // 2 + 1, 0.2)
    assert limit.limit >= 64


def test_a_callee_far_too_slow_for_the_limit_is_seen_before_a_generation_of_calls_has_ended() -> None:
    clock = FakeClock(0)
    limit = make(clock, initial=128, minimum=4)
    batch(limit, clock, 128, 0.05)
    before = limit.limit
    started = [limit.start() for _ in range(120)]
    for call in started[:30]:
        clock.advance(0.1)
        limit.finish(call)
    assert limit.limit < before
