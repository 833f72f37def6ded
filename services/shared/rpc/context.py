"""What every call brings along: its deadline and its tenant."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeAlias

from resilience import deadline

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`, which has no types of its own."""

QUERY_SECONDS = 10.0
"""What a query may take where no contract limits the call, as within a stream."""

DEFAULT_TENANT = "default"
"""Whose data it is where nobody has to say who they are."""

_tenant: ContextVar[str] = ContextVar("tenant", default=DEFAULT_TENANT)


def remaining() -> float:
    """Seconds that a query of the current call may still take."""
    left = deadline.remaining()
    return QUERY_SECONDS if left is None else left


def set_tenant(name: str) -> None:
    """Notes whose data the current call is about: what its token says."""
    _tenant.set(name)


def tenant() -> str:
    """Whose data a call is about: set by the server, never read from the request."""
    return _tenant.get()
