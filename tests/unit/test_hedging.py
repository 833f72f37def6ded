"""Where an answer is late, another is asked for, and the first that comes counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.virtual_time import in_virtual_time

from resilience.deadline import current, within
from resilience.errors import DeadlineExceededError
from resilience.events import Event
from resilience.hedging import Hedging
from resilience.retry_budget import RetryBudget

NEVER = 1_000_000.0


class BusyError(Exception):
    """Another attempt may succeed."""


class FatalError(Exception):
    """No attempt can succeed."""


class Attempts:
    """Attempts that each take some seconds and then end as told."""

    def __init__(self, *plan: tuple[float, Any]) -> None:
        self.plan = plan
        self.begun: list[float] = []
        self.cancelled: list[int] = []
        self.ended = 0

    async def __call__(self) -> Any:
        loop = asyncio.get_running_loop()
        self.begun.append(loop.time())
        number = len(self.begun)
        seconds, end = self.plan[number - 1]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            await asyncio.sleep(0)
            raise
        finally:
            self.ended += 1
        if isinstance(end, BaseException):
            raise end
        return end


def hedging(**arguments: Any) -> tuple[Hedging, list[Event]]:
    policy = Hedging(
        "test",
        **{"max_attempts": 3, "delay": 1.0, "is_fatal": lambda error: isinstance(error, FatalError), **arguments},
    )
    events: list[Event] = []
    policy.events.subscribe(events.append)
    return policy, events


def run(policy: Hedging, attempts: Attempts) -> tuple[Any, float]:
    """The answer or the error, and the seconds that it took."""

    async def main() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            answer: Any = await policy.run(attempts)
        except BaseException as error:
            answer = error
        attempts.begun = [moment - began_at for moment in attempts.begun]
        assert len(asyncio.all_tasks()) == 1, "An attempt was left behind."
        return answer, loop.time() - began_at

    return in_virtual_time(main())


def test_a_quick_answer_needs_no_second_attempt() -> None:
    policy, events = hedging()
    attempts = Attempts((0.5, "first"))
    assert run(policy, attempts) == ("first", pytest.approx(0.5))
    assert (len(attempts.begun), events) == (1, [])


def test_a_late_answer_is_overtaken_and_its_attempt_cancelled_and_awaited() -> None:
    policy, events = hedging()
    attempts = Attempts((NEVER, "first"), (0.5, "second"))

    assert run(policy, attempts) == ("second", pytest.approx(1.5))

    assert attempts.begun == pytest.approx([0.0, 1.0])
    assert (attempts.cancelled, attempts.ended) == ([1], 2)
    assert [(event.kind, event.attributes["attempt"]) for event in events] == [("hedge", 2), ("won", 2)]
    snapshot = policy.snapshot()
    assert (snapshot.hedges, snapshot.won_by_hedge) == (1, 1)


def test_the_first_attempt_may_still_win() -> None:
    policy, events = hedging()
    attempts = Attempts((1.5, "first"), (NEVER, "second"))
    assert run(policy, attempts) == ("first", pytest.approx(1.5))
    assert events[-1].kind == "won"
    assert events[-1].attributes["attempt"] == 1
    assert (attempts.cancelled, policy.snapshot().won_by_hedge) == ([2], 0)


def test_each_further_attempt_waits_for_the_delay() -> None:
    policy, _ = hedging()
    attempts = Attempts((NEVER, 1), (NEVER, 2), (10.0, 3))
    assert run(policy, attempts) == (3, pytest.approx(12.0))
    assert attempts.begun == pytest.approx([0.0, 1.0, 2.0])


def test_a_failure_starts_the_next_attempt_at_once() -> None:
    policy, events = hedging()
    attempts = Attempts((0.2, BusyError()), (0.2, "second"))
    assert run(policy, attempts) == ("second", pytest.approx(0.4))
    assert attempts.begun == pytest.approx([0.0, 0.2])
    assert "BusyError" in events[0].reason


def test_a_failure_does_not_end_a_call_that_another_attempt_may_answer() -> None:
    policy, _ = hedging(max_attempts=2)
    attempts = Attempts((3.0, "first"), (0.5, BusyError()))
    assert run(policy, attempts) == ("first", pytest.approx(3.0))


def test_a_fatal_error_ends_all_at_once() -> None:
    policy, _ = hedging()
    fatal = FatalError()
    attempts = Attempts((NEVER, "first"), (0.2, fatal))
    assert run(policy, attempts) == (fatal, pytest.approx(1.2))
    assert (attempts.cancelled, len(attempts.begun)) == ([1], 2)


def test_when_all_fail_the_last_error_is_raised_itself() -> None:
    policy, _ = hedging()
    last = BusyError()
    attempts = Attempts((0.1, BusyError()), (0.1, BusyError()), (0.1, last))
    assert run(policy, attempts)[0] is last


def test_a_success_counts_though_a_fatal_error_comes_with_it() -> None:
    policy, _ = hedging(max_attempts=2)
    begun = 0

    async def main() -> str:
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, gate.set)

        async def operation() -> str:
            nonlocal begun
            begun += 1
            mine = begun
            await gate.wait()
            if mine == 1:
                raise FatalError
            return "answer"

        return await policy.run(operation)

    assert in_virtual_time(main()) == "answer"


def test_no_attempt_begins_past_the_deadline() -> None:
    policy, _ = hedging()
    attempts = Attempts((5.0, "first"), (NEVER, "never"))

    async def main() -> Any:
        with within(0.9, asyncio.get_running_loop().time):
            return await policy.run(attempts)

    assert in_virtual_time(main()) == "first"
    assert len(attempts.begun) == 1


def test_a_failure_after_the_deadline_is_not_repeated() -> None:
    policy, _ = hedging()
    error = BusyError()
    attempts = Attempts((0.9, error), (NEVER, "never"))

    async def main() -> Any:
        with within(0.5, asyncio.get_running_loop().time):
            return await policy.run(attempts)

    with pytest.raises(BusyError) as raised:
        in_virtual_time(main())
    assert raised.value is error


def test_an_empty_budget_lets_the_first_attempt_go_on_alone() -> None:
    policy, events = hedging(budget=RetryBudget(ratio=0, reserve=0))
    attempts = Attempts((5.0, "first"), (NEVER, "never"))
    assert run(policy, attempts) == ("first", pytest.approx(5.0))
    assert [event.kind for event in events] == ["budget_empty"]
    assert policy.snapshot().budget_empty == 1


def test_hedges_take_from_the_budget_and_first_attempts_give() -> None:
    budget = RetryBudget(ratio=0, reserve=5)
    policy, _ = hedging(budget=budget)
    run(policy, Attempts((NEVER, 1), (NEVER, 2), (0.1, 3)))
    snapshot = budget.snapshot()
    assert (snapshot.deposits, snapshot.withdrawals) == (1, 2)


def test_a_cancelled_call_cancels_and_awaits_all_attempts() -> None:
    policy, _ = hedging()
    attempts = Attempts((NEVER, 1), (NEVER, 2), (NEVER, 3))

    async def main() -> None:
        task = asyncio.create_task(policy.run(attempts))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    in_virtual_time(main())
    assert (sorted(attempts.cancelled), attempts.ended) == ([1, 2], 2)


def test_an_attempt_that_is_cancelled_from_within_ends_the_call() -> None:
    policy, _ = hedging()
    attempts = Attempts((0.1, asyncio.CancelledError()), (NEVER, "never"))
    assert isinstance(run(policy, attempts)[0], asyncio.CancelledError)
    assert len(attempts.begun) == 1


def test_attempts_see_the_deadline_of_their_call() -> None:
    policy, _ = hedging()
    seen: list[Any] = []

    async def operation() -> None:
        seen.append(current())

    async def main() -> Any:
        with within(5.0, asyncio.get_running_loop().time) as deadline:
            await policy.run(operation)
        return deadline

    assert seen == [in_virtual_time(main())]


@pytest.fixture
def blocking() -> Iterator[Callable[..., tuple[Hedging, list[Event]]]]:
    made: list[Hedging] = []

    def make(**arguments: Any) -> tuple[Hedging, list[Event]]:
        policy, events = hedging(**arguments)
        made.append(policy)
        return policy, events

    yield make
    for policy in made:
        policy.close()


class Gates:
    """Blocking attempts, each of which waits for its gate and then ends as told."""

    def __init__(self, *ends: Any, opened: int = 0) -> None:
        self.ends = ends
        self.gates = [threading.Event() for _ in ends]
        self.lock = threading.Lock()
        self.begun = 0
        for gate in self.gates[:opened]:
            gate.set()

    def __call__(self) -> Any:
        with self.lock:
            number = self.begun
            self.begun += 1
        assert self.gates[number].wait(30)
        end = self.ends[number]
        if isinstance(end, BaseException):
            raise end
        return end

    def open(self) -> None:
        for gate in self.gates:
            gate.set()


def test_blocking_a_quick_answer_needs_no_second_attempt(blocking: Callable[..., Any]) -> None:
    policy, events = blocking(delay=60.0)
    attempts = Gates("first", "never", opened=1)
    assert policy.run_sync(attempts) == "first"
    assert (attempts.begun, events) == (1, [])


def test_blocking_a_late_answer_is_overtaken(blocking: Callable[..., Any]) -> None:
    policy, events = blocking(delay=0.0, max_attempts=2)
    attempts = Gates("first", "second")
    attempts.gates[1].set()
    assert policy.run_sync(attempts) == "second"
    assert [event.kind for event in events] == ["hedge", "won"]
    assert policy.snapshot().won_by_hedge == 1
    attempts.open()


def test_blocking_a_failure_starts_the_next_attempt_at_once(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=60.0)
    assert policy.run_sync(Gates(BusyError(), "second", opened=2)) == "second"


def test_blocking_a_fatal_error_ends_the_call(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=60.0)
    fatal = FatalError()
    attempts = Gates(BusyError(), fatal, "never", opened=3)
    with pytest.raises(FatalError) as raised:
        policy.run_sync(attempts)
    assert (raised.value, attempts.begun) == (fatal, 2)


def test_blocking_when_all_fail_the_last_error_is_raised_itself(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=60.0, max_attempts=2)
    last = BusyError()
    with pytest.raises(BusyError) as raised:
        policy.run_sync(Gates(BusyError(), last, opened=2))
    assert raised.value is last


def test_blocking_attempts_see_the_deadline_of_their_call(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=60.0)
    with within(5.0) as deadline:
        assert policy.run_sync(current) is deadline


def test_blocking_no_attempt_begins_past_the_deadline(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=0.0)
    attempts = Gates(DeadlineExceededError("spent"), "never", opened=1)
    with within(0.0), pytest.raises(DeadlineExceededError):
        policy.run_sync(attempts)
    assert attempts.begun == 1


def test_blocking_without_a_free_thread_calls_run_unhedged_where_they_are(blocking: Callable[..., Any]) -> None:
    policy, events = blocking(delay=60.0, max_threads=1)
    held = Gates("held")
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(policy.run_sync(held)))
    caller.start()
    while not held.begun:
        caller.join(0.001)

    assert policy.run_sync(threading.get_ident) == threading.get_ident()

    held.open()
    caller.join()
    assert answers == ["held"]
    assert [event.kind for event in events] == ["threads_busy"]
    assert policy.snapshot().threads_busy == 1


def test_blocking_callers_in_many_threads_get_their_own_answers(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking(delay=0.0, max_attempts=2, max_threads=4, budget=RetryBudget(reserve=50))
    answers: dict[int, list[int]] = {number: [] for number in range(6)}

    def work(number: int) -> None:
        answers[number].extend(policy.run_sync(lambda turn=turn: turn) for turn in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(given == list(range(50)) for given in answers.values())


def test_blocking_after_its_end_it_says_so(blocking: Callable[..., Any]) -> None:
    policy, _ = blocking()
    policy.close()
    with pytest.raises(RuntimeError, match="closed"):
        policy.run_sync(lambda: 1)


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"delay": -1.0}, {"max_threads": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="test"):
        hedging(**wrong)
