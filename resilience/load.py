"""From when on a call that is being served is no load any more, although it is not answered yet.

An adaptive limit learns from how long calls take. One whose work is done and that only waits for something that comes
by itself, as a batch that is stored each 50 ms, would tell it of a queue that is none, and would take a place from
others meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_end: ContextVar[Callable[[], None] | None] = ContextVar("end_of_load", default=None)


def begin(end: Callable[[], None] | None) -> None:
    """Notes what ends the load of the current call; None: it is not measured."""
    _end.set(end)


def only_waits() -> None:
    """Says that the current call has done its work and only waits from now on. May be said often, and anywhere."""
    end = _end.get()
    if end is not None:
        end()


def ender() -> Callable[[], None]:
    """What says so of the current call, from wherever it is called."""
    return _end.get() or _nothing


def _nothing() -> None:
    """It is not measured."""
