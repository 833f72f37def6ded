"""Which calls are let in under overload: bulk is shed first, what controls a running incident last."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from resilience.concurrency_limit import ConcurrencyLimit, ConcurrencyLimitSnapshot, drops
from resilience.errors import OverloadedError
from resilience.events import Events

T = TypeVar("T")

_CRITICAL, _INTERACTIVE, _BULK = 1, 2, 3
_NAMES = {_CRITICAL: "CRITICAL", _INTERACTIVE: "INTERACTIVE", _BULK: "BULK"}

# CRITICAL calls alone fill what lies above the share of INTERACTIVE. So with the whole limit on top of that, one of
# them is refused only when they are as many as the limit themselves. What they add to latency shrinks the limit, so
# the overshoot does not last.
_INTERACTIVE_SHARE = 0.95
_CRITICAL_SHARE = 1.0 + _INTERACTIVE_SHARE

# BULK leaves room for calls that come in bursts. How much they need depends on them: each one that is refused takes a
# tenth of its share from BULK, which gets it back slowly.
_BULK_SHARE = 0.8
_LEAST_BULK_SHARE = 0.1
_BULK_CUT = 0.9
_BULK_GAIN_PER_SECOND = 0.02
_STANDING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class AdmissionSnapshot:
    """What an admission has decided.

    Attributes:
        rejected: Calls refused so far, by priority.
        bulk_share: How much of the limit BULK may fill now.
        limit: The limit that the calls share.
    """

    rejected: Mapping[int, int]
    bulk_share: float
    limit: ConcurrencyLimitSnapshot


class Admission:
    """Lets calls in by priority, up to a limit that they share. Safe to use from several threads.

    Priorities are those of the contract. 3, BULK, fills up to 0.8 of the limit, and less while more important calls are
    refused; 2, INTERACTIVE, up to 0.95; 1, CRITICAL, is refused only when calls of its own kind fill the limit.

    Event: `rejected`, with the priority.

    Args:
        name: What is called, for messages and events.
        limit: How many calls may be under way.
    """

    def __init__(self, name: str, limit: ConcurrencyLimit) -> None:
        self.name = name
        self.events = Events("admission", name)
        self._limit = limit
        self._shares = {_CRITICAL: _CRITICAL_SHARE, _INTERACTIVE: _INTERACTIVE_SHARE, _BULK: _BULK_SHARE}
        self._rejected = dict.fromkeys(_NAMES, 0)
        self._bulk_cut_at: float | None = None
        self._lock = threading.Lock()

    def enter(self, priority: int) -> float:
        """Lets a call in.

        Args:
            priority: 1 CRITICAL, 2 INTERACTIVE, 3 BULK.

        Returns:
            The time at which it began, for `leave`, which must follow exactly once.

        Raises:
            OverloadedError: Too many calls are under way for one of its priority; `retry_after` is set.
            KeyError: There is no such priority.
        """
        started = self._limit.try_start(self._shares[priority])
        if started is None:
            raise self._refusal(priority)
        if self._bulk_cut_at is not None:
            self._give_back_to_bulk(started)
        return started

    def turn_away(self, priority: int, coming: int = 0, stands: bool = False) -> OverloadedError | None:
        """Refuses a call that is not here yet, if `enter` would.

        Args:
            priority: As of `enter`.
            coming: Calls that were not turned away and have not entered yet; see `ConcurrencyLimit.refuse`.
            stands: Whether more wait to be looked at than can be: a quarter of the share is left then, so that what is
                let in does not make the others wait longer.
        """
        share = self._shares[priority] * (_STANDING_SHARE if stands else 1.0)
        return self._refusal(priority) if self._limit.refuse(share, coming) else None

    def leave(self, started: float, dropped: bool = False, *, observed: bool = True) -> None:
        """Ends a call.

        Args:
            started: What `enter` returned.
            dropped: Whether it was not answered in time, or refused for overload further on.
            observed: False: it says nothing at all, because its caller gave up or it failed before the work was done.
        """
        self._limit.finish(started, dropped, observed=observed)

    def at(self, priority: int) -> PriorityAdmission:
        """The admission of calls of one priority, as a policy."""
        return PriorityAdmission(self, priority)

    def snapshot(self) -> AdmissionSnapshot:
        """What it has decided so far."""
        with self._lock:
            return AdmissionSnapshot(
                MappingProxyType(dict(self._rejected)), self._shares[_BULK], self._limit.snapshot()
            )

    def _refusal(self, priority: int) -> OverloadedError:
        with self._lock:
            self._rejected[priority] += 1
            if priority != _BULK and not self._limit.probing:
                self._shares[_BULK] = max(_LEAST_BULK_SHARE, self._shares[_BULK] * _BULK_CUT)
                self._bulk_cut_at = self._limit.clock()
        retry_after = self._limit.retry_after()
        reason = f"the share of {_NAMES[priority]} in the concurrency limit is full"
        self.events.emit("rejected", reason, priority=priority, limit=self._limit.limit, retry_after=retry_after)
        return OverloadedError(f"{self.name} is overloaded: {reason}.", retry_after=retry_after)

    def _give_back_to_bulk(self, now: float) -> None:
        with self._lock:
            if self._bulk_cut_at is None or now <= self._bulk_cut_at:
                return
            gained = self._shares[_BULK] + (now - self._bulk_cut_at) * _BULK_GAIN_PER_SECOND
            self._shares[_BULK] = min(_BULK_SHARE, gained)
            self._bulk_cut_at = now if gained < _BULK_SHARE else None


class PriorityAdmission:
    """The admission of calls of one priority, as a policy. Made by `Admission.at`."""

    def __init__(self, admission: Admission, priority: int) -> None:
        self.name = admission.name
        self.events = admission.events
        self._admission = admission
        self._priority = priority

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation. Raises `OverloadedError` if it is not let in."""
        started = self._admission.enter(self._priority)
        try:
            result = await operation()
        except BaseException as error:
            self._admission.leave(started, drops(error), observed=False)
            raise
        self._admission.leave(started)
        return result

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, as `run` does an asynchronous one."""
        started = self._admission.enter(self._priority)
        try:
            result = operation()
        except BaseException as error:
            self._admission.leave(started, drops(error), observed=False)
            raise
        self._admission.leave(started)
        return result

    def snapshot(self) -> AdmissionSnapshot:
        """What the admission of all priorities has decided so far."""
        return self._admission.snapshot()
