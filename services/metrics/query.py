"""What goes out: check what is asked against what the store can do, choose the data, call the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.metrics import distribution_query
from services.metrics.model import (
    DISTRIBUTION_KINDS,
    RAW_AGGREGATIONS,
    Capabilities,
    LabelValues,
    MetricDescriptor,
    QueryResult,
    RangeQuery,
    Series,
)
from services.metrics.model import Kind as MetricKind
from services.metrics.store.port import HOUR_MS, MINUTE_MS, MetricReader, Plan
from services.shared.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    UnimplementedError,
)
from services.shared.filter import Checked, Field, Kind, Schema, read_filter
from services.shared.one_at_a_time import OneAtATime

SCHEMA = Schema.of(
    [
        Field("labels", Kind.LABEL_MAP),
        Field("metric", Kind.STRING),
        Field("kind", Kind.ENUM, enum=tuple((kind.name, kind.value) for kind in MetricKind), enum_by_name=True),
        Field("unit", Kind.STRING),
    ],
    bare_keys="labels",
)

_MAX_STEPS = 11_000
# Of distributions, that are held at once; some 200,000 points each.
_MOST_TABLES = 4
_WANTED_STEPS = 120
_STEPS = tuple(
    seconds * 1000
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
)


def choose_step(start: int, end: int, least: int = 0) -> int:
    """A round step, in milliseconds, that gives about 120 points for a range of milliseconds.

    Args:
        start: The beginning of the range.
        end: Its end.
        least: The shortest step that can be answered.
    """
    wanted = max((end - start) / _WANTED_STEPS, least)
    return next((step for step in _STEPS if step >= wanted), -(-int(wanted) // _STEPS[-1]) * _STEPS[-1])


def plan(query: RangeQuery, raw_since: int = 0) -> Plan:
    """Which data answers a query exactly: the coarsest rollup for whole buckets, raw data at the edges.

    Where raw data of an edge is gone, minutes answer for it, and the one that the edge cuts counts whole.

    Args:
        query: The question.
        raw_since: Since when raw data is kept, in milliseconds since 1970.
    """
    raw = Plan(0, query.start, query.start)
    if query.aggregation in RAW_AGGREGATIONS or query.step % MINUTE_MS:
        return raw
    begin, end = _whole(query, MINUTE_MS)
    begin -= MINUTE_MS * (query.start < min(begin, raw_since))
    end += MINUTE_MS * (end < min(query.end, raw_since))
    first, last = _whole(query, HOUR_MS)
    if query.step % HOUR_MS or first >= last:
        return Plan(MINUTE_MS, begin, end) if begin < end else raw
    minutes: list[tuple[int, int]] = []
    if query.start < min(first, raw_since):
        minutes.append((begin, first))
    if last < min(query.end, raw_since):
        minutes.append((last, end))
    return Plan(HOUR_MS, first, last, tuple(minutes))


def _whole(query: RangeQuery, width: int) -> tuple[int, int]:
    """The begin and the end of the whole buckets in a range; no more begin than end if there is none."""
    return -(-query.start // width) * width, query.end // width * width


class MetricQuery:
    """Answers questions.

    Args:
        reader: The store.
    """

    def __init__(self, reader: MetricReader) -> None:
        self._reader = reader
        # Distributions are evaluated in Python.
        self._evaluating = OneAtATime()
        self._tables = asyncio.Semaphore(_MOST_TABLES)

    async def query(self, query: RangeQuery, now_ms: int, timeout: float) -> QueryResult:
        """Computes series over time.

        Args:
            query: The question; a step as long as the range, or longer, gives one point for the range.
            now_ms: The moment it is asked.
            timeout: Seconds.

        Raises:
            InvalidArgumentError: The filter is wrong, or the step gives too many points.
            FailedPreconditionError: Raw data that it needs is no longer kept (BEYOND_RETENTION), or the data has no
                such answer (INCOMPATIBLE_DATA).
            UnimplementedError: The store does not know the aggregation.
            ResourceExhaustedError: The answer is too large.
            DeadlineExceededError: It took longer than `timeout`.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout
        able = self._reader.capabilities(now_ms)
        if query.aggregation not in able.aggregations:
            raise UnimplementedError(f"The configured store does not compute {query.aggregation.name}.")
        raw_since = query.end if able.raw_since is None else int(able.raw_since.timestamp() * 1000)
        old = query.start < raw_since
        if old and query.aggregation in RAW_AGGREGATIONS:
            raise _beyond_retention(query.aggregation.name, able)
        step = query.step or choose_step(query.start, query.end, MINUTE_MS if old else 0)
        if step >= query.end - query.start:
            step = 0
        elif (query.end - query.start) // step > _MAX_STEPS:
            raise InvalidArgumentError(
                f"step gives more than {_MAX_STEPS} points a series. Choose a longer one.",
                violations=(FieldViolation("step", f"gives more than {_MAX_STEPS} points a series"),),
            )
        query = replace(query, step=step)
        series = self._filter(query.filter)
        chosen = plan(query, raw_since)
        if old and not chosen.resolution:
            raise _beyond_retention("A step that is not whole minutes", able)
        # Most metrics have samples: asking at the same time what kinds there are saves them a round trip.
        kinds, found = await asyncio.gather(
            self._reader.kinds(query, series, timeout), self._reader.aggregate(query, chosen, series, timeout)
        )
        if kinds & DISTRIBUTION_KINDS:
            if kinds - DISTRIBUTION_KINDS:
                raise FailedPreconditionError(
                    f"{query.metric} has points of the kinds {', '.join(sorted(k.name for k in kinds))}, which have no "
                    "common answer. Choose one with a filter, as in `kind = GAUGE`.",
                    reason="INCOMPATIBLE_DATA",
                )
            if old:
                raise _beyond_retention("A question about a histogram or summary", able)
            lookback = max(query.step, distribution_query.LOOKBACK_MS)
            try:
                async with asyncio.timeout_at(ends_at), self._tables:
                    left = max(ends_at - loop.time(), 0.001)
                    table = await self._reader.distributions(query, series, lookback, left)
                    found = await self._evaluating.run(
                        distribution_query.evaluate, table, query, lambda: loop.time() > ends_at
                    )
            except TimeoutError as error:
                raise DeadlineExceededError(
                    "The points of the histograms or summaries took longer than the deadline. Ask for a shorter range, "
                    "or for fewer series with a filter."
                ) from error
            return QueryResult(found, 0, step or query.end - query.start)
        return QueryResult(found, chosen.resolution, step or query.end - query.start)

    async def metrics(
        self, tenant: str, filter_text: str, after: str, limit: int, timeout: float
    ) -> list[MetricDescriptor]:
        """Metrics by name, after one."""
        return await self._reader.metrics(tenant, self._filter(filter_text), after, limit, timeout)

    async def labels(
        self, tenant: str, metric: str, filter_text: str, after: str, limit: int, timeout: float
    ) -> list[LabelValues]:
        """Labels of a metric by key, after one."""
        return await self._reader.labels(tenant, metric, self._filter(filter_text), after, limit, timeout)

    async def series(
        self, tenant: str, metric: str, filter_text: str, after: int, limit: int, timeout: float
    ) -> list[Series]:
        """Series of a metric by id, after one."""
        return await self._reader.series(tenant, metric, self._filter(filter_text), after, limit, timeout)

    def _filter(self, text: str) -> Checked | None:
        return read_filter(text, SCHEMA)


def _beyond_retention(what: str, able: Capabilities) -> FailedPreconditionError:
    since = able.raw_since.isoformat(timespec="seconds") if able.raw_since else "never"
    return FailedPreconditionError(
        f"{what} needs raw data, which is kept since {since}. Choose a later start_time.", reason="BEYOND_RETENTION"
    )
