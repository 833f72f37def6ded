"""The domain types of metrics. No I/O, no protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

import pyarrow as pa


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


@dataclass(frozen=True, slots=True)
class Points:
    """Decoded points of any dialect, not yet checked.

    Both tables begin with the columns

        index        int32   the item's place in the request
        name, unit   string
        kind         int32
        labels       map<string, string>   the point's own
        labels_key   string  the same for equal `labels`
        resource     int32   index into `resources`
        description  string
        metadata     string  JSON object, or empty
        time         int64   nanoseconds since 1970, null where absent
        start        int64   likewise, 0 where unknown

    Attributes:
        samples: With `value` (double, null where absent).
        distributions: With `DISTRIBUTION_COLUMNS`.
        resources: Labels that many points share; a point's own win over them.
        dialect_field: How a violation names item i: "metrics" gives `metrics[i]`.
    """

    samples: pa.Table
    distributions: pa.Table
    resources: Sequence[dict[str, str]]
    dialect_field: str

    @property
    def count(self) -> int:
        """The number of points."""
        return int(self.samples.num_rows + self.distributions.num_rows)


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
        samples: tenant, metric, series_id (uint64), timestamp and start_time (ms, UTC), value.
        distributions: The same without value, and `DISTRIBUTION_COLUMNS`.
        series: The series among them that the store may not have yet.
    """

    samples: pa.Table
    distributions: pa.Table
    series: Sequence[SeriesRow]


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
