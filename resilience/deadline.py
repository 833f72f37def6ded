"""A deadline: the time that a call may still take, shared by everything that it does.

The budget travels in a context variable, so that an inner call, a wait for a place or the next hop sees what is left
and nobody waits for an answer that its caller no longer wants.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from resilience.errors import BulkheadFullError, DeadlineExceededError
from resilience.events import Events

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic time.

    Attributes:
        ends_at: Monotonic seconds.
        clock: Gives monotonic seconds.
    """

    ends_at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; 0 when it has passed."""
        return max(0.0, self.ends_at - self.clock())


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """The deadline of what runs now; None: there is none."""
    return _current.get()


def remaining() -> float | None:
    """Seconds that what runs now may still take; None: no limit."""
    deadline = _current.get()
    return None if deadline is None else deadline.remaining()


class Limit:
    """Limits what is done in its block; see `within`. Made for one block."""

    __slots__ = ("_clock", "_seconds", "_token")

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._token: Token[Deadline | None] | None = None

    def __enter__(self) -> Deadline | None:
        outer = _current.get()
        # Compared by what is left, for the outer deadline may have another clock.
        if self._seconds is None or (outer is not None and outer.remaining() <= self._seconds):
            return outer
        deadline = Deadline(self._clock() + self._seconds, self._clock)
        self._token = _current.set(deadline)
        return deadline

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None


def within(seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Limit:
    """Limits what is done in the block: `with within(0.5) as deadline`. An outer deadline that is earlier stays.

    Args:
        seconds: From the block's beginning on; None: only the outer deadline holds.
        clock: Gives monotonic seconds.

    Returns:
        A context manager; it gives the `Deadline` that holds in the block, None where there is none.
    """
    return Limit(seconds, clock)


def begin(seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Deadline | None:
    """Limits all that the current task does from now on, as a server does that runs each call in a task of its own.

    Args:
        seconds: From now on; None: no limit, whatever was before.
        clock: Gives monotonic seconds.
    """
    deadline = None if seconds is None else Deadline.after(seconds, clock)
    _current.set(deadline)
    return deadline


@dataclass(frozen=True, slots=True)
class DeadlineSnapshot:
    """What a deadline policy has done so far.

    Attributes:
        name: What it limits.
        seconds: The limit; None: the outer deadline only.
        spent: Calls that it ended, or refused to begin.
    """

    name: str
    seconds: float | None
    spent: int


class DeadlinePolicy:
    """Gives an operation a limit in time, the same whether it is for a whole call or for one attempt.

    Args:
        seconds: The limit; an outer deadline that is earlier wins. None: the outer one only.
        name: What it limits, for messages.
        enforced: Whether the operation is cancelled when the time is spent. False: the operation itself keeps to
            `remaining()`, as gRPC calls do. Blocking operations cannot be cancelled and must keep to it always.
        clock: Gives monotonic seconds.

    Events: `deadline_spent`.

    Raises:
        ValueError: The limit is negative or no number.
    """

    def __init__(
        self,
        seconds: float | None,
        name: str = "call",
        *,
        enforced: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"The deadline of {name} must be 0 s or more, not {seconds}.")
        self.name = name
        self.events = Events("deadline", name)
        self._seconds = seconds
        self._enforced = enforced
        self._clock = clock
        self._lock = threading.Lock()
        self._spent_calls = 0

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation. Raises `DeadlineExceededError` when the time is spent, before or meanwhile, and
        `BulkheadFullError` when it was spent waiting for a place."""
        with within(self._seconds, self._clock) as deadline:
            if deadline is None:
                return await operation()
            left = deadline.remaining()
            if left <= 0:
                raise self._spent()
            if not self._enforced:
                return await operation()
            if math.isinf(left):
                return await operation()
            limit = asyncio.timeout(left)
            try:
                async with limit:
                    return await operation()
            except Exception as error:
                # Whatever the operation makes of being cancelled, the deadline is why it ended.
                if not limit.expired():
                    raise
                # It was still waiting for a place: the callee was never asked, and a breaker must not count it.
                refusal = error.__cause__.__cause__ if error.__cause__ is not None else None
                if isinstance(refusal, BulkheadFullError):
                    raise refusal from None
                raise self._spent() from error

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, unless the time is spent before."""
        with within(self._seconds, self._clock) as deadline:
            if deadline is not None and deadline.remaining() <= 0:
                raise self._spent()
            return operation()

    def snapshot(self) -> DeadlineSnapshot:
        """What it has done so far."""
        with self._lock:
            return DeadlineSnapshot(self.name, self._seconds, self._spent_calls)

    def _spent(self) -> DeadlineExceededError:
        with self._lock:
            self._spent_calls += 1
        message = f"The deadline of {self.name} has passed."
        self.events.emit("deadline_spent", message)
        return DeadlineExceededError(message)
