"""Quantiles and growth of distributions, against figures worked out by hand."""

from __future__ import annotations

import math
import sys
from typing import Any

import pyarrow as pa
import pytest

from services.metrics.distribution_query import Merged, evaluate, quantile
from services.metrics.model import Aggregation, RangeQuery
from services.shared.errors import FailedPreconditionError

MINUTE = 60_000
COUNTS = pa.list_(pa.uint64())
SCHEMA = pa.schema(
    {
        "group": pa.list_(pa.string()),
        "kind": pa.string(),
        "series_id": pa.uint64(),
        "timestamp": pa.int64(),
        "start_time": pa.int64(),
        "count": pa.uint64(),
        "sum": pa.float64(),
        "min": pa.float64(),
        "max": pa.float64(),
        "bounds": pa.list_(pa.float64()),
        "bucket_counts": COUNTS,
        "scale": pa.int32(),
        "zero_count": pa.uint64(),
        "zero_threshold": pa.float64(),
        "positive_offset": pa.int32(),
        "positive_counts": COUNTS,
        "negative_offset": pa.int32(),
        "negative_counts": COUNTS,
    }
)
NOTHING: dict[str, Any] = {
    "group": [],
    "series_id": 1,
    "start_time": 1,
    "bounds": [],
    "bucket_counts": [],
    "scale": 0,
    "zero_count": 0,
    "zero_threshold": 0.0,
    "positive_offset": 0,
    "positive_counts": [],
    "negative_offset": 0,
    "negative_counts": [],
}


def explicit(bounds: list[float], counts: list[float], high: float = -math.inf) -> Merged:
    return Merged(count=sum(counts), bounds=tuple(bounds), counts=counts, high=high)


@pytest.mark.parametrize(
    ("merged", "q", "expected"),
    [
        (explicit([1, 2, 4], [0, 10, 10, 0]), 0.5, 2.0),
        (explicit([1, 2, 4], [0, 10, 10, 0]), 0.75, 3.0),
        (explicit([1, 2, 4], [4, 0, 0, 0]), 0.5, 0.5),
        (explicit([1, 2, 4], [0, 0, 0, 4], high=9.0), 0.5, 9.0),
        (explicit([1, 2, 4], [0, 0, 0, 4]), 0.5, 4.0),
        (explicit([-2, -1], [4, 0, 0]), 0.5, -2.0),
        (Merged(count=4, scale=0, positive={2: 4}), 1.0, 8.0),
        (Merged(count=4, scale=0, positive={2: 4}), 0.5, 2**2.5),
        (Merged(count=4, scale=1, positive={2: 4}), 1.0, 2**1.5),
        (Merged(count=4, scale=0, zeros=4), 0.5, 0.0),
        (Merged(count=4, scale=2**31 - 1, positive={2**31 - 1: 4}), 0.5, 1.0),
        (Merged(count=4, scale=-(2**31), positive={1: 4}), 1.0, sys.float_info.max),
        (Merged(count=4, scale=-(2**31), positive={-(2**31): 4}), 1.0, 0.0),
        (Merged(count=4, scale=-(2**31), negative={1: 4}), 0.0, -sys.float_info.max),
        (Merged(count=8, scale=0, negative={1: 4}, positive={1: 4}), 0.25, -(2**1.5)),
    ],
)
def test_quantiles(merged: Merged, q: float, expected: float) -> None:
    assert quantile(merged, q) == pytest.approx(expected)


def test_nothing_has_no_quantile() -> None:
    assert quantile(explicit([1], [0, 0]), 0.5) is None
    assert quantile(Merged(scale=0), 0.5) is None


def exponential(minute: int, scale: int, offset: int, counts: list[int], **fields: Any) -> dict[str, Any]:
    """A cumulative point, by default with positive buckets only."""
    point = {
        **NOTHING,
        "kind": "EXPONENTIAL_HISTOGRAM",
        "timestamp": minute * MINUTE,
        "scale": scale,
        "positive_offset": offset,
        "positive_counts": counts,
        **fields,
    }
    return {"count": sum(point["positive_counts"] + point["negative_counts"]) + point["zero_count"], **point}


def histogram(minute: int, bounds: list[float], counts: list[int], **fields: Any) -> dict[str, Any]:
    """A cumulative point."""
    return {
        **NOTHING,
        "kind": "HISTOGRAM",
        "timestamp": minute * MINUTE,
        "bounds": bounds,
        "bucket_counts": counts,
        "count": sum(counts),
        **fields,
    }


def answers(points: list[dict[str, Any]], aggregation: Aggregation, q: float = 0.5) -> dict[int, float]:
    """By minute, from the second minute on: what was before is known only as what grows from there."""
    query = RangeQuery("t", "m", "", 2 * MINUTE, 100 * MINUTE, MINUTE, aggregation, q, (), 10)
    found = evaluate(pa.Table.from_pylist(points, SCHEMA), query)
    return {at // MINUTE: value for each in found for at, value in zip(each.timestamps, each.values, strict=True)}


def test_a_histogram_whose_scale_is_lowered_goes_on_growing() -> None:
    points = [
        exponential(1, 2, -3, [1, 2, 3, 4, 5]),
        # The same observations in buckets four times as wide, and one more in the last.
        exponential(2, 0, -1, [6, 10]),
        exponential(3, 0, -1, [6, 11]),
    ]
    assert answers(points, Aggregation.COUNT) == {2: 1, 3: 1}
    for q in (0.01, 0.99):
        assert answers(points, Aggregation.QUANTILE, q) == pytest.approx({2: 2**q, 3: 2**q})


def test_negative_buckets_are_brought_to_the_lower_scale_too() -> None:
    points = [
        exponential(1, 1, 0, [], negative_offset=3, negative_counts=[1, 1]),
        exponential(2, 0, 0, [], negative_offset=1, negative_counts=[1, 3]),
    ]
    assert answers(points, Aggregation.COUNT) == {2: 2}
    # Both are in the bucket from -8 to -4.
    assert answers(points, Aggregation.QUANTILE, 0.0) == pytest.approx({2: -8.0})
    assert answers(points, Aggregation.QUANTILE, 1.0) == pytest.approx({2: -4.0})


def test_what_a_wider_zero_takes_in_is_not_taken_for_a_reset() -> None:
    points = [
        exponential(1, 1, -2, [5, 6, 7]),
        exponential(2, 1, 0, [8], zero_count=11, zero_threshold=1.0000000000000002),
    ]
    assert answers(points, Aggregation.COUNT) == {2: 1}
    assert answers(points, Aggregation.QUANTILE, 0.0) == pytest.approx({2: 1.0})


@pytest.mark.parametrize(
    ("later", "median"),
    [
        (exponential(2, 0, -1, [1, 30]), 2 ** (14.5 / 30)),
        (exponential(2, 2, 1, [20]), 2**0.375),
        (exponential(2, 1, -2, [20, 20], zero_count=1), 2 ** (-1 + 19.5 / 40)),
    ],
)
def test_buckets_that_have_shrunk_are_a_reset_though_the_count_has_grown(later: dict[str, Any], median: float) -> None:
    points = [exponential(1, 1, -2, [3, 4], zero_count=2), later]
    assert answers(points, Aggregation.COUNT) == {2: later["count"]}
    assert answers(points, Aggregation.QUANTILE) == pytest.approx({2: median})


def test_explicit_buckets_that_have_shrunk_are_a_reset_though_the_count_has_grown() -> None:
    points = [histogram(1, [1.0], [4, 0]), histogram(2, [1.0], [3, 3])]
    assert answers(points, Aggregation.COUNT) == {2: 6}


def test_a_histogram_that_gains_its_only_bucket_begins_anew() -> None:
    points = [histogram(1, [], [], count=3), histogram(2, [], [5]), histogram(3, [], [7])]
    assert answers(points, Aggregation.COUNT) == {2: 5, 3: 2}


@pytest.mark.parametrize("counts", [[], [5]])
def test_histograms_without_bounds_have_no_part_in_quantiles(counts: list[int]) -> None:
    without = {"kind": "DELTA_HISTOGRAM", "count": 5, "max": 99.0, "series_id": 2}
    others: list[dict[str, Any]] = [
        histogram(3, [1.0, 2.0], [0, 10, 0], kind="DELTA_HISTOGRAM"),
        exponential(4, 0, 0, [10], kind="DELTA_EXPONENTIAL_HISTOGRAM"),
    ]
    points = [histogram(minute, [], counts, **without) for minute in (2, 3, 4)]
    assert answers(points, Aggregation.QUANTILE) == {}
    for mixed in (points + others, others + points):
        assert answers(mixed, Aggregation.QUANTILE) == pytest.approx({3: 1.5, 4: 2**0.5})
    assert answers(points + others, Aggregation.COUNT) == {2: 5, 3: 15, 4: 15}


def test_histograms_with_different_bounds_have_no_common_quantile() -> None:
    points = [histogram(2, [bound], [1, 1], kind="DELTA_HISTOGRAM") for bound in (1.0, 2.0)]
    with pytest.raises(FailedPreconditionError, match="bounds"):
        answers(points, Aggregation.QUANTILE)


def test_sums_and_averages_are_of_points_that_have_a_sum() -> None:
    points = [
        histogram(2, [], [2], sum=10.0, kind="DELTA_HISTOGRAM"),
        histogram(2, [], [3], kind="DELTA_HISTOGRAM", series_id=2),
        histogram(3, [], [3], kind="DELTA_HISTOGRAM", series_id=2),
    ]
    assert answers(points, Aggregation.SUM) == {2: 10.0}
    assert answers(points, Aggregation.AVG) == {2: 5.0}
    assert answers(points, Aggregation.COUNT) == {2: 5, 3: 3}


def test_a_step_without_observations_has_the_sum_0_and_no_average() -> None:
    points = [histogram(minute, [], [2], sum=10.0) for minute in (1, 2)]
    assert answers(points, Aggregation.SUM) == {2: 0.0}
    assert answers(points, Aggregation.AVG) == {}


def test_what_a_sum_grew_by_is_unknown_where_the_point_before_has_none() -> None:
    points = [histogram(1, [], [2]), histogram(2, [], [3], sum=30.0), histogram(3, [], [5], sum=34.0)]
    assert answers(points, Aggregation.SUM) == {3: 4.0}
    assert answers(points, Aggregation.AVG) == {3: 2.0}
