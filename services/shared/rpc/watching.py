"""When streams of the server end, and when they look again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from services.shared.errors import UnavailableError
from services.shared.rpc.times import duration_ns


class Watches:
    """The streams of a server that may last for ever: a stop need not wait for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def endable(self, behavior: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        """A method whose calls `end` ends with UNAVAILABLE."""

        async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.add(task)
            try:
                async for response in behavior(request, context):
                    yield response
            except asyncio.CancelledError as cancelled:
                if not self._stopping:
                    raise
                raise UnavailableError(
                    "The service is stopping. Call again.", reason="NOT_READY", retry_after=1.0
                ) from cancelled
            finally:
                if task is not None:
                    self._tasks.discard(task)

        return watch

    def end(self) -> None:
        """Ends them all."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()


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
    """Gives 0, 1, 2, … every `interval` seconds from now on, until a limit is reached."""
    start = monotonic()
    number = 0
    while limits.count is None or number < limits.count:
        due = start + number * interval
        if limits.seconds is not None and due - start >= limits.seconds and number > 0:
            return
        await asyncio.sleep(max(0.0, due - monotonic()))
        yield number
        number += 1
