"""How many calls may be under way at once, learnt from how long they take.

The idea is that of Netflix's Gradient2 and of Envoy's adaptive concurrency: while calls take no longer than they do
without a queue, the limit grows; when they take longer, work is queueing somewhere and the limit shrinks in proportion,
`limit * tolerance * baseline / latency`, so that what is admitted is answered in time and the rest is refused at once.

What decides is the baseline, the mean latency without a queue. A moving average drifts up under a long overload and
lets the limit run away; a minimum sees the luckiest calls and starves a service whose methods differ. So it is
measured: now and then, when the limit is reached or latency has risen, the limit is cut to a quarter until the queue
is gone, some calls are started, and those very calls are timed. If latency fell with the calls under way, it was
queueing, and the baseline stays; if it did not fall, the work itself has become slower, and the baseline follows. The
same happens whenever the limit has shrunk by two fifths, so that slower work cannot wear it down to its minimum.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from resilience.errors import OverloadedError
from resilience.events import Events

T = TypeVar("T")

_SMOOTHING = 0.2
_STRONGEST_CUT = 0.5
# Seconds that a window waits for a generation of calls: a callee far too slow for the limit must be seen in time.
_LONGEST_GENERATION = 1.0
_PROBE_SHARE = 0.25
_PROBE_CALLS = 50
_IDLE_SMOOTHING = 0.05
_SHRUNK = 0.6
# A measurement that changes the baseline by more than this is followed by another one soon.
_SETTLED = 0.2
_PROBE_AGAIN = 0.05
_LONGEST_RETRY_AFTER = 5.0
_COMING_SHARE = 0.25


class _Probe(Enum):
    NONE = 0
    DRAINING = 1
    STARTING = 2
    FINISHING = 3


@dataclass(frozen=True, slots=True)
class ConcurrencyLimitSnapshot:
    """What a concurrency limit knows.

    Attributes:
        limit: Calls that may be under way at once.
        in_flight: Calls that are under way.
        baseline: Mean seconds of a call without a queue; None: not measured yet.
        latency: Mean seconds of the calls last seen; None: none yet.
        probing: Whether fewer calls are let in for a moment, to measure the baseline.
        rejected: Calls refused so far.
    """

    limit: float
    in_flight: int
    baseline: float | None
    latency: float | None
    probing: bool
    rejected: int


class ConcurrencyLimit:
    """Limits calls under way to what the callee answers in time. Safe to use from several threads.

    Event: `rejected`.

    Args:
        name: What is limited, for messages and events.
        initial: The limit to begin with.
        minimum: What longer latency may shrink the limit to; 1 or more.
        maximum: The greatest limit.
        tolerance: How many times the baseline the mean latency may be before the limit shrinks; above 1.
        window: The least seconds between two changes of the limit.
        samples: The least calls between two changes of the limit.
        probe_interval: Seconds between two measurements of the baseline, about, while calls press against the limit.
        clock: Gives monotonic seconds.
        least: What calls that are not answered in time may shrink the limit to; None: as `minimum`. Long latency may
            come from a mix of calls, of which some take longer than others; being late may not.
        uniform: Draws a number between two others: spreads the measurements of several processes.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: int = 20,
        minimum: int = 4,
        maximum: int = 1000,
        tolerance: float = 2.0,
        window: float = 0.1,
        samples: int = 20,
        probe_interval: float = 10.0,
        least: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if not 1 <= minimum <= initial <= maximum:
            raise ValueError(f"1 <= minimum <= initial <= maximum must hold, not {minimum}, {initial}, {maximum}.")
        if least is not None and not 1 <= least <= minimum:
            raise ValueError(f"1 <= least <= minimum must hold, not {least}, {minimum}.")
        if tolerance <= 1 or window <= 0 or samples < 1 or probe_interval <= 0:
            raise ValueError("tolerance must be above 1, window, samples and probe_interval above 0.")
        self.name = name
        self.events = Events("concurrency_limit", name)
        self._minimum, self._maximum = minimum, maximum
        self._least = minimum if least is None else least
        self._tolerance = tolerance
        self._window = window
        self._samples = samples
        self._probe_interval = probe_interval
        self.clock = clock
        self._uniform = uniform
        self._lock = threading.Lock()
        self._limit = float(initial)
        self._admitted = float(initial)  # The limit, or what a probe has cut it to.
        self._in_flight = 0
        self._rejected = 0
        self._baseline: float | None = None
        self._latency: float | None = None
        self._peak = 0
        self._refused = False
        self._new_window(clock())
        self._probe = _Probe.NONE
        self._next_probe_at = -math.inf
        self._probed_limit = self._limit
        self._probe_ends_at = 0.0
        self._reduction = 1.0
        self._latency_before = 0.0
        self._cohort_from = self._cohort_to = 0.0
        self._cohort_started = self._cohort_finished = self._cohort_lost = 0
        self._cohort_seconds = self._cohort_squares = 0.0

    @property
    def limit(self) -> int:
        """Calls that may be under way at once."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """Calls that are under way."""
        return self._in_flight

    @property
    def probing(self) -> bool:
        """Whether fewer calls are let in for a moment, to measure the baseline."""
        return self._admitted < self._limit

    def start(self, share: float = 1.0) -> float:
        """Begins a call.

        Args:
            share: How much of the limit this call may fill: 0.8 leaves a fifth of it to others. Above 1, measurements
                of the baseline do not hold it up either.

        Returns:
            The time at which it began, for `finish`, which must follow exactly once.

        Raises:
            OverloadedError: So many calls are under way already; `retry_after` says when the limit may be another.
        """
        started = self.try_start(share)
        if started is not None:
            return started
        retry_after = self.retry_after()
        self.events.emit("rejected", "concurrency limit reached", limit=self.limit, retry_after=retry_after)
        raise OverloadedError(f"{self.name} has as many calls as it can answer in time.", retry_after=retry_after)

    def try_start(self, share: float = 1.0) -> float | None:
        """Begins a call as `start` does, but returns None instead of raising, and without an event."""
        with self._lock:
            if self._refuses(share):
                return None
            self._in_flight = in_flight = self._in_flight + 1
            if in_flight > self._peak:
                self._peak = in_flight
            now = self.clock()
            if self._probe is _Probe.STARTING:
                self._cohort_started += 1
                if self._cohort_started >= _PROBE_CALLS:
                    self._cohort_to = now
                    self._probe = _Probe.FINISHING
                    self._admitted = self._limit
            return now

    def refuse(self, share: float = 1.0, coming: int = 0) -> bool:
        """Counts a call as refused if `try_start` would return None with some further calls begun.

        Args:
            share: As of `start`.
            coming: How many. They count for a quarter of the limit at most: whoever begins them slowly must not keep
                others out.
        """
        with self._lock:
            return self._refuses(share, coming)

    def finish(self, started: float, dropped: bool = False, *, observed: bool = True) -> None:
        """Ends a call.

        Args:
            started: What `start` returned.
            dropped: Whether it was not answered in time, or refused for overload further on: then it says nothing of
                latency, and the limit shrinks by the share of such calls.
            observed: False: it says nothing at all, because its caller gave up or it failed before the work was done.
        """
        with self._lock:
            now = self.clock()
            self._in_flight -= 1
            if dropped:
                self._dropped += 1
            elif observed:
                seconds = now - started
                self._finished += 1
                self._seconds += seconds
                self._squares += seconds * seconds
            if self._probe is not _Probe.NONE:
                self._observe_probe(now, started, dropped or not observed)
            ended = self._finished + self._dropped
            if now >= self._window_ends_at and (
                ended >= self._needed or (ended >= self._samples and now >= self._window_ends_at + _LONGEST_GENERATION)
            ):
                self._adapt(now)

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation as one call. Raises `OverloadedError` if there is no place for it."""
        started = self.start()
        try:
            result = await operation()
        except BaseException as error:
            self.finish(started, drops(error), observed=False)
            raise
        self.finish(started)
        return result

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, as `run` does an asynchronous one."""
        started = self.start()
        try:
            result = operation()
        except BaseException as error:
            self.finish(started, drops(error), observed=False)
            raise
        self.finish(started)
        return result

    def retry_after(self) -> float:
        """Seconds after which the limit may be another: a window, or what a call takes if that is longer. In tenths."""
        return min(_LONGEST_RETRY_AFTER, math.ceil(10 * max(self._window, self._latency or 0.0)) / 10)

    def snapshot(self) -> ConcurrencyLimitSnapshot:
        """What it knows now."""
        with self._lock:
            return ConcurrencyLimitSnapshot(
                self._limit,
                self._in_flight,
                self._baseline,
                self._latency,
                self.probing,
                self._rejected,
            )

    def _refuses(self, share: float, coming: int = 0) -> bool:
        places = share * (self._admitted if share <= 1 else self._limit)
        if self._in_flight + min(coming, places * _COMING_SHARE) < places:
            return False
        self._rejected += 1
        self._refused = True
        return True

    def _new_window(self, now: float) -> None:
        self._window_ends_at = now + self._window
        # One generation of calls at least: fewer would be mostly the quick ones.
        self._needed = max(self._samples, int(self._limit))
        self._finished = self._dropped = 0
        self._seconds = self._squares = 0.0
        self._peak = self._in_flight
        self._refused = False

    def _adapt(self, now: float) -> None:
        """Sets the limit anew at the end of a window."""
        gradient = 1.0
        if self._finished:
            self._latency = self._seconds / self._finished
            if self._baseline is None:
                self._baseline = self._latency
            variance = max(0.0, self._squares / self._finished - self._latency**2)
            # Where methods differ, windows differ by chance: only what is beyond it, one standard error, counts.
            certain = max(self._latency - math.sqrt(variance / self._finished), 1e-9)
            gradient = min(1.0, self._tolerance * self._baseline / certain)
        in_use = self._peak >= self._limit / 2
        idle = self._peak <= self._limit * _PROBE_SHARE
        if idle and self._finished and gradient == 1.0 and self._baseline is not None and self._latency is not None:
            # As few calls as in a measurement: as good as one.
            self._baseline += _IDLE_SMOOTHING * (self._latency - self._baseline)
        if self._probe is _Probe.NONE or self._probe is _Probe.FINISHING:
            # Room to grow only where there is no queue; seldom drops do not outweigh it, many do.
            drops = self._dropped / (self._finished + self._dropped)
            recovers = self._limit < self._minimum and not self._dropped
            may_grow = (gradient == 1.0 or recovers) and in_use and self._finished
            allowance = math.sqrt(self._limit) if may_grow else 0.0
            floor = float(self._least if self._dropped else min(self._minimum, self._limit))
            wanted = self._limit * max(_STRONGEST_CUT, gradient * (1 - drops)) + allowance
            limit = self._limit + _SMOOTHING * (wanted - self._limit)
            self._limit = self._admitted = min(float(self._maximum), max(floor, limit))
        if self._probe is _Probe.NONE:
            shrunk = self._limit <= self._probed_limit * _SHRUNK
            if (gradient < 1.0 or self._refused) and self._finished and (now >= self._next_probe_at or shrunk):
                self._begin_probe(now)
        elif now >= self._probe_ends_at:
            self._end_probe(now)
        self._new_window(now)

    def _begin_probe(self, now: float) -> None:
        busy = min(self._limit, float(self._peak))
        cut = max(float(self._minimum), busy * _PROBE_SHARE)
        self._reduction = min(1.0, cut / busy)
        self._latency_before = self._latency or 0.0
        self._admitted = min(self._limit, cut)
        self._probe = _Probe.DRAINING
        self._probed_limit = self._limit
        self._probe_ends_at = now + max(1.0, 20 * (self._latency or 0.0))
        self._next_probe_at = now + self._probe_interval * self._uniform(0.8, 1.2)

    def _observe_probe(self, now: float, started: float, lost: bool) -> None:
        if self._probe is _Probe.DRAINING:
            if self._in_flight <= self._admitted:
                self._probe = _Probe.STARTING
                self._cohort_from, self._cohort_to = now, math.inf
                self._cohort_started = self._cohort_finished = self._cohort_lost = 0
                self._cohort_seconds = self._cohort_squares = 0.0
            return
        if not self._cohort_from <= started <= self._cohort_to:
            return
        if lost:
            self._cohort_lost += 1
        else:
            self._cohort_finished += 1
            self._cohort_seconds += now - started
            self._cohort_squares += (now - started) ** 2
        if self._cohort_finished + self._cohort_lost >= _PROBE_CALLS:
            self._end_probe(now)

    def _end_probe(self, now: float) -> None:
        measured_all = self._probe is _Probe.FINISHING
        self._probe = _Probe.NONE
        self._admitted = self._limit
        if not measured_all or self._cohort_finished < _PROBE_CALLS / 2 or self._baseline is None:
            return
        before = self._baseline
        measured = self._cohort_seconds / self._cohort_finished
        change = measured - before
        # Where methods differ, the mean of some calls says little: what may be chance counts less.
        chance = max(0.0, self._cohort_squares / self._cohort_finished - measured**2) / self._cohort_finished
        weight = change**2 / (change**2 + chance + 1e-18)
        if change > 0 and self._reduction < 1.0:
            # 0: latency fell as much as the calls under way, so it was a queue. 1: not at all, so it is the work.
            unmoved = (measured / self._latency_before - self._reduction) / (1 - self._reduction)
            weight *= min(1.0, max(0.0, unmoved))
        self._baseline = before + weight * change
        if abs(self._baseline - before) > _SETTLED * before:
            self._next_probe_at = min(self._next_probe_at, now + self._probe_interval * _PROBE_AGAIN)


def drops(error: BaseException) -> bool:
    """Whether an operation that ended so was not answered in time, or was refused for overload further on."""
    return isinstance(error, (TimeoutError, OverloadedError))
