"""Repeats what failed: with growing, random delays, within a budget, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying
from tenacity.wait import wait_exponential

from resilience.deadline import remaining
from resilience.events import Events
from resilience.retry_budget import RetryBudget, RetryBudgetSnapshot

T = TypeVar("T")


def no_retry_after(error: BaseException) -> float | None:
    """What `retry_after` is where the callee never says when to come again."""
    return None


class FullJitter(wait_exponential):
    """A delay anywhere between none and a limit that grows with each attempt, after what the callee asked for.

    Args:
        initial: The limit of the first delay in seconds.
        longest: The highest limit in seconds.
        multiplier: What each limit is multiplied with to give the next.
        retry_after: Seconds that an error asks to wait; None: it asks nothing. They come on top, so that callers who
            were all told the same do not return at once.
        uniform: Gives a random number of a range.
    """

    def __init__(
        self,
        initial: float,
        longest: float,
        multiplier: float,
        retry_after: Callable[[BaseException], float | None],
        uniform: Callable[[float, float], float],
    ) -> None:
        super().__init__(multiplier=initial, max=longest, exp_base=multiplier)
        self._retry_after = retry_after
        self._uniform = uniform

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait before the attempt that follows."""
        asked = self._retry_after(_error(retry_state)) or 0.0
        return max(0.0, asked) + self._uniform(0.0, super().__call__(retry_state))


@dataclass(frozen=True, slots=True)
class RetrySnapshot:
    """What a retry policy has done so far.

    Attributes:
        name: The policy.
        repeats: Attempts that were not the first of their call.
        exhausted: Calls that ended because all attempts were made.
        budget_empty: Calls that ended because the budget allowed no repeat.
        deadline_spent: Calls that ended because the delay did not fit in what was left of the deadline.
        budget: The budget; None: there is none.
    """

    name: str
    repeats: int
    exhausted: int
    budget_empty: int
    deadline_spent: int
    budget: RetryBudgetSnapshot | None


class Retry:
    """Repeats an operation that failed, as long as that makes sense.

    The error of the last attempt is raised itself, never wrapped, and at once when the attempts are used up, when the
    delay would outlast `resilience.deadline.remaining()`, or when the budget is empty. Cancellation and exits are
    never retried. The first attempt passes by tenacity, which does the rest: what succeeds at once pays for a call
    and the deposit only.

    Events: `retry` (attempt, delay in seconds, error), `exhausted`, `deadline_spent`, `budget_empty`.

    Args:
        name: What it is for.
        max_attempts: In all, the first included; 1 or more.
        initial_backoff: The longest first delay in seconds. Delays are anywhere between 0 and their limit ("full
            jitter").
        max_backoff: The longest delay in seconds, what the callee asks for aside.
        multiplier: What each limit is multiplied with to give the next; 1 or more.
        is_retryable: Tells whether the operation may be repeated after an error, which is always an `Exception`.
        retry_after: Seconds that an error asks to wait, as gRPC's RetryInfo; the delay is never less. None: it asks
            nothing.
        budget: Limits repeats, shared with others; None: only `max_attempts` does.
        uniform: Gives a random number of a range.
        sleep: Waits some seconds, in asyncio.
        sleep_sync: Waits some seconds, blocking.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        name: str,
        *,
        max_attempts: int,
        initial_backoff: float,
        max_backoff: float,
        multiplier: float = 2.0,
        is_retryable: Callable[[BaseException], bool],
        retry_after: Callable[[BaseException], float | None] = no_retry_after,
        budget: RetryBudget | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        sleep_sync: Callable[[float], None] = time.sleep,
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"max_attempts of {name} must be 1 or more, not {max_attempts}.")
        if not 0 <= initial_backoff <= max_backoff:
            raise ValueError(
                f"The backoff of {name} must be 0 <= initial <= max, not {initial_backoff} s and {max_backoff} s."
            )
        if not multiplier >= 1:
            raise ValueError(f"multiplier of {name} must be 1 or more, not {multiplier}.")
        self.name = name
        self.events = Events("retry", name)
        self._max_attempts = max_attempts
        self._is_retryable = is_retryable
        self._budget = budget
        self._wait = FullJitter(initial_backoff, max_backoff, multiplier, retry_after, uniform)
        self._sleep = sleep
        self._sleep_sync = sleep_sync
        self._lock = threading.Lock()
        self._counts = {"retry": 0, "exhausted": 0, "budget_empty": 0, "deadline_spent": 0}

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an asynchronous operation, and again if need be. Raises what the last attempt raised."""
        if self._budget is not None:
            self._budget.deposit()
        try:
            return await operation()
        except Exception as error:
            if not self._is_retryable(error):
                raise
            failures = [error]

        async def attempt() -> T:
            if failures:
                raise failures.pop()
            return await operation()

        return await AsyncRetrying(sleep=self._sleep, **self._rules())(attempt)

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, and again if need be. Raises what the last attempt raised."""
        if self._budget is not None:
            self._budget.deposit()
        try:
            return operation()
        except Exception as error:
            if not self._is_retryable(error):
                raise
            failures = [error]

        def attempt() -> T:
            if failures:
                raise failures.pop()
            return operation()

        return Retrying(sleep=self._sleep_sync, **self._rules())(attempt)

    def snapshot(self) -> RetrySnapshot:
        """What it has done so far."""
        with self._lock:
            counts = dict(self._counts)
        return RetrySnapshot(
            name=self.name,
            repeats=counts["retry"],
            exhausted=counts["exhausted"],
            budget_empty=counts["budget_empty"],
            deadline_spent=counts["deadline_spent"],
            budget=None if self._budget is None else self._budget.snapshot(),
        )

    def _rules(self) -> dict[str, Any]:
        return {
            "retry": self._may_repeat,
            "wait": self._wait,
            "stop": self._must_end,
            "before_sleep": self._tell,
            "reraise": True,
        }

    def _may_repeat(self, state: RetryCallState) -> bool:
        if state.outcome is None or not state.outcome.failed:
            return False
        error = _error(state)
        # The first failure was judged before tenacity saw it.
        return state.attempt_number == 1 or (isinstance(error, Exception) and self._is_retryable(error))

    def _must_end(self, state: RetryCallState) -> bool:
        error = type(_error(state)).__name__
        left = remaining()
        if state.attempt_number >= self._max_attempts:
            kind, reason = "exhausted", f"attempt {state.attempt_number} was the last and failed with {error}"
        elif left is not None and state.upcoming_sleep >= left:
            kind, reason = (
                "deadline_spent",
                f"{left:.3f} s are left, less than the delay of {state.upcoming_sleep:.3f} s",
            )
        elif self._budget is not None and not self._budget.withdraw():
            kind, reason = "budget_empty", f"attempt {state.attempt_number} failed with {error}, and no repeat is left"
        else:
            return False
        self._decided(kind, reason, attempt=state.attempt_number, error=error)
        return True

    def _tell(self, state: RetryCallState) -> None:
        error = type(_error(state)).__name__
        self._decided(
            "retry",
            f"attempt {state.attempt_number} failed with {error}",
            attempt=state.attempt_number,
            delay=state.upcoming_sleep,
            error=error,
        )

    def _decided(self, kind: str, reason: str, **attributes: str | int | float) -> None:
        with self._lock:
            self._counts[kind] += 1
        self.events.emit(kind, reason, **attributes)


def _error(state: RetryCallState) -> BaseException:
    error = None if state.outcome is None else state.outcome.exception()
    if error is None:
        raise RuntimeError("Only failed attempts are judged.")
    return error
