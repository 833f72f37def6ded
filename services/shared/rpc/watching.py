"""When streams of the server end, and when they look again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from services.shared.errors import UnavailableError
from services.shared.rpc.times import duration_ns


class Watches:
    """The streams of a server that may last for ever: a stop need not wait for them."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def endable(self, behavior: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
        """A method whose calls `end` ends with UNAVAILABLE.

        Only their wait for the next answer is cancelled: a call that is cancelled while gRPC sends one has no end.
        """

        async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
            async with aclosing(behavior(request, context)) as answers:
                while not self._stopping:
                    try:
                        answer = await self._next(answers)
                    except StopAsyncIteration:
                        return
                    except asyncio.CancelledError:
                        if not self._stopping:
                            raise
                        break
                    yield answer
                raise UnavailableError("The service is stopping. Call again.", reason="NOT_READY", retry_after=1.0)

        return watch

    async def _next(self, answers: AsyncIterator[Any]) -> Any:
        task = asyncio.current_task()
        if task is not None:
            self._waiting.add(task)
        try:
            return await anext(answers)
        finally:
            if task is not None:
                self._waiting.discard(task)

    def end(self) -> None:
        """Ends them all."""
        self._stopping = True
        for task in tuple(self._waiting):
            task.cancel()


async def tell_begun(context: Any) -> None:
    """Tells the caller of a stream, before its first answer, that it misses nothing from now on.

    Whoever is cancelled meanwhile is so once gRPC has sent it: else the call would have no end.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        while not sending.done():
            # However often it is cancelled: gRPC has no end for a call whose sending is.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([sending])
        # That the caller has gone is no error.
        sending.cancelled() or sending.exception()
        raise


@dataclass(frozen=True, slots=True)
class Limits:
    """When a stream ends: whatever is reached first.

    Attributes:
        count: Responses; None: no limit.
        seconds: Seconds since its start; None: no limit.
    """

    count: int | None
    seconds: float | None

    @classmethod
    def of(cls, request: Any, context: Any, *, rest_count: int, rest_seconds: float) -> Limits:
        """Reads `max_count` and `max_duration`. A REST client, which Envoy gives the stream as one
        array, has defaults."""
        over_rest = any(key == "x-envoy-original-path" for key, _ in context.invocation_metadata() or ())
        count = request.max_count or (rest_count if over_rest else None)
        seconds = duration_ns(request.max_duration) / 1e9 if request.HasField("max_duration") else None
        return cls(count, seconds if seconds else (rest_seconds if over_rest else None))


async def ticks(interval: float, limits: Limits, monotonic: Callable[[], float]) -> AsyncIterator[int]:
    """Gives 0, 1, 2, … every `interval` seconds from now on, until a limit is reached. What comes while its reader is
    busy is left out."""
    start = monotonic()
    number, due = 0, 0.0
    while limits.count is None or number < limits.count:
        if limits.seconds is not None and due >= limits.seconds and number > 0:
            return
        await asyncio.sleep(max(0.0, start + due - monotonic()))
        yield number
        number += 1
        due = interval * max(round(due / interval) + 1, math.ceil((monotonic() - start) / interval))
