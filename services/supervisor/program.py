"""What the supervisor needs to know of a program that it keeps running."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.supervisor.process import Command


async def nothing() -> None:
    """For programs that need nothing done."""


@dataclass(frozen=True)
class Program:
    """A program, how it is prepared, and how one sees that it works.

    Attributes:
        name: Unique; shown before each of its log lines.
        engine: What it is, with its version, for people: "PostgreSQL 18.6".
        address: Where it answers, for people.
        command: How it is run.
        probe: Whether it works now. Bounded in time; never raises for a program that is down.
        prepare: Run before each start.
        before_stop: Run before it is asked to end, for at most five seconds.
        start_seconds: How long it may take from its start until the probe says yes.
    """

    name: str
    engine: str
    address: str
    command: Command
    probe: Callable[[], Awaitable[bool]] | None = None
    prepare: Callable[[], Awaitable[None]] = nothing
    before_stop: Callable[[], Awaitable[None]] = nothing
    start_seconds: float = 60.0


class StartError(Exception):
    """The platform cannot start; the message is one sentence for the person at the terminal."""
