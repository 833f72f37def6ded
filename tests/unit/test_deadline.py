"""The time that a call has is shared by all that it does, and only shrinks."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.virtual_time import in_virtual_time

from resilience.deadline import Deadline, DeadlinePolicy, begin, current, remaining, within
from resilience.errors import DeadlineExceededError
from resilience.events import Event


def test_without_a_deadline_there_is_no_limit() -> None:
    assert (current(), remaining()) == (None, None)


def test_what_is_left_shrinks_to_nothing_and_no_further() -> None:
    clock = FakeClock()
    with within(5.0, clock):
        assert remaining() == 5.0
        clock.advance(4.0)
        assert remaining() == 1.0
        clock.advance(4.0)
        assert remaining() == 0.0
    assert remaining() is None


@pytest.mark.parametrize(("outer", "inner", "left"), [(5.0, 2.0, 2.0), (2.0, 5.0, 2.0), (2.0, None, 2.0)])
def test_the_earlier_deadline_holds(outer: float, inner: float | None, left: float) -> None:
    clock = FakeClock()
    with within(outer, clock):
        with within(inner, clock):
            assert remaining() == left
        assert remaining() == outer


def test_deadlines_of_different_clocks_are_compared_by_what_is_left() -> None:
    with within(5.0, FakeClock(now=10.0)), within(1.0, FakeClock(now=900.0)):
        assert remaining() == 1.0
    with within(1.0, FakeClock(now=900.0)), within(5.0, FakeClock(now=10.0)):
        assert remaining() == 1.0


def test_a_failure_in_the_block_ends_its_limit() -> None:
    with pytest.raises(KeyError), within(1.0):
        raise KeyError
    assert current() is None


def test_a_task_inherits_the_deadline_and_its_own_do_not_leave_it() -> None:
    async def inner() -> float | None:
        with within(1.0, clock):
            return remaining()

    async def main() -> tuple[float | None, float | None]:
        with within(3.0, clock):
            return await asyncio.create_task(inner()), remaining()

    clock = FakeClock()
    assert asyncio.run(main()) == (1.0, 3.0)


def test_a_new_thread_has_no_deadline() -> None:
    seen: list[Deadline | None] = []
    with within(1.0):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_begin_limits_the_rest_of_its_task_whatever_was_before() -> None:
    async def served(seconds: float | None) -> float | None:
        begin(seconds, clock)
        return remaining()

    async def main() -> list[float | None]:
        with within(1.0, clock):
            found = [await asyncio.create_task(served(3.0)), await asyncio.create_task(served(None))]
            return [*found, remaining()]

    clock = FakeClock()
    assert asyncio.run(main()) == [3.0, None, 1.0]


def run_both(policy: DeadlinePolicy, function: Callable[[], Any], mode: str) -> Any:
    async def operation() -> Any:
        return function()

    return asyncio.run(policy.run(operation)) if mode == "async" else policy.run_sync(function)


@pytest.mark.parametrize("mode", ["async", "blocking"])
def test_the_operation_sees_what_it_has(mode: str) -> None:
    clock = FakeClock()
    assert run_both(DeadlinePolicy(2.0, clock=clock), remaining, mode) == 2.0
    assert run_both(DeadlinePolicy(None), remaining, mode) is None
    assert run_both(DeadlinePolicy(math.inf, clock=clock), remaining, mode) == math.inf


@pytest.mark.parametrize("mode", ["async", "blocking"])
@pytest.mark.parametrize("enforced", [True, False])
def test_when_the_time_is_spent_the_operation_does_not_begin(mode: str, enforced: bool) -> None:
    clock = FakeClock()
    policy = DeadlinePolicy(5.0, "the test", enforced=enforced, clock=clock)
    events: list[Event] = []
    policy.events.subscribe(events.append)
    begun: list[bool] = []

    with within(1.0, clock):
        clock.advance(1.0)
        with pytest.raises(DeadlineExceededError, match="the test"):
            run_both(policy, lambda: begun.append(True), mode)

    assert begun == []
    assert [event.kind for event in events] == ["deadline_spent"]
    assert policy.snapshot().spent == 1


def run_in_time(operation: Callable[[], Awaitable[Any]], seconds: float | None, **arguments: Any) -> tuple[Any, float]:
    """How an operation ended under a deadline, and after how many seconds."""

    async def main() -> tuple[Any, float]:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        try:
            end: Any = await DeadlinePolicy(seconds, clock=clock, **arguments).run(operation)
        except Exception as error:
            end = error
        return end, clock() - began_at

    return in_virtual_time(main())


def test_an_operation_is_cancelled_when_the_time_is_spent() -> None:
    cancelled: list[bool] = []

    async def operation() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    end, seconds = run_in_time(operation, 2.0)
    assert isinstance(end, DeadlineExceededError)
    assert isinstance(end, TimeoutError)
    assert (cancelled, seconds) == ([True], pytest.approx(2.0))


def test_an_operation_that_keeps_to_the_time_itself_is_left_alone() -> None:
    async def operation() -> str:
        await asyncio.sleep(60)
        return "its own end"

    assert run_in_time(operation, 2.0, enforced=False) == ("its own end", pytest.approx(60.0))


def test_what_an_operation_makes_of_its_cancellation_is_still_a_spent_deadline() -> None:
    async def operation() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionAbortedError("gave up") from None

    end, _ = run_in_time(operation, 2.0)
    assert isinstance(end, DeadlineExceededError)
    assert isinstance(end.__cause__, ConnectionAbortedError)


def test_an_operations_own_timeout_is_its_own() -> None:
    async def operation() -> None:
        raise TimeoutError("the callee's")

    end, _ = run_in_time(operation, 2.0)
    assert type(end) is TimeoutError


def test_the_callers_cancellation_is_no_spent_deadline() -> None:
    async def main() -> None:
        policy = DeadlinePolicy(60.0, clock=asyncio.get_running_loop().time)
        task = asyncio.create_task(policy.run(lambda: asyncio.sleep(30)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.snapshot().spent == 0

    in_virtual_time(main())


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_a_negative_limit_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="the test"):
        DeadlinePolicy(wrong, "the test")
