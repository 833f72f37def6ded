"""What failed is repeated as long as that makes sense, asynchronously and blocking alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fakes.clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import RetryError

from resilience.deadline import within
from resilience.events import Event
from resilience.retry import Retry
from resilience.retry_budget import RetryBudget


class BusyError(Exception):
    """Worth repeating; may say when."""

    def __init__(self, after: float | None = None) -> None:
        super().__init__("busy")
        self.after = after


class WrongError(Exception):
    """Never worth repeating."""


class Script:
    """An operation that ends as told, attempt by attempt; the last end stays."""

    def __init__(self, *ends: Any) -> None:
        self.ends = list(ends)
        self.calls = 0

    def __call__(self) -> Any:
        end = self.ends[min(self.calls, len(self.ends) - 1)]
        self.calls += 1
        if isinstance(end, BaseException):
            raise end
        return end

    async def later(self) -> Any:
        return self()


class World:
    """A retry policy with time that passes when it sleeps, and the longest delays, unless told otherwise."""

    def __init__(self, mode: str, **arguments: Any) -> None:
        self.mode = mode
        self.clock = FakeClock()
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.retry = Retry(
            "test",
            **{
                "max_attempts": 4,
                "initial_backoff": 0.1,
                "max_backoff": 0.3,
                "is_retryable": lambda error: isinstance(error, BusyError),
                "retry_after": lambda error: getattr(error, "after", None),
                "uniform": lambda low, high: high,
                "sleep": self.sleep,
                "sleep_sync": self.sleep_sync,
                **arguments,
            },
        )
        self.retry.events.subscribe(self.events.append)

    async def sleep(self, seconds: float) -> None:
        self.sleep_sync(seconds)
        await asyncio.sleep(0)

    def sleep_sync(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    async def run(self, operation: Script) -> Any:
        if self.mode == "async":
            return await self.retry.run(operation.later)
        return self.retry.run_sync(operation)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture(params=["async", "blocking"])
def world(request: pytest.FixtureRequest) -> Callable[..., World]:
    return lambda **arguments: World(request.param, **arguments)


async def test_a_success_is_returned_without_delay(world: Callable[..., World]) -> None:
    budget = RetryBudget()
    it = world(budget=budget)

    assert await it.run(Script("answer")) == "answer"

    assert (it.slept, it.events) == ([], [])
    assert budget.snapshot().deposits == 1


async def test_delays_grow_to_their_limit(world: Callable[..., World]) -> None:
    it = world()

    assert await it.run(Script(BusyError(), BusyError(), BusyError(), "answer")) == "answer"

    assert it.slept == pytest.approx([0.1, 0.2, 0.3])
    assert it.kinds == ["retry"] * 3
    assert [event.attributes["attempt"] for event in it.events] == [1, 2, 3]
    assert it.retry.snapshot().repeats == 3


async def test_delays_are_drawn_from_none_to_their_limit(world: Callable[..., World]) -> None:
    ranges: list[tuple[float, float]] = []

    def lowest(low: float, high: float) -> float:
        ranges.append((low, high))
        return low

    it = world(uniform=lowest, multiplier=1.0)
    await it.run(Script(BusyError(), BusyError(), "answer"))

    assert it.slept == [0.0, 0.0]
    assert ranges == [(0.0, 0.1), (0.0, 0.1)]


async def test_the_last_error_is_raised_itself(world: Callable[..., World]) -> None:
    it = world(max_attempts=3)
    last = BusyError()
    operation = Script(BusyError(), BusyError(), last)

    with pytest.raises(BusyError) as raised:
        await it.run(operation)

    assert raised.value is last
    assert last.__cause__ is None
    assert operation.calls == 3
    assert it.kinds == ["retry", "retry", "exhausted"]
    assert it.retry.snapshot().exhausted == 1


async def test_one_attempt_means_none_is_repeated(world: Callable[..., World]) -> None:
    it = world(max_attempts=1)
    with pytest.raises(BusyError):
        await it.run(Script(BusyError()))
    assert it.slept == []


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_an_error_that_is_not_worth_it_ends_the_call(world: Callable[..., World], before: int) -> None:
    it = world()
    operation = Script(*[BusyError()] * before, WrongError(), "never")

    with pytest.raises(WrongError):
        await it.run(operation)

    assert operation.calls == before + 1
    assert it.kinds == ["retry"] * before


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("before", [0, 1])
def test_cancellation_and_exits_are_never_retried(error: BaseException, before: int) -> None:
    it = World("blocking", is_retryable=lambda error: True)
    operation = Script(*[BusyError()] * before, error, "never")

    with pytest.raises(type(error)) as raised:
        it.retry.run_sync(operation)

    assert raised.value is error
    assert operation.calls == before + 1


@pytest.mark.parametrize("before", [0, 1])
async def test_a_cancelled_attempt_is_never_retried(before: int) -> None:
    it = World("async", is_retryable=lambda error: True)
    operation = Script(*[BusyError()] * before, asyncio.CancelledError(), "never")
    with pytest.raises(asyncio.CancelledError):
        await it.run(operation)
    assert operation.calls == before + 1


async def test_a_call_cancelled_during_its_delay_ends_there() -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    it = World("async", sleep=sleep)
    operation = Script(BusyError())
    task = asyncio.create_task(it.retry.run(operation.later))
    await asleep.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert operation.calls == 1


async def test_the_delay_is_never_less_than_what_the_callee_asks_for(world: Callable[..., World]) -> None:
    it = world(uniform=lambda low, high: low)
    await it.run(Script(BusyError(after=2.5), BusyError(after=-1.0), "answer"))
    assert it.slept == [2.5, 0.0]


async def test_jitter_comes_on_top_of_what_the_callee_asks_for(world: Callable[..., World]) -> None:
    it = world()
    await it.run(Script(BusyError(after=2.5), "answer"))
    assert it.slept == pytest.approx([2.6])


async def test_a_delay_that_does_not_fit_the_deadline_is_not_begun(world: Callable[..., World]) -> None:
    it = world()
    last = BusyError()
    operation = Script(BusyError(), last, "never")

    with within(0.25, it.clock), pytest.raises(BusyError) as raised:
        await it.run(operation)

    assert raised.value is last
    assert it.slept == pytest.approx([0.1])
    assert it.kinds == ["retry", "deadline_spent"]
    assert it.retry.snapshot().deadline_spent == 1


@settings(max_examples=100)
@given(
    limit=st.floats(0.01, 5.0),
    durations=st.lists(st.floats(0.0, 1.0), min_size=10, max_size=10),
    asked=st.lists(st.none() | st.floats(0.0, 2.0), min_size=10, max_size=10),
    draw=st.floats(0.0, 1.0),
)
def test_no_attempt_begins_after_the_deadline(
    limit: float, durations: list[float], asked: list[float | None], draw: float
) -> None:
    it = World("blocking", max_attempts=10, uniform=lambda low, high: low + draw * (high - low))
    ends_at = it.clock() + limit
    begun: list[float] = []

    def operation() -> None:
        begun.append(it.clock())
        it.clock.advance(durations[len(begun) - 1])
        raise BusyError(asked[len(begun) - 1])

    with within(limit, it.clock), pytest.raises(BusyError):
        it.retry.run_sync(operation)

    assert all(moment < ends_at for moment in begun)


async def test_an_empty_budget_ends_the_call_with_its_error(world: Callable[..., World]) -> None:
    it = world(budget=RetryBudget(ratio=0, reserve=1))
    last = BusyError()

    with pytest.raises(BusyError) as raised:
        await it.run(Script(BusyError(), last, "never"))

    assert raised.value is last
    assert it.kinds == ["retry", "budget_empty"]
    snapshot = it.retry.snapshot()
    assert (snapshot.repeats, snapshot.budget_empty) == (1, 1)
    assert snapshot.budget is not None
    assert snapshot.budget.refusals == 1


async def test_what_is_not_repeated_takes_nothing_from_the_budget(world: Callable[..., World]) -> None:
    budget = RetryBudget(ratio=0, reserve=5)
    it = world(max_attempts=1, budget=budget)
    with pytest.raises(BusyError):
        await it.run(Script(BusyError()))
    with within(0.05, it.clock), pytest.raises(BusyError):
        await world(budget=budget).run(Script(BusyError(after=1.0)))
    assert budget.snapshot().tokens == 5


async def test_a_full_outage_gets_a_tenth_more_load_and_the_reserve(world: Callable[..., World]) -> None:
    it = world(budget=RetryBudget())
    outage = Script(BusyError())
    calls = 2_000

    for _ in range(calls):
        with pytest.raises(BusyError):
            await it.run(outage)

    assert outage.calls <= 1.1 * calls + 10


async def test_calls_at_the_same_time_do_not_disturb_each_other() -> None:
    it = World("async")
    scripts = [Script(*[BusyError()] * (number % 4), number) for number in range(200)]
    assert await asyncio.gather(*(it.run(script) for script in scripts)) == list(range(200))
    assert it.retry.snapshot().repeats == sum(number % 4 for number in range(200))


def test_threads_do_not_disturb_each_other() -> None:
    retry = Retry(
        "test",
        max_attempts=4,
        initial_backoff=0.0,
        max_backoff=0.0,
        is_retryable=lambda error: True,
        budget=RetryBudget(reserve=10_000),
        sleep_sync=lambda seconds: None,
    )
    answers: dict[int, list[int]] = {number: [] for number in range(8)}

    def work(number: int) -> None:
        for turn in range(100):
            answers[number].append(retry.run_sync(Script(*[BusyError()] * (turn % 4), turn)))

    threads = [threading.Thread(target=work, args=(number,)) for number in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(given == list(range(100)) for given in answers.values())
    snapshot = retry.snapshot()
    assert snapshot.repeats == 8 * sum(turn % 4 for turn in range(100))
    assert snapshot.budget is not None
    assert snapshot.budget.withdrawals == snapshot.repeats


async def test_an_operations_own_retry_error_is_not_mistaken(world: Callable[..., World]) -> None:
    own = RetryError(None)  # type: ignore[arg-type]
    with pytest.raises(RetryError) as raised:
        await world().run(Script(own))
    assert raised.value is own


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"initial_backoff": -0.1}, {"max_backoff": 0.01}, {"multiplier": 0.5}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="test"):
        World("async", **wrong)
