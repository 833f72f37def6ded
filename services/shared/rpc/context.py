"""What every call brings along: its deadline and its tenant."""

from __future__ import annotations

from typing import Any, TypeAlias

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`, which has no types of its own."""

QUERY_SECONDS = 10.0
"""What a query may take when its caller sets no deadline."""


def remaining(context: Context, longest: float = QUERY_SECONDS) -> float:
    """Seconds that a call may still take."""
    left = context.time_remaining()
    return longest if left is None else max(0.0, min(left, longest))


def tenant(context: Context) -> str:
    """Whose data a call is about: set by the server, never read from the request."""
    return "default"
