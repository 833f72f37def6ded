"""What a metric store promises. `worker.py` writes, `query.py` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from services.metrics.model import (
    Capabilities,
    Kind,
    LabelValues,
    MetricColumns,
    MetricDescriptor,
    RangeQuery,
    Series,
    SeriesRow,
    TimeSeries,
)
from services.shared.bus.port import Header
from services.shared.filter import Checked

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Which data answers a query. Times in milliseconds since 1970.

    Attributes:
        resolution: Width of the rollup's buckets: 0 (none), `MINUTE_MS` or `HOUR_MS`.
        rollup_start: Whole buckets from here on come from the rollup, what is before from raw data.
        rollup_end: Whole buckets up to here come from the rollup, what is after from raw data.
        minutes: What comes from minutes, beside a rollup of hours: ranges, each with its end, that end where the rollup
            starts, or start where it ends.
    """

    resolution: int
    rollup_start: int
    rollup_end: int
    minutes: tuple[tuple[int, int], ...] = ()

    @property
    def start(self) -> int:
        """Where raw data ends that is before."""
        return min((self.rollup_start, *(begin for begin, _ in self.minutes)))

    @property
    def end(self) -> int:
        """Where raw data begins that is after."""
        return max((self.rollup_end, *(end for _, end in self.minutes)))


class MetricWriter(Protocol):
    """Stores accepted points."""

    async def write(
        self, batches: Sequence[tuple[Header, MetricColumns]], token: str, is_repeated: bool = False
    ) -> list[SeriesRow]:
        """Stores batches as one insert. The same token with the same batches stores nothing again, also after
        a crash in the middle.

        Args:
            batches: In the order of the bus.
            token: The same for the same batches.
            is_repeated: Whether an earlier attempt may have been cut off.

        Returns:
            The series that the store has for certain now.

        Raises:
            AirisError: Nothing, or only a part, was stored; repeat with the same token.
        """
        ...


class MetricReader(Protocol):
    """Answers queries. Each takes the seconds it may use and raises `DeadlineExceededError` beyond them."""

    def capabilities(self, now_ms: int) -> Capabilities:
        """What the store can do at a moment."""
        ...

    async def kinds(self, query: RangeQuery, series: Checked | None, timeout: float) -> frozenset[Kind]:
        """The kinds of the series that a query selects, but those that had ended before its range; empty if none."""
        ...

    async def aggregate(
        self, query: RangeQuery, plan: Plan, series: Checked | None, timeout: float
    ) -> list[TimeSeries]:
        """Computes an aggregation over samples.

        Raises:
            ResourceExhaustedError: There are more groups than `query.max_series`, or too many points.
        """
        ...

    async def distributions(
        self, query: RangeQuery, series: Checked | None, lookback_ms: int, timeout: float
    ) -> pa.Table:
        """The distribution points of a query's range, and those up to `lookback_ms` before it.

        Returns:
            Columns group (list of the values of `group_by`), kind, series_id, timestamp and start_time (int64 ms)
            and `DISTRIBUTION_COLUMNS`, ordered by series and time.

        Raises:
            ResourceExhaustedError: There are too many.
        """
        ...

    async def metrics(
        self, tenant: str, series: Checked | None, after: str, limit: int, timeout: float
    ) -> list[MetricDescriptor]:
        """Metrics by name, from the one after `after` on."""
        ...

    async def labels(
        self, tenant: str, metric: str, series: Checked | None, after: str, limit: int, timeout: float
    ) -> list[LabelValues]:
        """Labels of a metric by key, from the one after `after` on."""
        ...

    async def series(
        self, tenant: str, metric: str, series: Checked | None, after: int, limit: int, timeout: float
    ) -> list[Series]:
        """Series of a metric by id, from the one after `after` on; -1 is the beginning."""
        ...
