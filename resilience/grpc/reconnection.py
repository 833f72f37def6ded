"""A connection that was lost is waited for: whoever answers there is being started again, more often than not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc

_READY = grpc.ChannelConnectivity.READY
_CLOSED = grpc.ChannelConnectivity.SHUTDOWN


class Reconnection:
    """What the calls of a `grpc.aio` channel know of its connection. From one event loop.

    gRPC fails calls at once while there is no connection. From the moment at which a call finds it lost, the further
    ones wait for it, for some seconds in all; after that, and before there ever was one, they fail as gRPC has it.

    Args:
        channel: The channel.
        patience: Seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, channel: Any, patience: float, clock: Callable[[], float]) -> None:
        self._channel = channel
        self._patience = patience
        self._clock = clock
        self._was_reached = False
        self._waits_until: float | None = None

    async def wait(self, left: float | None) -> None:
        """Returns when there may be a connection.

        Args:
            left: Seconds that the call has; None: no limit.
        """
        if self._waits_until is None:
            return
        ends = self._waits_until if left is None else min(self._waits_until, self._clock() + left)
        while (seconds := ends - self._clock()) > 0 and self._waits_until is not None:
            state = self._channel.get_state(try_to_connect=True)
            if state in (_READY, _CLOSED):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._channel.wait_for_state_change(state), seconds)

    def reached(self) -> None:
        """A call was answered."""
        self._was_reached, self._waits_until = True, None

    def failed(self, code: grpc.StatusCode) -> None:
        """A call failed with a code. Whether that was for want of a connection, the channel tells."""
        if code is not grpc.StatusCode.UNAVAILABLE:
            return
        if self._was_reached and self._channel.get_state() is not _READY:
            # The first to notice: the next who does so, after that patience, is not waited for again.
            self._was_reached, self._waits_until = False, self._clock() + self._patience
