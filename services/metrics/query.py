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
from services.metrics.store.port import MetricReader, Plan
from services.shared.errors import FailedPreconditionError, FieldViolation, InvalidArgumentError, UnimplementedError
from services.shared.filter import Checked, Field, Kind, Schema, read_filter

SCHEMA = Schema.of(
    [
        Field("labels", Kind.LABEL_MAP),
        Field("metric", Kind.STRING),
        Field("kind", Kind.ENUM, enum=tuple((kind.name, kind.value) for kind in MetricKind), enum_by_name=True),
        Field("unit", Kind.STRING),
    ],
    bare_keys="labels",
)

_ROLLUPS = (3_600_000, 60_000)
_MAX_STEPS = 11_000
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


def plan(query: RangeQuery, has_raw: bool = True) -> Plan:
    """Which data answers a query exactly: the coarsest rollup for whole buckets, raw data at the edges.

    Args:
        query: The question.
        has_raw: Whether raw data of its start is still kept. If not, the bucket that it begins in counts whole.
    """
    if query.aggregation not in RAW_AGGREGATIONS:
        for width in _ROLLUPS:
            begin, end = -(-query.start // width) * width, query.end // width * width
            if not has_raw:
                begin = query.start // width * width
            if query.step % width == 0 and begin < end:
                return Plan(width, begin, end)
    return Plan(0, query.start, query.start)


class MetricQuery:
    """Answers questions.

    Args:
        reader: The store.
    """

    def __init__(self, reader: MetricReader) -> None:
        self._reader = reader

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
        """
        able = self._reader.capabilities(now_ms)
        if query.aggregation not in able.aggregations:
            raise UnimplementedError(f"The configured store does not compute {query.aggregation.name}.")
        old = able.raw_since is None or query.start < int(able.raw_since.timestamp() * 1000)
        if old and query.aggregation in RAW_AGGREGATIONS:
            raise _beyond_retention(query.aggregation.name, able)
        step = query.step or choose_step(query.start, query.end, _ROLLUPS[-1] if old else 0)
        if step >= query.end - query.start:
            step = 0
        elif (query.end - query.start) // step > _MAX_STEPS:
            raise InvalidArgumentError(
                f"step gives more than {_MAX_STEPS} points a series. Choose a longer one.",
                violations=(FieldViolation("step", f"gives more than {_MAX_STEPS} points a series"),),
            )
        query = replace(query, step=step)
        series = self._filter(query.filter)
        chosen = plan(query, has_raw=not old)
        if old and not chosen.resolution:
            raise _beyond_retention("A step, or a range, that has no whole minutes", able)
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
            table = await self._reader.distributions(query, series, lookback, timeout)
            return QueryResult(distribution_query.evaluate(table, query), 0, step or query.end - query.start)
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
