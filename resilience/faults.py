"""Faults on demand, for tests: what a policy does about errors, delays and lost answers is seen by causing them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from resilience.deadline import remaining
from resilience.errors import DeadlineExceededError, InjectedFaultError
from resilience.events import Events

T = TypeVar("T")


def injected_fault() -> BaseException:
    """The error that is raised where a test names no other."""
    return InjectedFaultError("A test asked for this failure.")


@dataclass(frozen=True, slots=True)
class FaultSnapshot:
    """What was caused so far.

    Attributes:
        name: The policy.
        calls: Operations that came by.
        errors: Those that failed without having run.
        lost: Those that ran and whose answer was lost.
        delays: Those that were delayed, also if they failed then.
    """

    name: str
    calls: int = 0
    errors: int = 0
    lost: int = 0
    delays: int = 0


class FaultInjection:
    """Delays operations, fails them, or loses their answers, at random and the same each time for the same seed.

    Each call draws three numbers whatever the rates are, so that a change of one rate does not move the other faults.
    A delay that outlasts the deadline ends with it, as a real call's would.

    Events: `delay` (seconds), `error`, `lost`.

    Args:
        name: What it is for.
        error_rate: The share of calls that fail instead of running, 0 to 1.
        error: Makes the error that is raised.
        delay_rate: The share of calls that are delayed first, 0 to 1.
        delay: The delay in seconds, 0 or more.
        lost_rate: The share of calls that run and then fail, as when a connection breaks before the answer, 0 to 1.
        random: Decides; seed it.
        sleep: Waits some seconds, in asyncio.
        sleep_sync: Waits some seconds, blocking.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        name: str,
        *,
        error_rate: float = 0.0,
        error: Callable[[], BaseException] = injected_fault,
        delay_rate: float = 0.0,
        delay: float = 0.0,
        lost_rate: float = 0.0,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        sleep_sync: Callable[[float], None] = time.sleep,
    ) -> None:
        if not delay >= 0:
            raise ValueError(f"delay of {name} must be 0 s or more, not {delay}.")
        self.name = name
        self.events = Events("fault_injection", name)
        self._error = error
        self._delay = delay
        self._random = random
        self._sleep = sleep
        self._sleep_sync = sleep_sync
        self._lock = threading.Lock()
        self._rates = {"error": 0.0, "delay": 0.0, "lost": 0.0}
        self._done = FaultSnapshot(name)
        self.change(error_rate=error_rate, delay_rate=delay_rate, lost_rate=lost_rate)

    def change(
        self, *, error_rate: float | None = None, delay_rate: float | None = None, lost_rate: float | None = None
    ) -> None:
        """Begins or ends faults from the next call on.

        Args:
            error_rate: As for the constructor; None: as before.
            delay_rate: As for the constructor; None: as before.
            lost_rate: As for the constructor; None: as before.

        Raises:
            ValueError: A rate is not between 0 and 1; nothing is changed.
        """
        rates = {"error": error_rate, "delay": delay_rate, "lost": lost_rate}
        given = {kind: rate for kind, rate in rates.items() if rate is not None}
        for kind, rate in given.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"{kind}_rate of {self.name} must be 0 to 1, not {rate}.")
        with self._lock:
            self._rates.update(given)

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an asynchronous operation, or what a fault makes of it.

        Raises:
            DeadlineExceededError: The delay outlasted the deadline.
            BaseException: What `error` makes, or what the operation raised.
        """
        fails, delayed, loses = self._draw()
        if delayed:
            seconds, spent = self._pause()
            await self._sleep(seconds)
            self._check(spent)
        if fails:
            raise self._fault("error")
        answer = await operation()
        if loses:
            raise self._fault("lost")
        return answer

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, or what a fault makes of it. Raises as `run`."""
        fails, delayed, loses = self._draw()
        if delayed:
            seconds, spent = self._pause()
            self._sleep_sync(seconds)
            self._check(spent)
        if fails:
            raise self._fault("error")
        answer = operation()
        if loses:
            raise self._fault("lost")
        return answer

    def snapshot(self) -> FaultSnapshot:
        """What was caused so far."""
        with self._lock:
            return self._done

    def _draw(self) -> tuple[bool, bool, bool]:
        with self._lock:
            fails = self._random.random() < self._rates["error"]
            delayed = self._random.random() < self._rates["delay"]
            loses = self._random.random() < self._rates["lost"]
            self._done = replace(self._done, calls=self._done.calls + 1)
        return fails, delayed, loses

    def _pause(self) -> tuple[float, bool]:
        """Seconds to wait, and whether the deadline passes meanwhile."""
        with self._lock:
            self._done = replace(self._done, delays=self._done.delays + 1)
        left = remaining()
        spent = left is not None and left <= self._delay
        seconds = left if spent and left is not None else self._delay
        self.events.emit("delay", "asked for", seconds=seconds)
        return seconds, spent

    def _check(self, spent: bool) -> None:
        if spent:
            raise DeadlineExceededError(f"The deadline passed during the injected delay of {self.name}.")

    def _fault(self, kind: str) -> BaseException:
        with self._lock:
            if kind == "error":
                self._done = replace(self._done, errors=self._done.errors + 1)
            else:
                self._done = replace(self._done, lost=self._done.lost + 1)
        self.events.emit(kind, "asked for")
        return self._error()
