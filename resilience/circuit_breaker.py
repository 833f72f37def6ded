"""A circuit breaker: stops calling what fails, and tries it again with few calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from resilience.breaker_settings import BreakerSettings, BreakerSnapshot, State
from resilience.breaker_windows import CountWindow, TimeWindow, Window
from resilience.errors import CircuitOpenError
from resilience.events import Events
from resilience.outcome import Classify, Outcome, classify

T = TypeVar("T")

__all__ = ["BreakerSettings", "BreakerSnapshot", "CircuitBreaker", "Permit", "State"]


class Permit:
    """Leave to make one call. Whoever has it says how the call ended; only the first word counts.

    Attributes:
        started: When it was given, in monotonic seconds.
    """

    __slots__ = ("_breaker", "ended", "generation", "started", "timed")

    def __init__(self, breaker: CircuitBreaker, generation: int, started: float, timed: bool) -> None:
        self._breaker = breaker
        self.generation = generation
        self.started = started
        self.timed = timed
        self.ended = False

    def succeed(self) -> None:
        """The callee answered."""
        self._breaker.end(self, Outcome.SUCCESS)

    def fail(self, error: BaseException | None = None) -> None:
        """The callee failed. The error is told as the reason; it is not classified."""
        self._breaker.end(self, Outcome.FAILURE, error)

    def ignore(self) -> None:
        """The call says nothing of the callee. A probe's place becomes free."""
        self._breaker.end(self, Outcome.IGNORED)


class CircuitBreaker:
    """Counts how calls to one callee end and refuses further ones while it fails.

    The names and rules are those of resilience4j, except: failures in a row can open it too; the end of half-open is
    a number of successes and not a rate; a call counts only in the state that it began in; a probe that does not end
    gives its place back after `open_seconds` (its end counts still, while the breaker is half-open); a breaker that is
    forced open tells of refusals; and `reset()` is told as `closed`.

    Events: `success`, `failure`, `open`, `half_open`, `closed`, `rejected`.

    Args:
        name: Which one, for messages and events.
        settings: When it opens and closes.
        classify: What an exception says of the callee.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        classify: Classify = classify,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.settings = settings or BreakerSettings()
        self.events = Events("circuit_breaker", name)
        self._classify = classify
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State.CLOSED
        # Changes with every change of state: a call that began before one is not counted after it.
        self._generation = 0
        self._window = self._new_window()
        self._minimum_calls = self.settings.minimum_calls
        if self.settings.window_seconds is None:
            self._minimum_calls = min(self._minimum_calls, self.settings.window_calls)
        self._consecutive = 0
        self._opened_at = 0.0
        # The probes under way, the oldest first.
        self._probes: dict[Permit, None] = {}
        self._probe_successes = 0
        self._probe_failures = 0
        self._rejected = 0

    @property
    def state(self) -> State:
        """Whether calls pass. An open breaker becomes half-open with the first call after its time."""
        return self._state

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation. Raises `CircuitOpenError` instead when the breaker is open."""
        permit = self.enter()
        try:
            result = await operation()
        except BaseException as error:
            self.end(permit, self._classify(error), error)
            raise
        self.end(permit, Outcome.SUCCESS)
        return result

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, as `run` does an asynchronous one."""
        permit = self.enter()
        try:
            result = operation()
        except BaseException as error:
            self.end(permit, self._classify(error), error)
            raise
        self.end(permit, Outcome.SUCCESS)
        return result

    def enter(self, *, timed: bool = True) -> Permit:
        """Asks leave for one call, for those that `run` does not suit, as streams.

        Args:
            timed: Whether the call can be slow. False: its length says nothing, as with streams.

        Returns:
            The permit. Say `succeed`, `fail` or `ignore` when the call ends.

        Raises:
            CircuitOpenError: The breaker is open, or half-open with all probes under way. `retry_after` is when a
                probe has a place at the latest; None if it is forced open.
        """
        now = self._clock()
        half_open = False
        with self._lock:
            state = self._state
            if state is State.CLOSED or state is State.FORCED_CLOSED:
                return Permit(self, self._generation, now, timed)
            retry_after: float | None = None
            if state is State.OPEN:
                retry_after = self._opened_at + self.settings.open_seconds - now
                if retry_after <= 0:
                    state = State.HALF_OPEN
                    half_open = True
                    self._change(state)
            permit: Permit | None = None
            if state is State.HALF_OPEN:
                retry_after = self._wait_for_probe(now)
                if retry_after is None:
                    permit = Permit(self, self._generation, now, timed)
                    self._probes[permit] = None
            if permit is None:
                self._rejected += 1
        if half_open:
            self.events.emit("half_open", f"{self.settings.open_seconds:g} s have passed since it opened")
        if permit is not None:
            return permit
        reason = "all probes are under way" if state is State.HALF_OPEN else f"the breaker is {state.value}"
        self.events.emit("rejected", reason)
        raise CircuitOpenError(f"{self.name} is not called: {reason}.", retry_after=retry_after)

    def end(self, permit: Permit, outcome: Outcome, error: BaseException | None = None) -> None:
        """Says how a call ended; `Permit` has a method for each outcome."""
        now = self._clock()
        settings = self.settings
        seconds = now - permit.started
        slow = permit.timed and seconds > settings.slow_call_seconds
        failed = outcome is Outcome.FAILURE
        became: State | None = None
        reason = ""
        with self._lock:
            if permit.ended:
                return
            permit.ended = True
            current = permit.generation == self._generation
            if current and self._state is State.HALF_OPEN:
                self._probes.pop(permit, None)
                if outcome is not Outcome.IGNORED:
                    became, reason = self._end_probe(failed or (slow and settings.slow_call_rate is not None))
            elif current and self._state is State.CLOSED and outcome is not Outcome.IGNORED:
                self._consecutive = self._consecutive + 1 if failed else 0
                self._window.record(failed, slow, now)
                reason = self._why_open(failed)
                became = State.OPEN if reason else None
            if became is State.OPEN:
                self._opened_at = now
            if became is not None:
                self._change(became)
        if outcome is Outcome.SUCCESS:
            self.events.emit("success", slow=slow)
        elif failed:
            self.events.emit("failure", type(error).__name__ if error is not None else "", slow=slow)
        if became is not None:
            self.events.emit(became.value, reason)

    def force_open(self) -> None:
        """Refuses all calls from now on, until `reset()` or `force_closed()`."""
        self._force(State.FORCED_OPEN, "open")

    def force_closed(self) -> None:
        """Lets all calls through from now on and counts none, until `reset()` or `force_open()`."""
        self._force(State.FORCED_CLOSED, "closed")

    def reset(self) -> None:
        """Closes the breaker and forgets all that it counted."""
        with self._lock:
            self._change(State.CLOSED)
        self.events.emit("closed", "reset")

    def snapshot(self) -> BreakerSnapshot:
        """The breaker at this moment."""
        now = self._clock()
        with self._lock:
            if self._state is State.CLOSED:
                self._window.forget(now)
            is_open = self._state is State.OPEN
            return BreakerSnapshot(
                self.name,
                self._state,
                self._window.calls,
                self._window.failures,
                self._window.slow_calls,
                self._consecutive,
                sum(now - probe.started < self.settings.open_seconds for probe in self._probes),
                self._probe_successes,
                self._probe_failures,
                self._rejected,
                max(0.0, self._opened_at + self.settings.open_seconds - now) if is_open else None,
            )

    def _new_window(self) -> Window:
        if self.settings.window_seconds is None:
            return CountWindow(self.settings.window_calls)
        return TimeWindow(self.settings.window_seconds)

    def _change(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._probes.clear()
        if state is not State.OPEN:
            self._probe_successes = self._probe_failures = 0
        if state is State.CLOSED:
            self._window = self._new_window()
            self._consecutive = 0

    def _force(self, state: State, kind: str) -> None:
        with self._lock:
            if self._state is state:
                return
            self._change(state)
        self.events.emit(kind, "forced")

    def _wait_for_probe(self, now: float) -> float | None:
        """Seconds until a probe's place is free at the latest; None: one is free now."""
        for probe in [probe for probe in self._probes if now - probe.started >= self.settings.open_seconds]:
            del self._probes[probe]
        used = len(self._probes) + self._probe_successes + self._probe_failures
        if used < self.settings.half_open_calls:
            return None
        return min(probe.started for probe in self._probes) + self.settings.open_seconds - now

    def _end_probe(self, failed: bool) -> tuple[State | None, str]:
        settings = self.settings
        if failed:
            self._probe_failures += 1
            if self._probe_failures > settings.half_open_calls - settings.half_open_successes:
                return State.OPEN, f"{self._probe_failures} of {settings.half_open_calls} probes failed or were slow"
        else:
            self._probe_successes += 1
            if self._probe_successes >= settings.half_open_successes:
                return State.CLOSED, f"{self._probe_successes} probes succeeded"
        return None, ""

    def _why_open(self, failed: bool) -> str:
        """Why the breaker opens now; "": it does not."""
        settings, window = self.settings, self._window
        if failed and settings.consecutive_failures is not None and self._consecutive >= settings.consecutive_failures:
            return f"{self._consecutive} failures in a row"
        if window.calls < self._minimum_calls:
            return ""
        rate = settings.failure_rate
        if rate is not None and window.failures and window.failures / window.calls >= rate:
            return f"{window.failures} of {window.calls} calls failed"
        rate = settings.slow_call_rate
        if rate is not None and window.slow_calls and window.slow_calls / window.calls >= rate:
            return f"{window.slow_calls} of {window.calls} calls took longer than {settings.slow_call_seconds:g} s"
        return ""
