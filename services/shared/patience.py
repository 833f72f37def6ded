"""Servers start in any order: whoever needs one that is not there yet waits for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.shared.errors import UnavailableError

ResultT = TypeVar("ResultT")
logger = structlog.get_logger(__name__)

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 5.0


async def once(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Calls once: where nobody else will come up."""
    return await call()


async def patiently(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Calls until it does not raise `UnavailableError`, with growing delays of 5 s at most."""
    delay = _FIRST_DELAY
    while True:
        try:
            return await call()
        except UnavailableError as error:
            logger.warning("start_delayed", error=error.message, retry_in=round(delay, 2))
            # Spread only, so that instances do not ask in step.
            await asyncio.sleep(delay * (0.5 + random.random() / 2))  # noqa: S311
            delay = min(delay * 2, _LONGEST_DELAY)
