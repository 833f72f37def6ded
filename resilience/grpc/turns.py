"""Has calls that have arrived looked at before work goes on, so that overload is seen where it can be refused.

A server of `grpc.aio` takes few calls each time its event loop comes round. When handlers keep the loop busy, calls
wait within gRPC, where nobody counts or refuses them: each then gets its turn when its caller has almost given up. So
after a handler has kept the loop for long, no other begins until no further call has arrived for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

_LONG_SECONDS = 0.002
# Between taking a call and hearing of the next that waits lie two threads' changes: 1 ms is not enough where other
# programs use the processors too.
_QUIET_SECONDS = 0.003
_LONGEST_HOLD_SECONDS = 0.05


class Turns:
    """Says when the handler of a call may begin. For one event loop.

    Whoever kept the loop for some time is followed by a pause of that time at most, so work has half of it at least.

    Args:
        clock: Gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrived_at = 0.0
        self._is_held = False
        self._held_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def arrived(self) -> None:
        """Notes that a call has arrived."""
        self._arrived_at = self._clock()

    async def begin(self) -> None:
        """Returns when a handler may begin, at once where none keeps the loop. In the order of calls."""
        loop = asyncio.get_running_loop()
        if not self._is_held:
            loop.call_soon(self._look, loop, self._clock())
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _look(self, loop: asyncio.AbstractEventLoop, began: float) -> None:
        """Looks, when the loop has come round, how long a handler that began kept it."""
        now = self._clock()
        if now - began >= _LONG_SECONDS:
            self._held_until = now + min(now - began, _LONGEST_HOLD_SECONDS)
            if not self._is_held:
                self._is_held = True
                loop.call_later(_QUIET_SECONDS, self._go_on, loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets one begin, unless calls are still arriving."""
        now = self._clock()
        quiet_in = min(self._arrived_at + _QUIET_SECONDS, self._held_until) - now
        if quiet_in > 0:
            loop.call_later(quiet_in, self._go_on, loop)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                # It runs before this does.
                loop.call_soon(self._next, loop, now)
                return
        self._is_held = False

    def _next(self, loop: asyncio.AbstractEventLoop, began: float) -> None:
        self._look(loop, began)
        if self._held_until > self._clock():
            loop.call_later(_QUIET_SECONDS, self._go_on, loop)
        else:
            self._go_on(loop)
