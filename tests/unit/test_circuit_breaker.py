"""The circuit breaker: when it opens, what it lets through, when it closes, and what it tells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from fakes.clock import FakeClock

from resilience.circuit_breaker import BreakerSettings, CircuitBreaker, Permit, State
from resilience.errors import BulkheadFullError, CircuitOpenError, DeadlineExceededError
from resilience.events import Event
from resilience.outcome import Outcome


class CalleeError(Exception):
    pass


class Told:
    """A breaker with a clock of its own, and what it told."""

    def __init__(self, settings: BreakerSettings, **options: object) -> None:
        self.clock = FakeClock()
        self.breaker = CircuitBreaker("callee", settings, clock=self.clock, **options)  # type: ignore[arg-type]
        self.events: list[Event] = []
        self.breaker.events.subscribe(self.events.append)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def call(self, outcome: str = "s", seconds: float = 0.0) -> None:
        """Makes calls one after the other: s succeeds, f fails, i says nothing."""
        for letter in outcome:
            permit = self.breaker.enter()
            self.clock.advance(seconds)
            {"s": permit.succeed, "f": permit.fail, "i": permit.ignore}[letter]()

    def refusal(self) -> CircuitOpenError:
        with pytest.raises(CircuitOpenError) as caught:
            self.breaker.enter()
        return caught.value


IN_A_ROW = BreakerSettings(
    consecutive_failures=3, failure_rate=None, open_seconds=10, half_open_calls=3, half_open_successes=2
)
RATE = BreakerSettings(consecutive_failures=None, failure_rate=0.5, window_calls=4, minimum_calls=4)


def opened(settings: BreakerSettings = IN_A_ROW) -> Told:
    told = Told(settings)
    told.call("fff")
    assert told.breaker.state is State.OPEN
    told.events.clear()
    return told


def half_open(settings: BreakerSettings = IN_A_ROW) -> tuple[Told, Permit]:
    told = opened(settings)
    told.clock.advance(10)
    return told, told.breaker.enter()


def test_failures_in_a_row_open_it() -> None:
    told = Told(IN_A_ROW)
    told.call("ff")
    assert told.breaker.state is State.CLOSED
    told.call("f")
    assert told.breaker.state is State.OPEN
    assert told.kinds == ["failure", "failure", "failure", "open"]
    assert told.events[-1].reason == "3 failures in a row"


def test_a_success_ends_a_row_of_failures_and_an_ignored_call_does_not() -> None:
    told = Told(IN_A_ROW)
    told.call("ffsff")
    assert told.breaker.state is State.CLOSED
    told.call("if")
    assert told.breaker.state is State.OPEN


def test_a_failure_rate_at_the_limit_opens_it_and_one_below_does_not() -> None:
    told = Told(RATE)
    told.call("sssf")
    assert told.breaker.state is State.CLOSED
    told.call("f")
    assert told.breaker.state is State.OPEN
    assert told.events[-1].reason == "2 of 4 calls failed"


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_rate_of_so_many_percent_opens_at_exactly_so_many_of_a_hundred(percent: int) -> None:
    settings = BreakerSettings(
        consecutive_failures=None, failure_rate=percent / 100, window_calls=100, minimum_calls=100
    )
    below, at = Told(settings), Told(settings)
    below.call("f" * (percent - 1) + "s" * (101 - percent))
    assert below.breaker.state is State.CLOSED
    at.call("f" * percent + "s" * (100 - percent))
    assert at.breaker.state is State.OPEN


def test_fewer_calls_than_the_minimum_say_nothing_and_a_success_can_be_the_call_that_reaches_it() -> None:
    told = Told(BreakerSettings(consecutive_failures=None, failure_rate=0.5, window_calls=10, minimum_calls=4))
    told.call("fff")
    assert told.breaker.state is State.CLOSED
    told.call("s")
    assert told.breaker.state is State.OPEN


def test_a_window_smaller_than_the_minimum_speaks_when_it_is_full() -> None:
    told = Told(BreakerSettings(consecutive_failures=None, failure_rate=1.0, window_calls=2, minimum_calls=100))
    told.call("ff")
    assert told.breaker.state is State.OPEN


def test_the_count_window_forgets_the_oldest_calls() -> None:
    told = Told(RATE)
    told.call("fsss" + "sf" + "sss")
    assert told.breaker.state is State.CLOSED
    snapshot = told.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (4, 1)


def test_the_time_window_forgets_old_calls() -> None:
    settings = BreakerSettings(consecutive_failures=None, failure_rate=0.5, window_seconds=10, minimum_calls=4)
    told = Told(settings)
    told.call("fff")
    told.clock.advance(9)
    assert told.breaker.snapshot().calls == 3
    told.clock.advance(1)
    assert told.breaker.snapshot().calls == 0
    told.call("fff")
    assert told.breaker.state is State.CLOSED
    told.clock.advance(9)
    told.call("f")
    assert told.breaker.state is State.OPEN


def test_the_time_window_slides_by_buckets() -> None:
    told = Told(BreakerSettings(consecutive_failures=None, window_seconds=10, minimum_calls=1000))
    for _ in range(30):
        told.call("f")
        told.clock.advance(1)
    # The bucket of now has no call yet.
    assert told.breaker.snapshot().calls == 9
    told.clock.advance(1_000_000)
    told.call("s")
    assert (told.breaker.snapshot().calls, told.breaker.snapshot().failures) == (1, 0)


SLOW = BreakerSettings(
    consecutive_failures=None,
    failure_rate=None,
    slow_call_rate=0.5,
    slow_call_seconds=1,
    window_calls=4,
    minimum_calls=2,
    half_open_calls=1,
    half_open_successes=1,
)


def test_slow_calls_open_it_though_they_succeed() -> None:
    told = Told(SLOW)
    told.call("s", seconds=1)
    told.call("s", seconds=1)
    assert told.breaker.state is State.CLOSED, "as long as the limit is not longer than it"
    told.call("s", seconds=1.5)
    assert told.breaker.state is State.CLOSED
    told.call("s", seconds=1.5)
    assert told.breaker.state is State.OPEN
    assert told.events[-1].reason == "2 of 4 calls took longer than 1 s"
    assert told.events[-2].attributes == {"slow": True}


def test_the_count_window_forgets_slow_calls_too() -> None:
    told = Told(BreakerSettings(slow_call_rate=1.0, slow_call_seconds=1, window_calls=4, minimum_calls=4))
    told.call("ss", seconds=2)
    told.call("ssss")
    assert told.breaker.snapshot().slow_calls == 0
    told.call("sss", seconds=2)
    assert told.breaker.snapshot().slow_calls == 3


def test_a_slow_probe_is_a_failed_probe() -> None:
    told = Told(SLOW)
    told.call("ss", seconds=2)
    told.clock.advance(SLOW.open_seconds)
    told.call("s", seconds=2)
    assert told.breaker.state is State.OPEN
    assert told.kinds[-3:] == ["half_open", "success", "open"]


def test_the_length_of_an_untimed_call_says_nothing() -> None:
    told = Told(SLOW)
    for _ in range(4):
        permit = told.breaker.enter(timed=False)
        told.clock.advance(100)
        permit.succeed()
    assert told.breaker.state is State.CLOSED
    assert told.breaker.snapshot().slow_calls == 0


def test_an_open_breaker_refuses_and_says_when_to_come_back() -> None:
    told = opened()
    told.clock.advance(4)
    refusal = told.refusal()
    assert refusal.retry_after == pytest.approx(6)
    assert str(refusal) == "callee is not called: the breaker is open."
    assert told.kinds == ["rejected"]
    assert told.breaker.snapshot().rejected == 1
    assert told.breaker.snapshot().retry_after == pytest.approx(6)


def test_the_first_call_after_the_time_is_a_probe() -> None:
    told = opened()
    told.clock.advance(9.999)
    told.refusal()
    told.clock.advance(0.001)
    assert told.breaker.state is State.OPEN, "nothing changes until somebody calls"
    told.breaker.enter()
    assert told.breaker.state is State.HALF_OPEN
    assert told.kinds == ["rejected", "half_open"]


def test_no_more_probes_than_allowed_and_further_calls_are_refused() -> None:
    told, _ = half_open()
    told.clock.advance(1)
    told.breaker.enter()
    told.breaker.enter()
    refusal = told.refusal()
    assert "all probes are under way" in str(refusal)
    assert refusal.retry_after == pytest.approx(9), "when the oldest probe's place becomes free at the latest"


def test_so_many_successful_probes_close_it_and_it_begins_anew() -> None:
    told, first = half_open()
    second = told.breaker.enter()
    first.succeed()
    assert told.breaker.state is State.HALF_OPEN
    second.succeed()
    assert told.breaker.state is State.CLOSED
    assert told.kinds == ["half_open", "success", "success", "closed"]
    assert told.breaker.snapshot().calls == 0
    told.call("ff")
    assert told.breaker.state is State.CLOSED, "the failures from before count no more"


def test_it_opens_again_when_enough_successes_are_out_of_reach() -> None:
    told, first = half_open()
    second, third = told.breaker.enter(), told.breaker.enter()
    first.fail(CalleeError())
    assert told.breaker.state is State.HALF_OPEN, "two of three may succeed yet"
    told.clock.advance(2)
    second.fail()
    assert told.breaker.state is State.OPEN
    assert told.refusal().retry_after == pytest.approx(10)
    third.succeed()
    assert told.breaker.state is State.OPEN
    assert told.events[1].reason == "CalleeError"


def test_a_probe_that_ends_makes_no_room_for_another() -> None:
    told, first = half_open(BreakerSettings(3, None, open_seconds=10, half_open_calls=3, half_open_successes=3))
    first.succeed()
    told.breaker.enter()
    told.breaker.enter()
    told.refusal()


def test_an_ignored_probe_gives_its_place_back() -> None:
    told, first = half_open()
    told.breaker.enter()
    told.breaker.enter()
    told.refusal()
    first.ignore()
    assert told.breaker.state is State.HALF_OPEN
    told.breaker.enter()
    told.refusal()


def test_a_probe_that_never_ends_does_not_block_for_ever_and_its_late_end_counts_once() -> None:
    told, first = half_open(BreakerSettings(3, None, open_seconds=10, half_open_calls=1, half_open_successes=1))
    told.refusal()
    told.clock.advance(10)
    second = told.breaker.enter()
    assert told.breaker.snapshot().probes == 1
    first.ignore()
    told.refusal()
    second.succeed()
    assert told.breaker.state is State.CLOSED


def test_a_callee_slower_than_the_open_time_still_closes_it() -> None:
    told, first = half_open()
    told.clock.advance(11)
    second = told.breaker.enter()
    told.clock.advance(11)
    first.succeed()
    second.succeed()
    assert told.breaker.state is State.CLOSED


def test_a_call_counts_only_in_the_state_that_it_began_in() -> None:
    told = Told(IN_A_ROW)
    late = [told.breaker.enter() for _ in range(6)]
    told.call("fff")
    told.clock.advance(10)
    probe = told.breaker.enter()
    late[0].succeed()
    late[1].fail()
    late[2].fail()
    assert told.breaker.state is State.HALF_OPEN
    assert told.breaker.snapshot().probe_failures == 0
    probe.succeed()
    told.call("s")
    assert told.breaker.state is State.CLOSED
    for permit in late[3:]:
        permit.fail()
    assert told.breaker.state is State.CLOSED
    assert told.kinds.count("failure") == 8, "they are told all the same"


def test_only_the_first_word_on_a_call_counts() -> None:
    told = Told(IN_A_ROW)
    permit = told.breaker.enter()
    permit.succeed()
    for _ in range(5):
        permit.fail()
    assert told.kinds == ["success"]
    assert told.breaker.state is State.CLOSED


def test_forced_open_refuses_until_it_is_reset() -> None:
    told = Told(IN_A_ROW)
    under_way = told.breaker.enter()
    told.breaker.force_open()
    told.breaker.force_open()
    told.clock.advance(1_000_000)
    assert told.refusal().retry_after is None
    under_way.fail()
    assert told.breaker.state is State.FORCED_OPEN
    told.breaker.reset()
    told.call("s")
    assert told.kinds == ["open", "rejected", "failure", "closed", "success"]
    assert [event.reason for event in told.events if event.kind in ("open", "closed")] == ["forced", "reset"]


def test_forced_closed_lets_all_calls_through_and_counts_none() -> None:
    told = opened()
    told.breaker.force_closed()
    told.call("f" * 20)
    assert told.breaker.state is State.FORCED_CLOSED
    told.breaker.reset()
    assert told.breaker.state is State.CLOSED
    told.call("ff")
    assert told.breaker.state is State.CLOSED


def test_reset_closes_an_open_breaker_and_forgets() -> None:
    told = Told(IN_A_ROW)
    told.call("ff")
    told.breaker.reset()
    assert told.breaker.snapshot().consecutive_failures == 0
    told.call("fff")
    told.breaker.reset()
    assert told.breaker.state is State.CLOSED
    told.call("s")


async def test_run_passes_results_and_errors_through_and_does_not_call_when_open() -> None:
    told = Told(IN_A_ROW)
    calls = 0

    async def works() -> int:
        return 7

    async def fails() -> int:
        nonlocal calls
        calls += 1
        raise CalleeError

    assert await told.breaker.run(works) == 7
    for _ in range(3):
        with pytest.raises(CalleeError):
            await told.breaker.run(fails)
    with pytest.raises(CircuitOpenError):
        await told.breaker.run(fails)
    assert calls == 3


def test_run_sync_does_as_run() -> None:
    told = Told(IN_A_ROW)

    def fails() -> int:
        raise CalleeError

    assert told.breaker.run_sync(lambda: 7) == 7
    for _ in range(3):
        with pytest.raises(CalleeError):
            told.breaker.run_sync(fails)
    with pytest.raises(CircuitOpenError):
        told.breaker.run_sync(fails)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), BulkheadFullError("full")])
def test_cancellation_exits_and_refusals_say_nothing(error: BaseException) -> None:
    told = Told(IN_A_ROW)

    def ends() -> Iterator[int]:
        raise error

    for _ in range(10):
        with pytest.raises(type(error)):
            told.breaker.run_sync(ends)
    assert told.kinds == []
    assert told.breaker.snapshot().calls == 0


def test_a_deadline_that_passed_is_a_failure() -> None:
    told = Told(IN_A_ROW)

    def hangs() -> int:
        raise DeadlineExceededError("too late")

    for _ in range(3):
        with pytest.raises(DeadlineExceededError):
            told.breaker.run_sync(hangs)
    assert told.breaker.state is State.OPEN


def test_an_own_classification_decides() -> None:
    told = Told(IN_A_ROW, classify=lambda error: Outcome.SUCCESS if isinstance(error, KeyError) else Outcome.FAILURE)

    def missing() -> int:
        raise KeyError

    for _ in range(5):
        with pytest.raises(KeyError):
            told.breaker.run_sync(missing)
    assert told.kinds == ["success"] * 5


def test_threads_get_no_more_probes_than_allowed() -> None:
    told = opened()
    told.clock.advance(10)
    barrier = threading.Barrier(8)
    permits: list[Permit] = []
    refused: list[CircuitOpenError] = []

    def probe() -> None:
        barrier.wait()
        try:
            permits.append(told.breaker.enter())
        except CircuitOpenError as error:
            refused.append(error)

    threads = [threading.Thread(target=probe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(permits), len(refused)) == (3, 5)
    assert told.kinds.count("half_open") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"failure_rate": 0.0}, "failure_rate"),
        ({"failure_rate": 50}, "failure_rate"),
        ({"slow_call_rate": -1}, "slow_call_rate"),
        ({"consecutive_failures": 0}, "consecutive_failures"),
        ({"minimum_calls": 0}, "minimum_calls"),
        ({"window_calls": 0}, "window_calls"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"window_seconds": 1e9}, "window_seconds"),
        ({"half_open_calls": 0, "half_open_successes": 0}, "half_open_calls"),
        ({"half_open_calls": 2, "half_open_successes": 3}, "half_open_successes"),
        ({"open_seconds": 0}, "open_seconds"),
        ({"slow_call_seconds": -1}, "slow_call_seconds"),
        ({"consecutive_failures": None, "failure_rate": None}, "never open"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BreakerSettings(**settings)  # type: ignore[arg-type]
