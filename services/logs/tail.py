"""Entries as they become visible: a cursor over the order of ingest, woken by the worker's commits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from services.logs.model import MAX_ROWS, Arrived, LogEntry, SearchQuery, Selection
from services.logs.query import LogQuery
from services.shared.bus.port import Position, Progress, partition_of, place
from services.shared.filter import Checked

_PAGE = 200
_QUERY_SECONDS = 10.0
_LONGEST_WAIT = 1.0


class LogTail:
    """Follows what is stored.

    Args:
        query: Reads entries.
        progress: Says when there are more.
        monotonic: Seconds.
    """

    def __init__(self, query: LogQuery, progress: Progress, monotonic: Callable[[], float]) -> None:
        self._query = query
        self._progress = progress
        self._monotonic = monotonic

    async def follow(self, recent: Selection, backlog: int, seconds: float | None) -> AsyncIterator[list[LogEntry]]:
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
        condition = self._query.condition(recent.filter)
        return self._entries(recent, condition, backlog, until, await self._progress.committed())

    async def _entries(
        self,
        recent: Selection,
        condition: Checked | None,
        backlog: int,
        until: float | None,
        seen: tuple[Position, ...],
    ) -> AsyncIterator[list[LogEntry]]:
        # Only what is committed: the parts of an insert become visible one after the other.
        if backlog:
            beginning = tuple(place(partition_of(position), 0) for position in seen)
            query = SearchQuery(recent, newest_first=True, limit=backlog, arrived=_between(beginning, seen))
            newest = (await self._query.search(query, _QUERY_SECONDS)).entries
            if newest:
                yield list(reversed(newest))
        while until is None or self._monotonic() < until:
            committed = await self._progress.committed()
            arrived = _between(seen, committed)
            if not arrived:
                left = _LONGEST_WAIT if until is None else min(_LONGEST_WAIT, until - self._monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(left, 0.0)):
                        await self._progress.wait_progress(seen)
                continue
            while arrived:
                entries = await self._query.tail(recent.tenant, condition, arrived, _PAGE, _QUERY_SECONDS)
                if entries:
                    yield entries
                arrived = _behind(entries[-1].ingest_position, arrived) if len(entries) == _PAGE else ()
            seen = committed


def _between(seen: tuple[Position, ...], committed: tuple[Position, ...]) -> tuple[Arrived, ...]:
    """What came in between, by partition; a partition that is new is looked at from its beginning."""
    before = {partition_of(position): position for position in seen}
    ranges = []
    for position in committed:
        begin = before.get(partition_of(position), place(partition_of(position), 0))
        if position > begin:
            ranges.append((_last_of(begin), _last_of(position)))
    return tuple(ranges)


def _behind(cursor: int, ranges: tuple[Arrived, ...]) -> tuple[Arrived, ...]:
    return tuple((max(after, cursor), through) for after, through in ranges if through > cursor)


def _last_of(position: int) -> int:
    return (position + 1) * MAX_ROWS - 1
