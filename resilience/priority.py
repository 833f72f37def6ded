"""The order in which work is admitted under overload."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """The order in which work is admitted under overload: the least first."""

    CRITICAL = 1
    """Health checks and the control of a running incident: shed last."""
    INTERACTIVE = 2
    """A person or a program waits for the answer."""
    BULK = 3
    """Bulk work that its sender repeats: shed first."""
