"""Asks again while the first answer is still awaited, and takes the first that comes."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from resilience.deadline import remaining
from resilience.events import Events
from resilience.retry_budget import RetryBudget

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HedgingSnapshot:
    """What a hedging policy has done so far.

    Attributes:
        name: The policy.
        hedges: Attempts that were not the first of their call.
        won_by_hedge: Calls that such an attempt answered first.
        budget_empty: Calls that got no further attempt because the budget allowed none.
        threads_busy: Blocking calls that got no first or further attempt in a thread because none was free.
    """

    name: str
    hedges: int
    won_by_hedge: int
    budget_empty: int
    threads_busy: int


class Hedging:
    """Starts a further attempt whenever the last has had no answer for a while, or has failed in a way that lets others
    succeed. The first success is the answer; the others are cancelled and awaited.

    A fatal error ends the call at once. When every attempt has failed, the last error is raised itself. No attempt
    begins past the deadline (`resilience.deadline.remaining()`) or without the budget's leave; those under way are
    waited for, so that what limits them (`DeadlinePolicy`, or the operation itself) says how they end.

    Only for operations that may be repeated without harm. A call costs a task, a blocking one a hand-over between
    threads. A blocking attempt cannot be cancelled: one that lost ends by itself, in its thread, and must keep to
    `remaining()`. Threads are bounded: without a free one the first attempt runs in the caller's thread, unhedged,
    and a further one is left out.

    Events: `hedge` (attempt), `won` (attempt, attempts, seconds; only where there were several), `budget_empty`,
    `threads_busy`.

    Args:
        name: What it is for.
        max_attempts: In all, the first included; 1 or more.
        delay: Seconds without an answer after which a further attempt begins; 0 or more.
        is_fatal: Tells whether an error, which is always an `Exception`, would meet every attempt.
        budget: Limits further attempts, shared with others; None: only `max_attempts` does.
        clock: Gives monotonic seconds.
        max_threads: Blocking attempts at once, of all calls; 1 or more.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        name: str,
        *,
        max_attempts: int,
        delay: float,
        is_fatal: Callable[[BaseException], bool],
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_threads: int = 16,
    ) -> None:
        if max_attempts < 1 or max_threads < 1:
            raise ValueError(
                f"max_attempts and max_threads of {name} must be 1 or more, not {max_attempts} and {max_threads}."
            )
        if not delay >= 0:
            raise ValueError(f"delay of {name} must be 0 s or more, not {delay}.")
        self.name = name
        self.events = Events("hedging", name)
        self.max_attempts = max_attempts
        self.delay = delay
        self.is_fatal = is_fatal
        self.budget = budget
        self.clock = clock
        # Threads begin when they are first needed.
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="hedging")
        self._free_threads = threading.Semaphore(max_threads)
        self._lock = threading.Lock()
        self._counts = {"hedge": 0, "won_by_hedge": 0, "budget_empty": 0, "threads_busy": 0}

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an asynchronous operation. Raises the fatal error, or the last one if every attempt failed."""
        call = _Call(self)
        running: dict[asyncio.Task[T], int] = {}
        try:
            while True:
                if call.wants_more() and call.begin():
                    running[asyncio.create_task(_awaited(operation))] = call.attempts
                if not running:
                    raise call.last_error
                ended, _ = await asyncio.wait(running, timeout=call.patience(), return_when=asyncio.FIRST_COMPLETED)
                # The first success counts, whatever else ended with it.
                for task in sorted(ended, key=lambda task: (_error(task) is not None, running[task])):
                    attempt = running.pop(task)
                    error = _error(task)
                    if error is None:
                        call.won(attempt)
                        return task.result()
                    call.failed(attempt, error)
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation. Raises as `run`, and `RuntimeError` after `close`."""
        call = _Call(self)
        running = 0
        # Holds no more than this call's attempts.
        ends: queue.SimpleQueue[_End[T]] = queue.SimpleQueue()
        while True:
            if call.wants_more():
                if not self._free_threads.acquire(blocking=False):
                    call.give_up("threads_busy", "every thread is in use")
                    if call.attempts == 0:
                        call.begin()
                        return operation()
                elif call.begin():
                    self._start(operation, call.attempts, ends)
                    running += 1
                else:
                    self._free_threads.release()
            if not running:
                raise call.last_error
            try:
                end = ends.get(timeout=call.patience())
            except queue.Empty:
                continue
            running -= 1
            if end.error is None:
                call.won(end.attempt)
                return end.results[0]
            call.failed(end.attempt, end.error)

    def close(self) -> None:
        """Ends the threads, once what runs in them has ended. Needed only where blocking calls were made."""
        self._threads.shutdown(wait=True)

    def snapshot(self) -> HedgingSnapshot:
        """What it has done so far."""
        with self._lock:
            counts = dict(self._counts)
        return HedgingSnapshot(
            name=self.name,
            hedges=counts["hedge"],
            won_by_hedge=counts["won_by_hedge"],
            budget_empty=counts["budget_empty"],
            threads_busy=counts["threads_busy"],
        )

    def count(self, *what: str) -> None:
        """Counts decisions, for `snapshot`."""
        with self._lock:
            for name in what:
                self._counts[name] += 1

    def _start(self, operation: Callable[[], T], attempt: int, ends: queue.SimpleQueue[_End[T]]) -> None:
        def work() -> None:
            end = _End[T](attempt)
            try:
                end.results.append(operation())
            except BaseException as error:  # It is raised in the caller's thread.
                end.error = error
            finally:
                self._free_threads.release()
                ends.put(end)

        try:
            self._threads.submit(copy_context().run, work)
        except RuntimeError as error:
            self._free_threads.release()
            raise RuntimeError(f"The hedging of {self.name} is closed.") from error


class _Call:
    """One call: what has begun, and whether more may."""

    __slots__ = ("_began_at", "_may_hedge", "_policy", "_reason", "attempts", "last_error")

    def __init__(self, policy: Hedging) -> None:
        self._policy = policy
        self._may_hedge = True
        self._began_at = policy.clock()
        self._reason = f"no answer within {policy.delay} s"
        self.attempts = 0
        self.last_error: BaseException = RuntimeError(f"No attempt of {policy.name} has ended.")

    def wants_more(self) -> bool:
        """Whether another attempt would be in time."""
        if self.attempts == 0:
            return True
        if not self._may_hedge or self.attempts >= self._policy.max_attempts:
            return False
        left = remaining()
        return left is None or left > 0

    def begin(self) -> bool:
        """Counts an attempt that begins now. False: the budget does not allow it."""
        budget = self._policy.budget
        if self.attempts == 0:
            if budget is not None:
                budget.deposit()
        elif budget is not None and not budget.withdraw():
            self.give_up("budget_empty", f"{self._reason}, and no repeat is left")
            return False
        else:
            self._policy.count("hedge")
            self._policy.events.emit("hedge", self._reason, attempt=self.attempts + 1)
            self._reason = f"no answer within {self._policy.delay} s"
        self.attempts += 1
        return True

    def give_up(self, kind: str, reason: str) -> None:
        """There will be no further attempt."""
        self._may_hedge = False
        self._policy.count(kind)
        self._policy.events.emit(kind, reason, attempt=self.attempts + 1)

    def patience(self) -> float | None:
        """Seconds to wait before another attempt; None: there will be none."""
        if not self._may_hedge or self.attempts >= self._policy.max_attempts:
            return None
        left = remaining()
        return self._policy.delay if left is None or left > self._policy.delay else None

    def failed(self, attempt: int, error: BaseException) -> None:
        """Notes an error; raises it if no other attempt can help."""
        if not isinstance(error, Exception) or self._policy.is_fatal(error):
            raise error
        self.last_error = error
        self._reason = f"attempt {attempt} failed with {type(error).__name__}"

    def won(self, attempt: int) -> None:
        """An attempt has the answer."""
        if self.attempts == 1:
            return
        if attempt > 1:
            self._policy.count("won_by_hedge")
        seconds = self._policy.clock() - self._began_at
        self._policy.events.emit(
            "won",
            f"attempt {attempt} of {self.attempts} answered first",
            attempt=attempt,
            attempts=self.attempts,
            seconds=seconds,
        )


@dataclass(slots=True)
class _End(Generic[T]):
    """How one attempt of a blocking call ended: with one result or an error."""

    attempt: int
    results: list[T] = field(default_factory=list)
    error: BaseException | None = None


async def _awaited(operation: Callable[[], Awaitable[T]]) -> T:
    return await operation()


def _error(task: asyncio.Task[T]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
