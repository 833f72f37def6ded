"""A limit for each key in bounded memory: no key gets more than its limit, however many there are."""

from __future__ import annotations

import pytest
from fakes.clock import FakeClock

from resilience.errors import RateLimitedError
from resilience.events import Event
from resilience.policy import Chain
from resilience.rate_limit import RateLimit


def admitted(limit: RateLimit, key: str, calls: int) -> int:
    passed = 0
    for _ in range(calls):
        try:
            limit.check(key)
        except RateLimitedError:
            continue
        passed += 1
    return passed


def test_each_key_has_a_limit_of_its_own() -> None:
    limit = RateLimit("query", 1, 3, clock=FakeClock())

    assert admitted(limit, "a", 10) == 3
    assert admitted(limit, "b", 10) == 3


def test_a_refusal_names_the_limit_and_when_to_come_again() -> None:
    clock = FakeClock()
    limit = RateLimit("query", 2, 1, clock=clock)
    limit.check("a")

    with pytest.raises(RateLimitedError, match="query was called too often by 'a'") as refusal:
        limit.check("a")

    assert refusal.value.retry_after == 0.5
    clock.advance(0.5)
    limit.check("a")


def test_a_refusal_is_an_event() -> None:
    limit = RateLimit("query", 2, 1, clock=FakeClock())
    events: list[Event] = []
    limit.events.subscribe(events.append)

    admitted(limit, "a", 2)

    assert [(event.policy, event.name, event.kind) for event in events] == [("rate_limit", "query", "rejected")]
    assert dict(events[0].attributes) == {"key": "a", "retry_after": 0.5}


def test_keys_beyond_the_bound_take_the_place_of_those_that_are_full_again() -> None:
    clock = FakeClock()
    limit = RateLimit("query", 1, 2, max_keys=100, clock=clock)
    for number in range(100):
        limit.check(f"old {number}")
    clock.advance(2)

    for number in range(100):
        assert admitted(limit, f"new {number}", 5) == 2

    assert limit.snapshot().keys == 100
    assert limit.snapshot().shared == 0


def test_crowding_a_key_out_does_not_reset_its_limit() -> None:
    clock = FakeClock()
    limit = RateLimit("query", 1, 5, max_keys=10, clock=clock)
    assert admitted(limit, "busy", 10) == 5

    for number in range(10_000):
        admitted(limit, f"crowd {number}", 1)

    assert admitted(limit, "busy", 10) == 0
    clock.advance(1)
    assert admitted(limit, "busy", 10) == 1


def test_keys_without_a_place_share_one_limit_and_carry_it_into_their_own() -> None:
    clock = FakeClock()
    limit = RateLimit("query", 1, 4, max_keys=1, clock=clock)
    limit.check("first")

    assert admitted(limit, "second", 3) == 3
    assert admitted(limit, "third", 3) == 1
    assert limit.snapshot().shared == 6

    clock.advance(1)  # The first one's bucket is full again, the shared one holds 1.
    assert admitted(limit, "second", 9) == 1


def test_memory_is_bounded_whatever_keys_come() -> None:
    limit = RateLimit("query", 0.001, 2, max_keys=50, clock=FakeClock())

    for number in range(5_000):
        admitted(limit, str(number), 1)

    assert limit.snapshot().keys == 50


async def test_one_key_is_a_policy_for_a_chain() -> None:
    limit = RateLimit("query", 1, 1, clock=FakeClock())

    async def answer() -> int:
        return 42

    assert await Chain(limit.of("a")).run(answer) == 42
    with pytest.raises(RateLimitedError):
        await Chain(limit.of("a")).run(answer)
    assert Chain(limit.of("b")).run_sync(lambda: 43) == 43
    with pytest.raises(RateLimitedError):
        limit.of("b").run_sync(lambda: 43)


def test_no_room_for_any_key_is_refused() -> None:
    with pytest.raises(ValueError, match="max_keys must be 1 or more"):
        RateLimit("query", 1, 1, max_keys=0)
