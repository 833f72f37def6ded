"""Entries as they become visible: a cursor over the order of ingest, woken by the worker's commits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from services.logs.model import MAX_ROWS, LogEntry, SearchQuery, Selection
from services.logs.query import LogQuery
from services.shared.bus.port import Position
from services.shared.filter import Checked

_PAGE = 200
_QUERY_SECONDS = 10.0
_LONGEST_WAIT = 1.0


class Commits(Protocol):
    """What the store has: `bus.port.Consumer` tells."""

    @property
    def committed(self) -> Position:
        """The last committed position."""
        ...

    async def wait_committed(self, position: Position) -> None:
        """Returns when everything up to the position is committed."""
        ...


class LogTail:
    """Follows what is stored.

    Args:
        query: Reads entries.
        commits: Says when there are more.
        monotonic: Seconds.
    """

    def __init__(self, query: LogQuery, commits: Commits, monotonic: Callable[[], float]) -> None:
        self._query = query
        self._commits = commits
        self._monotonic = monotonic

    def follow(self, recent: Selection, backlog: int, seconds: float | None) -> AsyncIterator[list[LogEntry]]:
        """Gives entries in the order of ingest, each once, some at a time: all that are stored after this returns.

        Args:
            recent: Which entries; its range is where the backlog comes from.
            backlog: Begin with this many of its newest entries, the oldest of them first.
            seconds: End after this time; None: never.

        Raises:
            InvalidArgumentError: The filter is wrong.
            UnavailableError: The service is stopping.
        """
        until = None if seconds is None else self._monotonic() + seconds
        return self._entries(recent, self._query.condition(recent.filter), backlog, until, self._commits.committed)

    async def _entries(
        self, recent: Selection, condition: Checked | None, backlog: int, until: float | None, seen: Position
    ) -> AsyncIterator[list[LogEntry]]:
        # Only what is committed: the parts of an insert become visible one after the other.
        cursor = _last_of(seen)
        if backlog:
            query = SearchQuery(recent, newest_first=True, limit=backlog, through=cursor)
            newest = (await self._query.search(query, _QUERY_SECONDS)).entries
            if newest:
                yield list(reversed(newest))
        while until is None or self._monotonic() < until:
            committed = self._commits.committed
            if committed == seen:
                left = _LONGEST_WAIT if until is None else min(_LONGEST_WAIT, until - self._monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(left, 0.0)):
                        await self._commits.wait_committed(Position(seen + 1))
                continue
            while True:
                entries = await self._query.tail(
                    recent.tenant, condition, cursor, _last_of(committed), _PAGE, _QUERY_SECONDS
                )
                if entries:
                    yield entries
                    cursor = entries[-1].ingest_position
                if len(entries) < _PAGE:
                    break
            seen, cursor = committed, _last_of(committed)


def _last_of(position: int) -> int:
    return (position + 1) * MAX_ROWS - 1
