"""Who is let in when not all can be: bulk waits, people hardly notice, and who handles the incident gets through."""

from __future__ import annotations

import random
from heapq import merge

import pytest
from fakes.clock import FakeClock
from fakes.queueing_server import Arrival, Ended, poisson, simulate

from resilience.admission import Admission
from resilience.concurrency_limit import ConcurrencyLimit
from resilience.errors import OverloadedError
from resilience.events import Event
from resilience.policy import Chain

CRITICAL, INTERACTIVE, BULK = 1, 2, 3
CAPACITY = 800.0
SERVICE = 0.010


def make(clock: FakeClock, initial: int = 20) -> Admission:
    limit = ConcurrencyLimit(
        "server", initial=initial, minimum=4, maximum=500, clock=clock, uniform=lambda low, high: (low + high) / 2
    )
    return Admission("server", limit)


def fill(admission: Admission, priority: int) -> int:
    """How many more calls are let in."""
    entered = 0
    try:
        while True:
            admission.enter(priority)
            entered += 1
    except OverloadedError:
        return entered


def test_bulk_fills_four_fifths_interactive_a_little_more_and_critical_what_it_needs() -> None:
    admission = make(FakeClock(), initial=100)

    assert fill(admission, BULK) == 80
    assert fill(admission, INTERACTIVE) == 15
    assert fill(admission, CRITICAL) == 100


@pytest.mark.parametrize("priority", [CRITICAL, INTERACTIVE, BULK])
def test_who_is_turned_away_would_not_be_let_in(priority: int) -> None:
    admission = make(FakeClock(), initial=100)
    assert admission.turn_away(priority) is None
    fill(admission, priority)
    refusal = admission.turn_away(priority)
    assert refusal is not None
    assert refusal.retry_after
    assert admission.snapshot().rejected[priority] == 2


def test_of_those_who_come_to_a_queue_that_stands_a_quarter_as_many_are_let_in() -> None:
    admission = make(FakeClock(), initial=100)
    for _ in range(20):
        assert admission.turn_away(BULK, stands=True) is None
        admission.enter(BULK)
    assert admission.turn_away(BULK, stands=True) is not None
    assert admission.turn_away(BULK) is None


def test_calls_that_come_take_places_but_a_quarter_of_them_at_most() -> None:
    admission = make(FakeClock(), initial=100)
    for _ in range(60):
        assert admission.turn_away(BULK, coming=1000) is None
        admission.enter(BULK)
    assert admission.turn_away(BULK, coming=19) is None
    assert admission.turn_away(BULK, coming=20) is not None
    assert admission.turn_away(BULK, coming=1000) is not None


def test_critical_calls_alone_have_a_bound_too() -> None:
    assert fill(make(FakeClock(), initial=100), CRITICAL) == 195


def test_even_the_least_limit_lets_a_bulk_call_in() -> None:
    clock = FakeClock()
    admission = Admission("server", ConcurrencyLimit("server", initial=1, minimum=1, maximum=1, clock=clock))

    assert fill(admission, BULK) == 1


def test_bulk_gives_way_while_interactive_calls_are_refused_and_comes_back() -> None:
    clock = FakeClock()
    admission = make(clock, initial=100)
    fill(admission, INTERACTIVE)

    assert admission.snapshot().bulk_share == pytest.approx(0.72)
    started = admission.enter(CRITICAL)
    clock.advance(60)
    admission.leave(started)
    admission.enter(CRITICAL)
    assert admission.snapshot().bulk_share == pytest.approx(0.8)


def test_a_refusal_says_why_and_when_to_come_again() -> None:
    admission = make(FakeClock())
    events: list[Event] = []
    admission.events.subscribe(events.append)
    entered = fill(admission, BULK)

    with pytest.raises(OverloadedError, match="the share of BULK in the concurrency limit is full") as refusal:
        admission.enter(BULK)

    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after > 0
    assert entered == 16
    assert [(event.policy, event.name, event.kind) for event in events] == [("admission", "server", "rejected")] * 2
    assert events[0].attributes["priority"] == BULK
    assert admission.snapshot().rejected == {CRITICAL: 0, INTERACTIVE: 0, BULK: 2}
    assert admission.snapshot().limit.in_flight == 16


def test_leaving_makes_room() -> None:
    admission = make(FakeClock())
    started = admission.enter(BULK)
    fill(admission, BULK)

    admission.leave(started)

    admission.enter(BULK)


async def test_one_priority_is_a_policy_for_a_chain() -> None:
    admission = make(FakeClock())

    async def in_flight() -> int:
        return admission.snapshot().limit.in_flight

    def fail() -> None:
        raise TimeoutError

    assert await Chain(admission.at(BULK)).run(in_flight) == 1
    with pytest.raises(TimeoutError):
        Chain(admission.at(CRITICAL)).run_sync(fail)
    assert admission.snapshot().limit.in_flight == 0


def overload(shares: dict[int, float], seconds: float) -> tuple[list[Ended], Admission]:
    """Calls in these multiples of the capacity, against the server with 8 workers."""
    dice = random.Random(11)
    clock = FakeClock(0)
    admission = make(clock)
    streams = [
        poisson(share * CAPACITY, 0, seconds, lambda: SERVICE, random.Random(dice.random()), priority)
        for priority, share in shares.items()
    ]

    def enter(arrival: Arrival) -> float | None:
        try:
            return admission.enter(arrival.priority)
        except OverloadedError:
            return None

    return simulate(merge(*streams, key=lambda call: call.at), clock, enter, admission.leave), admission


def refused(ended: list[Ended], priority: int, begin: float = 0) -> float:
    calls = [call for call in ended if call.arrival.priority == priority and call.arrival.at >= begin]
    return sum(call.latency is None for call in calls) / len(calls)


def test_under_three_times_the_load_bulk_takes_the_refusals() -> None:
    ended, _ = overload({CRITICAL: 0.1, INTERACTIVE: 0.5, BULK: 2.4}, 60)

    assert refused(ended, CRITICAL) == 0
    assert refused(ended, INTERACTIVE, begin=5) <= 0.01
    assert refused(ended, INTERACTIVE) <= 0.03
    assert refused(ended, BULK) >= 0.7
    assert len([call for call in ended if call.latency is not None]) / 60 >= 0.9 * CAPACITY
    latencies = sorted(call.latency for call in ended if call.latency is not None)
    assert latencies[int(len(latencies) * 0.95)] <= 3 * SERVICE


def test_critical_calls_are_not_refused_while_they_alone_are_within_capacity() -> None:
    ended, _ = overload({CRITICAL: 0.7, INTERACTIVE: 1.2, BULK: 1.1}, 60)

    assert refused(ended, CRITICAL) == 0
    latencies = sorted(call.latency for call in ended if call.latency is not None)
    assert latencies[int(len(latencies) * 0.95)] <= 4 * SERVICE


def test_when_critical_calls_alone_are_too_many_they_are_shed_as_well() -> None:
    ended, _ = overload({CRITICAL: 3.0}, 30)

    assert 0.6 <= refused(ended, CRITICAL) <= 0.7
    latencies = sorted(call.latency for call in ended if call.latency is not None and call.arrival.at >= 10)
    assert latencies[int(len(latencies) * 0.95)] <= 8 * SERVICE
