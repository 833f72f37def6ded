"""What goes out: check what is asked against what the store can do, and ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.logs import anomalies, patterns
from services.logs.model import (
    Anomaly,
    Arrived,
    CountQuery,
    Counts,
    Level,
    LogEntry,
    Pattern,
    SearchQuery,
    SearchResult,
    Selection,
    Span,
)
from services.logs.store.port import LogReader
from services.shared.errors import DeadlineExceededError, FieldViolation, InvalidArgumentError, UnimplementedError
from services.shared.filter import (
    Checked,
    Field,
    Kind,
    Schema,
    Term,
    TypedColumns,
    find_highlights,
    highlight_terms,
    parse,
    read_filter,
)
from services.shared.one_at_a_time import OneAtATime

_FIELDS = (
    Field("timestamp", Kind.TIMESTAMP),
    Field("level", Kind.ENUM, enum=tuple((level.name, level.value) for level in Level)),
    Field("message", Kind.STRING, text_index=True),
    Field("service", Kind.STRING),
    Field("trace_id", Kind.ID),
    Field("span_id", Kind.ID),
    Field("stack_trace", Kind.STRING),
    Field("user_id", Kind.STRING),
    Field("request_id", Kind.STRING),
    Field("duration_ms", Kind.NUMBER),
    Field("duration", Kind.DURATION, column="duration_ms", unit_nanoseconds=1_000_000),
    Field("status_code", Kind.INTEGER),
    Field("url", Kind.STRING),
    Field("method", Kind.STRING),
    Field("labels", Kind.LABEL_MAP),
    Field("metadata", Kind.TYPED_MAP, columns=TypedColumns.of("metadata", rest="metadata_encoded")),
)
SCHEMA = Schema.of(_FIELDS, full_text=["message"], aliases={"severity": "level"})
_WITHOUT_FULL_TEXT = Schema.of(_FIELDS, aliases={"severity": "level"})

_MILLISECOND_NS = 1_000_000
_SECOND_NS = 1_000_000_000
_MAX_HIGHLIGHTS = 100
_MAX_STEPS = 11_000
_WANTED_STEPS = 60
_STEPS = (
    *(milliseconds * 1_000_000 for milliseconds in (1, 10, 100, 500)),
    *(
        seconds * _SECOND_NS
        for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    ),
)
_SAMPLED_ENTRIES = 10_000


def choose_step(start: int, end: int) -> int:
    """A round step that gives about 60 buckets for a range; all in nanoseconds."""
    wanted = (end - start) / _WANTED_STEPS
    # The next round step may be several times as long; one a third shorter than wanted is closer.
    day = _STEPS[-1]
    return next((step for step in _STEPS if step >= wanted * 2 / 3), -(-int(wanted) // day) * day)


class LogQuery:
    """Answers questions.

    Args:
        reader: The store.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        # Of so many entries, which may be large, only those of one question are held.
        self._mining = asyncio.Semaphore(1)
        self._patterns, self._highlights = OneAtATime(), OneAtATime()

    async def search(self, query: SearchQuery, timeout: float) -> SearchResult:
        """Finds entries.

        Args:
            query: The question.
            timeout: Seconds.

        Raises:
            InvalidArgumentError: The filter is wrong.
        """
        terms = highlight_terms(parse(query.selection.filter))
        entries = await self._reader.search(query, self.condition(query.selection.filter), timeout)
        return SearchResult(entries, terms)

    async def highlights(self, entries: Sequence[LogEntry], terms: Sequence[Term], timeout: float) -> list[list[Span]]:
        """For each entry what the words of a search matched in its message: the first 100 matches.

        Raises:
            DeadlineExceededError: It took longer than `timeout` seconds.
        """
        if not terms:
            return [[] for _ in entries]
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout

        def find() -> list[list[Span]]:
            found = []
            for entry in entries:
                if loop.time() >= ends_at:
                    # A thread that nobody waits for any more ends too.
                    raise DeadlineExceededError(
                        "To find the words in the messages took longer than the deadline. Ask for fewer entries, or "
                        "with fewer words."
                    )
                found.append(find_highlights(entry.message, terms, _MAX_HIGHLIGHTS))
            return found

        return await self._highlights.run(find)

    async def count(self, query: CountQuery, timeout: float) -> Counts:
        """Counts entries over time.

        Args:
            query: The question; with step 0 about 60 buckets are made.
            timeout: Seconds.

        Raises:
            InvalidArgumentError: The filter, the step or a field of `group_by` is wrong.
            ResourceExhaustedError: The answer is too large.
        """
        for at, field in enumerate(query.group_by):
            if field not in ("level", "service") and not field.startswith("labels."):
                raise _wrong(f"group_by[{at}]", "must be level, service or labels.<key>")
            if field == "labels.":
                raise _wrong(f"group_by[{at}]", "must have a key after `labels.`")
        selection = query.selection
        query = replace(query, step=query.step or choose_step(selection.start, selection.end))
        self._check_steps(query)
        return await self._reader.count(query, self.condition(selection.filter), timeout)

    async def patterns(self, selection: Selection, timeout: float) -> tuple[list[Pattern], int]:
        """The templates of the newest entries, the most frequent first, and how many entries were looked at.

        Raises:
            InvalidArgumentError: The filter is wrong.
            DeadlineExceededError: It took longer than `timeout` seconds.
        """
        condition = self.condition(selection.filter)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout
        try:
            async with asyncio.timeout_at(ends_at), self._mining:
                samples = await self._reader.sample(selection, condition, _SAMPLED_ENTRIES, timeout)
                # A thread that nobody waits for any more ends too.
                mined = self._patterns.run(patterns.mine, samples, lambda: loop.time() >= ends_at)
                return await mined, len(samples)
        except TimeoutError as error:
            raise DeadlineExceededError("The patterns took longer than the deadline. Ask for fewer entries.") from error

    async def anomalies(self, selection: Selection, step: int, timeout: float) -> list[Anomaly]:
        """Steps with unusual counts, the strongest first. Steps that the range cuts are left out.

        Args:
            selection: The entries and the range.
            step: Nanoseconds.
            timeout: Seconds.

        Raises:
            InvalidArgumentError: The filter or the step is wrong.
        """
        start, end = -(-selection.start // step) * step, selection.end // step * step
        if start >= end:
            return []
        query = CountQuery(replace(selection, start=start, end=end), step, ("service", "level"))
        self._check_steps(query)
        counts = await self._reader.count(query, self.condition(selection.filter), timeout)
        return await self._patterns.run(anomalies.find, counts, start, end)

    async def tail(
        self, tenant: str, condition: Checked | None, arrived: Sequence[Arrived], limit: int, timeout: float
    ) -> list[LogEntry]:
        """Entries that came in these ranges, in the order of ingest.

        Raises:
            UnimplementedError: The store does not know the order of ingest.
        """
        if not self._reader.capabilities().tail:
            raise UnimplementedError("The configured store cannot follow entries in the order of ingest.")
        return await self._reader.tail(tenant, condition, arrived, limit, timeout)

    def condition(self, text: str) -> Checked | None:
        """Reads a filter. Raises `InvalidArgumentError` if it is wrong."""
        return read_filter(text, SCHEMA if self._reader.capabilities().full_text else _WITHOUT_FULL_TEXT)

    def _check_steps(self, query: CountQuery) -> None:
        if (query.selection.end - query.selection.start) // query.step > _MAX_STEPS:
            raise _wrong("step", f"gives more than {_MAX_STEPS} buckets; choose a longer one")
        if query.step % _MILLISECOND_NS and not self._reader.capabilities().fine_counts:
            raise UnimplementedError("The configured store counts in whole milliseconds only; choose such a step.")


def _wrong(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {description}.", violations=(FieldViolation(field, description),))
