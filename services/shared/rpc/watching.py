"""When streams of the server end, and when they look again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from services.shared.rpc.times import duration_ns


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
