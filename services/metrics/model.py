"""The domain types of metrics. No I/O, no protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from services.shared.parts import parts_of


class Kind(IntEnum):
    """What a point's value means; the numbers are those of `airis.metrics.v1.Metric.Kind`."""

    GAUGE = 1
    COUNTER = 2
    DELTA_COUNTER = 3
    UP_DOWN_COUNTER = 4
    DELTA_UP_DOWN_COUNTER = 5
    HISTOGRAM = 6
    DELTA_HISTOGRAM = 7
    EXPONENTIAL_HISTOGRAM = 8
    DELTA_EXPONENTIAL_HISTOGRAM = 9
    SUMMARY = 10


_MILLISECONDS = pa.timestamp("ms", tz="UTC")

DELTA_KINDS = frozenset(
    {Kind.DELTA_COUNTER, Kind.DELTA_UP_DOWN_COUNTER, Kind.DELTA_HISTOGRAM, Kind.DELTA_EXPONENTIAL_HISTOGRAM}
)
HISTOGRAM_KINDS = frozenset({Kind.HISTOGRAM, Kind.DELTA_HISTOGRAM})
EXPONENTIAL_KINDS = frozenset({Kind.EXPONENTIAL_HISTOGRAM, Kind.DELTA_EXPONENTIAL_HISTOGRAM})
DISTRIBUTION_KINDS = HISTOGRAM_KINDS | EXPONENTIAL_KINDS | {Kind.SUMMARY}


class Aggregation(IntEnum):
    """How values become one; the numbers are those of `airis.common.v1.Aggregation.Function`."""

    SUM = 1
    AVG = 2
    MIN = 3
    MAX = 4
    COUNT = 5
    LAST = 6
    RATE = 7
    INCREASE = 8
    QUANTILE = 9


RAW_AGGREGATIONS = frozenset({Aggregation.RATE, Aggregation.INCREASE, Aggregation.QUANTILE})

DISTRIBUTION_COLUMNS = (
    "count",
    "sum",
    "min",
    "max",
    "bounds",
    "bucket_counts",
    "scale",
    "zero_count",
    "zero_threshold",
    "positive_offset",
    "positive_counts",
    "negative_offset",
    "negative_counts",
    "quantiles",
    "quantile_values",
)


class LabelReader(Protocol):
    """Reads a dialect's labels, which stay as they came until a series is seen for the first time."""

    def own(self, column: pa.ChunkedArray) -> list[dict[str, str]]:
        """The labels of points, from their `labels`. Raises `InvalidArgumentError` if they are malformed."""
        ...

    def shared(self, resource: bytes) -> dict[str, str]:
        """The labels that a resource gives its points. Raises `InvalidArgumentError` if it is malformed."""
        ...


@dataclass(frozen=True, slots=True)
class Points:
    """Decoded points of any dialect, not yet checked.

    Both tables begin with the columns

        index        int32   the item's place in the request
        metric       int32   row of `metrics`
        resource     int32   index into `resources`
        labels       the point's own, as the dialect has them
        labels_key   string or binary   the same for equal `labels`
        time         int64   nanoseconds since 1970, null where absent
        start        int64   likewise, 0 where unknown

    Attributes:
        samples: With `value` (double, null where absent).
        distributions: With `DISTRIBUTION_COLUMNS`.
        metrics: What points have in common: name, unit, description, metadata (JSON object, or empty; all string) and
            kind (int32).
        resources: What many points share; a point's own labels win over those of its resource.
        reader: Reads both kinds of labels.
        dialect_field: How a violation names item i: "metrics" gives `metrics[i]`.
    """

    samples: pa.Table
    distributions: pa.Table
    metrics: pa.Table
    resources: Sequence[bytes]
    reader: LabelReader
    dialect_field: str

    @property
    def count(self) -> int:
        """The number of points."""
        return int(self.samples.num_rows + self.distributions.num_rows)

    @property
    def need_now(self) -> bool:
        """See `Items.need_now`."""
        return any(table.column("time").null_count for table in (self.samples, self.distributions))


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """What the store keeps of a series."""

    tenant: str
    metric: str
    series_id: int
    kind: str
    unit: str
    labels: dict[str, str]
    metadata: str


@dataclass(frozen=True, slots=True)
class MetricColumns:
    """Accepted points as the store takes them.

    Attributes:
        samples: tenant and metric (dictionaries of texts), series_id (uint64), timestamp and start_time (ms, UTC),
            value.
        distributions: The same without value, and `DISTRIBUTION_COLUMNS`.
        series: The series among them that the store may not have yet.
    """

    samples: pa.Table
    distributions: pa.Table
    series: Sequence[SeriesRow]

    @property
    def count(self) -> int:
        """The number of points."""
        return int(self.samples.num_rows + self.distributions.num_rows)

    def split(self, items: Points, ends: np.ndarray[Any, np.dtype[np.int64]]) -> list[MetricColumns]:
        """See `Columns.split`: `ends` says where the metrics of each request end. All share `series`."""
        samples = _by_request(self.samples, items.samples, ends)
        distributions = _by_request(self.distributions, items.distributions, ends)
        return [MetricColumns(*parts, self.series) for parts in zip(samples, distributions, strict=True)]


def _by_request(table: pa.Table, points: pa.Table, ends: np.ndarray[Any, np.dtype[np.int64]]) -> list[pa.Table]:
    request = np.searchsorted(ends, points.column("metric").to_numpy(), side="right")
    if (request[1:] < request[:-1]).any():
        # Points stand kind by kind.
        order = np.argsort(request, kind="stable")
        table, request = table.take(pa.array(order)), request[order]
    return [part for part, _ in parts_of(table, np.searchsorted(request, np.arange(len(ends)), side="right"))]


def milliseconds(nanoseconds: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """timestamp[ms, UTC][n] from int64[n] since 1970, as the store keeps times of points."""
    return pa.array(nanoseconds // 1_000_000).view(_MILLISECONDS)


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """A question about one metric over time. Times in milliseconds since 1970, `end` excluded.

    Attributes:
        step: Milliseconds; 0 means one step over the whole range.
        filter: The text of the filter over series; empty selects all.
    """

    tenant: str
    metric: str
    filter: str
    start: int
    end: int
    step: int
    aggregation: Aggregation
    quantile: float
    group_by: tuple[str, ...]
    max_series: int


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """The points of one group: times in milliseconds since 1970, and values of the same length."""

    labels: dict[str, str]
    timestamps: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query. `resolution` and `step` in milliseconds; resolution 0 is raw data."""

    series: list[TimeSeries]
    resolution: int
    step: int


@dataclass(frozen=True, slots=True)
class MetricDescriptor:
    """What is known of a metric."""

    metric: str
    kinds: list[Kind]
    units: list[str]
    series_count: int


@dataclass(frozen=True, slots=True)
class LabelValues:
    """A label of a metric with its values; `value_count` counts all, `values` holds the first."""

    key: str
    values: list[str]
    value_count: int


@dataclass(frozen=True, slots=True)
class Series:
    """What is known of a series."""

    series_id: int
    labels: dict[str, str]
    kind: Kind
    unit: str
    metadata: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a metric store can do. The zero value is the least capable.

    Attributes:
        aggregations: The aggregations it computes.
        raw_since: The oldest moment with raw data; None: it keeps none.
    """

    aggregations: frozenset[Aggregation] = field(default_factory=frozenset)
    raw_since: datetime | None = None
