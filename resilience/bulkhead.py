"""A bulkhead: a pool of concurrent calls, so that one slow callee cannot hold all of a program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from resilience import deadline
from resilience.errors import BulkheadFullError
from resilience.events import Events

T = TypeVar("T")

# A deadline that is so near has passed: timers and clocks differ by less.
_AT_ONCE = 0.001


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """It will not be made."""


CallLater = Callable[[float, Callable[[], None]], Timer]
Pause = Callable[[threading.Event, float], bool]


@dataclass(frozen=True, slots=True)
class BulkheadSnapshot:
    """A bulkhead at one moment.

    Attributes:
        name: The bulkhead's.
        max_concurrent: Calls that may be under way at once.
        max_waiting: Calls that may wait.
        in_flight: Calls under way.
        waiting: Calls that wait.
        waited: Calls that waited and got a place, since the bulkhead was made.
        rejected: Calls refused since then.
    """

    name: str
    max_concurrent: int
    max_waiting: int
    in_flight: int
    waiting: int
    waited: int
    rejected: int


class _Waiter:
    """A place in the queue of an event loop's task."""

    __slots__ = ("_future", "_loop", "_thread", "granted", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.granted = False
        self.since = 0.0
        self._loop = loop
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        """Has the task look. False: its loop is closed, so nobody will."""
        try:
            if threading.get_ident() == self._thread:
                self.finish()
            else:
                self._loop.call_soon_threadsafe(self.finish)
        except RuntimeError:
            return False
        return True

    def finish(self) -> None:
        """Ends the wait, in the loop's thread."""
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


class _BlockedThread:
    """A place in the queue of a thread."""

    __slots__ = ("event", "granted", "since")

    def __init__(self) -> None:
        self.granted = False
        self.since = 0.0
        self.event = threading.Event()

    def wake(self) -> bool:
        self.event.set()
        return True


class Bulkhead:
    """Lets a number of calls run at once; some more wait for a place, in the order in which they came.

    Tasks of event loops and threads may use one bulkhead at the same time and share one queue. A wait ends at the
    deadline of the call (`resilience.deadline`) if that is earlier. It ends with `BulkheadFullError` then too, not
    `DeadlineExceededError`: the callee was never asked, so a breaker around the bulkhead must not count it.

    A queue that was not empty for as long as the longest wait, and whose first has waited for twice the `standing`
    share of that, stands until it is empty: it is no burst, but more than can be served. A server leaves only that
    share of the queue and of the wait then: what is refused is refused soon, and what is taken is not late.
    (Facebook's controlled delay, after CoDel: "Fail at Scale", ACM Queue 13/8.) A client does not: to it the wait
    says how fast it may send.

    Events: `rejected`; `waited` when a call that waited got its place, with `seconds`.

    Args:
        name: Which one, for messages and events.
        max_concurrent: Calls that run at once; 1 or more.
        max_waiting: Calls that wait; 0: none does.
        max_wait: The longest wait, in seconds; 0: none waits.
        standing: The share of `max_waiting` and `max_wait` that is left of a queue that stands, at least one place; 0
            to 1.
        clock: Gives monotonic seconds.
        call_later: Makes a call after some seconds, in the running event loop; None: the loop's own.
        pause: Blocks a thread until the event is set or the seconds have passed.

    Raises:
        ValueError: A number is outside its range.
    """

    def __init__(
        self,
        name: str,
        max_concurrent: int,
        max_waiting: int = 0,
        max_wait: float = 0.0,
        *,
        standing: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater | None = None,
        pause: Pause = threading.Event.wait,
    ) -> None:
        _check_size(max_concurrent)
        if max_waiting < 0 or not max_wait >= 0:
            raise ValueError(f"max_waiting is {max_waiting} and max_wait {max_wait}; both must be 0 or more.")
        if not 0 <= standing <= 1:
            raise ValueError(f"standing is {standing}; it must be 0 to 1.")
        self.name = name
        self.events = Events("bulkhead", name)
        self._max_concurrent = max_concurrent
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._standing = standing
        self._clock = clock
        self._call_later = call_later
        self._pause = pause
        self._full = "all places are taken" + (" and so is the queue" if max_waiting else "")
        self._lock = threading.Lock()
        self._in_flight = 0
        # Whoever waits here has no place; who is granted one is taken out. While anyone waits, all places are taken.
        self._queue: deque[_Waiter | _BlockedThread] = deque()
        self._queued_since = 0.0
        self._stands = False
        self._waited = 0
        self._rejected = 0

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation in a place of its own. Raises as `acquire`."""
        if not self._take():
            await self._wait()
        try:
            return await operation()
        finally:
            self.release()

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation in a place of its own. Raises as `acquire`."""
        if not self._take():
            self._wait_sync()
        try:
            return operation()
        finally:
            self.release()

    async def acquire(self) -> None:
        """Takes a place, for calls that `run` does not suit. Whoever has it gives it back with `release`, once.

        A wait that is cancelled takes no place.

        Raises:
            BulkheadFullError: There is no place, and the queue is full too, or the wait was too long.
        """
        if not self._take():
            await self._wait()

    def acquire_sync(self) -> None:
        """Takes a place as `acquire` does, and blocks the thread meanwhile; not for an event loop's thread."""
        if not self._take():
            self._wait_sync()

    def release(self) -> None:
        """Gives a place back, from any thread. It goes to whoever has waited longest.

        Raises:
            RuntimeError: Nobody has a place.
        """
        with self._lock:
            if self._in_flight == 0:
                raise RuntimeError(f"The bulkhead {self.name} got a place back that nobody had.")
            self._in_flight -= 1
            if not self._queue:
                return
            granted = self._grant()
        self._wake(granted)

    def turn_away(self) -> BulkheadFullError | None:
        """Refuses a call that is not here yet, if `acquire` would at once."""
        with self._lock:
            if self._in_flight < self._max_concurrent or not self._is_full(self._clock()):
                return None
            self._rejected += 1
        return self._refused(self._full)

    def resize(self, max_concurrent: int) -> None:
        """Changes how many calls run at once. Calls under way go on, also beyond a smaller number.

        Args:
            max_concurrent: 1 or more, else `ValueError`.
        """
        _check_size(max_concurrent)
        with self._lock:
            self._max_concurrent = max_concurrent
            granted = self._grant()
        self._wake(granted)

    def snapshot(self) -> BulkheadSnapshot:
        """The bulkhead at this moment."""
        with self._lock:
            return BulkheadSnapshot(
                self.name,
                self._max_concurrent,
                self._max_waiting,
                self._in_flight,
                len(self._queue),
                self._waited,
                self._rejected,
            )

    def _take(self) -> bool:
        with self._lock:
            if self._in_flight < self._max_concurrent:
                self._in_flight += 1
                return True
        return False

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop)
        seconds = self._join(waiter)
        if seconds is None:
            return
        try:
            timer = (self._call_later or loop.call_later)(seconds, waiter.finish)
            try:
                await waiter.wait()
            finally:
                timer.cancel()
        except BaseException as error:
            self._leave(waiter)
            left = deadline.remaining()
            if left is not None and left < _AT_ONCE:
                # Who enforces the deadline was quicker than the timer. The reason is the same, and is told to them.
                with self._lock:
                    self._rejected += 1
                error.__cause__ = self._refused("no place became free before the call's deadline")
            raise
        self._settle(waiter)

    def _wait_sync(self) -> None:
        waiter = _BlockedThread()
        seconds = self._join(waiter)
        if seconds is None:
            return
        try:
            self._pause(waiter.event, seconds)
        except BaseException:
            self._leave(waiter)
            raise
        self._settle(waiter)

    def _join(self, waiter: _Waiter | _BlockedThread) -> float | None:
        """Puts a waiter into the queue.

        Returns:
            The longest that it may wait, in seconds; None: a place became free meanwhile and is its own.
        """
        left = deadline.remaining()
        seconds = self._max_wait if left is None else min(self._max_wait, left)
        with self._lock:
            if self._in_flight < self._max_concurrent:
                self._in_flight += 1
                return None
            waiter.since = self._clock()
            full = self._is_full(waiter.since)
            if not full and seconds > 0:
                self._queue.append(waiter)
                return min(seconds, self._max_wait * self._share)
            self._rejected += 1
        if full:
            raise self._refused(self._full)
        raise self._refused("all places are taken and the call's deadline has passed")

    def _is_full(self, now: float) -> bool:
        """Whether the queue is, or what is left of it, when all places are taken; always, where nobody may wait."""
        if not self._queue:
            self._queued_since, self._stands = now, False
        elif not self._stands:
            is_no_burst = now - self._queued_since >= self._max_wait
            self._stands = is_no_burst and now - self._queue[0].since >= 2 * self._standing * self._max_wait
        return self._max_wait == 0 or len(self._queue) >= min(
            self._max_waiting, max(1, self._max_waiting * self._share)
        )

    @property
    def _share(self) -> float:
        """What is left of the queue and of the wait in it."""
        return self._standing if self._stands else 1.0

    def _settle(self, waiter: _Waiter | _BlockedThread) -> None:
        """Ends a wait that was not cancelled: with a place, or with `BulkheadFullError`."""
        seconds = self._clock() - waiter.since
        with self._lock:
            if waiter.granted:
                self._waited += 1
            else:
                self._queue.remove(waiter)
                self._rejected += 1
        if not waiter.granted:
            raise self._refused(f"no place became free in {seconds:.3g} s")
        try:
            self.events.emit("waited", f"waited {seconds:.3g} s for a place", seconds=seconds)
        except BaseException:
            self.release()
            raise

    def _leave(self, waiter: _Waiter | _BlockedThread) -> None:
        """Ends a wait that was cancelled. A place that was granted at the same time goes to the next."""
        with self._lock:
            if not waiter.granted:
                # One whose loop was closed is in the queue no longer.
                with contextlib.suppress(ValueError):
                    self._queue.remove(waiter)
                return
        self.release()

    def _grant(self) -> list[_Waiter | _BlockedThread]:
        """Gives free places to the first in the queue, who are to be woken without the lock."""
        granted = []
        while self._queue and self._in_flight < self._max_concurrent:
            waiter = self._queue.popleft()
            waiter.granted = True
            self._in_flight += 1
            granted.append(waiter)
        return granted

    def _wake(self, granted: list[_Waiter | _BlockedThread]) -> None:
        while granted:
            waiter = granted.pop(0)
            if not waiter.wake():
                with self._lock:
                    waiter.granted = False
                    self._in_flight -= 1
                    granted += self._grant()

    def _refused(self, reason: str) -> BulkheadFullError:
        self.events.emit("rejected", reason)
        return BulkheadFullError(f"The bulkhead {self.name} is full: {reason}.")


def _check_size(max_concurrent: int) -> None:
    if max_concurrent < 1:
        raise ValueError(f"max_concurrent is {max_concurrent}; it must be 1 or more.")
