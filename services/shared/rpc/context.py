"""What every call brings along: its deadline and its tenant."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, TypeAlias

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`, which has no types of its own."""

QUERY_SECONDS = 10.0
"""What a query may take where no contract limits the call, as within a stream."""

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


def limit_call(context: Context, deadline: float | None) -> float | None:
    """Notes when the current call must have ended: the caller's deadline or the contract's, whichever is first.

    Args:
        context: The call.
        deadline: Seconds that the contract gives it; None: no limit.

    Returns:
        The seconds that are left; None: no limit.
    """
    limits = [limit for limit in (deadline, context.time_remaining()) if limit is not None]
    left = max(0.0, min(limits)) if limits else None
    _ends_at.set(None if left is None else asyncio.get_running_loop().time() + left)
    return left


def remaining(context: Context) -> float:
    """Seconds that a query of the current call may still take."""
    ends_at = _ends_at.get()
    if ends_at is None:
        return QUERY_SECONDS
    return max(0.0, ends_at - asyncio.get_running_loop().time())


def tenant(context: Context) -> str:
    """Whose data a call is about: set by the server, never read from the request."""
    return "default"
