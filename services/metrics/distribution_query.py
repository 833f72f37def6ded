"""Answers over histograms, exponential histograms and summaries, from their points. Pure.

Each point of a cumulative series gives its growth since the point before; a reset gives the whole point; a delta
point gives itself. What falls into a step is merged: explicit buckets with equal bounds add up, exponential
buckets are brought to the coarsest scale among them. Points without a sum have no part in sums and averages, and
histograms without bounds none in quantiles.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from services.metrics.model import DELTA_KINDS, EXPONENTIAL_KINDS, Aggregation, Kind, RangeQuery, TimeSeries
from services.shared.errors import DeadlineExceededError, FailedPreconditionError, ResourceExhaustedError

LOOKBACK_MS = 300_000
_BATCH_ROWS = 500

CountT = TypeVar("CountT", int, float)

_ANSWERED = {
    Aggregation.SUM,
    Aggregation.AVG,
    Aggregation.COUNT,
    Aggregation.RATE,
    Aggregation.INCREASE,
    Aggregation.QUANTILE,
    Aggregation.MIN,
    Aggregation.MAX,
}


@dataclass(slots=True)
class Merged:
    """What the points of one step add up to.

    Attributes:
        count: Observations.
        total: The sum of those whose points have one; None: no point has.
        summed: Observations that `total` is of.
        low, high: The extremes, as far as senders gave them.
        bounds: Of explicit buckets; None: there are none.
        counts: Of explicit buckets.
        scale: Of exponential buckets.
        positive, negative: Counts of exponential buckets by index.
        zeros: Observations around zero.
    """

    count: float = 0.0
    total: float | None = None
    summed: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    bounds: tuple[float, ...] | None = None
    counts: list[float] = field(default_factory=list)
    scale: int | None = None
    positive: dict[int, float] = field(default_factory=dict)
    negative: dict[int, float] = field(default_factory=dict)
    zeros: float = 0.0


def evaluate(table: pa.Table, query: RangeQuery, is_over: Callable[[], bool] = lambda: False) -> list[TimeSeries]:
    """Computes the aggregation of a query over the rows of `MetricReader.distributions`.

    Args:
        table: The rows.
        query: The question.
        is_over: Whether nobody waits for the answer any more; asked now and then.

    Raises:
        DeadlineExceededError: `is_over`.
        FailedPreconditionError: The data has no such answer (INCOMPATIBLE_DATA): LAST, quantiles of summaries,
            or buckets with different bounds.
        ResourceExhaustedError: There are too many groups.
    """
    if query.aggregation not in _ANSWERED:
        raise _incompatible(f"{query.aggregation.name} has no meaning for histograms and summaries.")
    if query.aggregation is Aggregation.QUANTILE and Kind.SUMMARY.name in table.column("kind").unique().to_pylist():
        raise _incompatible("Quantiles of summaries cannot be merged: their senders computed them.")
    steps: defaultdict[tuple[str, ...], defaultdict[int, Merged]] = defaultdict(lambda: defaultdict(Merged))
    for group, at, point in _increments(table, query, is_over):
        start = query.start if query.step == 0 else at // query.step * query.step
        _merge(steps[group][start], point, query)
    if len(steps) > query.max_series:
        raise ResourceExhaustedError(
            f"The result has {len(steps)} series; at most {query.max_series} are allowed. Group by fewer labels, "
            "or set a filter.",
            reason="RESULT_TOO_LARGE",
        )
    series = []
    for group in sorted(steps):
        points = [(at, value) for at, m in sorted(steps[group].items()) if (value := _answer(at, m, query)) is not None]
        labels = dict(zip(query.group_by, group, strict=True))
        series.append(TimeSeries(labels, [at for at, _ in points], [value for _, value in points]))
    return series


def quantile(merged: Merged, q: float) -> float | None:
    """The q-quantile by linear interpolation within explicit buckets, geometric within exponential ones."""
    if merged.scale is not None:
        return _exponential_quantile(merged, q)
    return _explicit_quantile(merged, q)


def _increments(
    table: pa.Table, query: RangeQuery, is_over: Callable[[], bool]
) -> Iterator[tuple[tuple[str, ...], int, dict[str, Any]]]:
    previous: dict[str, Any] | None = None
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        if is_over():
            raise DeadlineExceededError("The deadline was over before the points were looked at.")
        for row in batch.to_pylist():
            before = previous if previous is not None and previous["series_id"] == row["series_id"] else None
            previous = row
            if row["timestamp"] < query.start:
                continue
            if Kind[row["kind"]] in DELTA_KINDS:
                yield tuple(row["group"]), row["timestamp"], row
            elif before is not None:
                yield tuple(row["group"]), row["timestamp"], _growth(before, row)
            elif row["start_time"] >= query.start:
                yield tuple(row["group"]), row["timestamp"], row


def _growth(before: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What a cumulative series gained since the point before; the whole point if it began anew in between."""
    bounds_differ = before["bounds"] != row["bounds"] or len(before["bucket_counts"]) != len(row["bucket_counts"])
    if row["count"] < before["count"] or row["start_time"] > before["timestamp"] or bounds_differ:
        return row
    buckets = [b - a for a, b in zip(before["bucket_counts"], row["bucket_counts"], strict=True)]
    # As values spread, a sender lowers the scale, and may count more of what is around zero as zero.
    scale = min(before["scale"], row["scale"])
    threshold = max(before["zero_threshold"], row["zero_threshold"])
    earlier, later = _coarsened(before, scale, threshold), _coarsened(row, scale, threshold)
    zeros = later.zeros - earlier.zeros
    positive, negative = _gained(earlier.positive, later.positive), _gained(earlier.negative, later.negative)
    if positive is None or negative is None or min(buckets, default=0) < 0 or zeros < 0:
        return row
    return {
        **row,
        "count": row["count"] - before["count"],
        "sum": None if row["sum"] is None or before["sum"] is None else row["sum"] - before["sum"],
        # The extremes of a cumulative point are those since its start, not those of the growth.
        "min": None,
        "max": None,
        "bucket_counts": buckets,
        "scale": scale,
        "zero_threshold": threshold,
        "zero_count": zeros,
        "positive_offset": next(iter(positive), 0),
        "positive_counts": list(positive.values()),
        "negative_offset": next(iter(negative), 0),
        "negative_counts": list(negative.values()),
    }


@dataclass(frozen=True, slots=True)
class _Buckets:
    """The exponential buckets of a point: counts by index, which are ascending and leave none out."""

    zeros: int
    positive: dict[int, int]
    negative: dict[int, int]


def _coarsened(point: dict[str, Any], scale: int, threshold: float) -> _Buckets:
    """The buckets of a point as it had them with a smaller scale and a larger zero threshold, or with its own."""
    zeros = point["zero_count"]
    sides: list[dict[int, int]] = []
    for sign in ("positive", "negative"):
        buckets = dict(enumerate(point[f"{sign}_counts"], point[f"{sign}_offset"]))
        if threshold > point["zero_threshold"]:
            # A threshold is an edge of a bucket, of which the last digits may differ: its middle is on one side.
            inner = [at for at in buckets if _edge(at + 0.5, point["scale"]) < threshold]
            zeros += sum(buckets.pop(at) for at in inner)
        sides.append(_rescale(buckets, point["scale"] - scale))
    return _Buckets(zeros, *sides)


def _gained(earlier: dict[int, int], later: dict[int, int]) -> dict[int, int] | None:
    """How much each bucket grew; None: one has become smaller."""
    if any(count > later.get(at, 0) for at, count in earlier.items()):
        return None
    return {at: count - earlier.get(at, 0) for at, count in later.items()}


def _merge(merged: Merged, point: dict[str, Any], query: RangeQuery) -> None:
    is_exponential = Kind[point["kind"]] in EXPONENTIAL_KINDS
    if query.aggregation is Aggregation.QUANTILE and not is_exponential and not point["bounds"]:
        # It says how many observations there were, not where: one bucket for all, or none.
        return
    merged.count += point["count"]
    if point["sum"] is not None:
        merged.total = (merged.total or 0.0) + point["sum"]
        merged.summed += point["count"]
    if point["min"] is not None:
        merged.low = min(merged.low, point["min"])
    if point["max"] is not None:
        merged.high = max(merged.high, point["max"])
    if query.aggregation is not Aggregation.QUANTILE:
        return
    if is_exponential:
        if merged.bounds is not None:
            raise _incompatible("Explicit and exponential buckets cannot be merged. Choose one kind with a filter.")
        _merge_exponential(merged, point)
        return
    if merged.scale is not None:
        raise _incompatible("Explicit and exponential buckets cannot be merged. Choose one kind with a filter.")
    bounds = tuple(point["bounds"])
    if merged.bounds is None:
        merged.bounds, merged.counts = bounds, [0.0] * len(point["bucket_counts"])
    elif merged.bounds != bounds:
        raise _incompatible("The histograms have different bucket bounds. Choose some with a filter.")
    merged.counts = [a + b for a, b in zip(merged.counts, point["bucket_counts"], strict=True)]


def _merge_exponential(merged: Merged, point: dict[str, Any]) -> None:
    scale = point["scale"] if merged.scale is None else min(merged.scale, point["scale"])
    if merged.scale is not None and merged.scale > scale:
        shift = merged.scale - scale
        merged.positive = _rescale(merged.positive, shift)
        merged.negative = _rescale(merged.negative, shift)
    merged.scale = scale
    merged.zeros += point["zero_count"]
    for sign, into in (("positive", merged.positive), ("negative", merged.negative)):
        shift = point["scale"] - scale
        for at, count in enumerate(point[f"{sign}_counts"], point[f"{sign}_offset"]):
            into[at >> shift] = into.get(at >> shift, 0.0) + count


def _rescale(buckets: dict[int, CountT], shift: int) -> dict[int, CountT]:
    result: dict[int, CountT] = {}
    for at, count in buckets.items():
        into = at >> shift
        result[into] = result[into] + count if into in result else count
    return result


def _answer(at: int, merged: Merged, query: RangeQuery) -> float | None:
    match query.aggregation:
        case Aggregation.COUNT | Aggregation.INCREASE:
            return float(merged.count)
        case Aggregation.RATE:
            end = query.end if query.step == 0 else min(at + query.step, query.end)
            return merged.count / ((end - max(at, query.start)) / 1000)
        case Aggregation.SUM:
            return merged.total
        case Aggregation.AVG:
            return merged.total / merged.summed if merged.total is not None and merged.summed else None
        case Aggregation.MIN:
            return merged.low if math.isfinite(merged.low) else None
        case Aggregation.MAX:
            return merged.high if math.isfinite(merged.high) else None
    return quantile(merged, query.quantile)


def _explicit_quantile(merged: Merged, q: float) -> float | None:
    bounds, counts = merged.bounds or (), merged.counts
    total = sum(counts)
    if total <= 0 or not bounds:
        return None
    rank, below = q * total, 0.0
    for at, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            if at == len(bounds):
                # Nothing bounds the last bucket but what its senders saw.
                return merged.high if math.isfinite(merged.high) else bounds[-1]
            upper = bounds[at]
            lower = bounds[at - 1] if at else min(0.0, upper)
            return lower + (upper - lower) * max(rank - below, 0.0) / count
        below += count
    return bounds[-1]


def _exponential_quantile(merged: Merged, q: float) -> float | None:
    scale = merged.scale or 0
    negative, positive = sorted(merged.negative.items(), reverse=True), sorted(merged.positive.items())
    buckets = [(-_edge(at + 1, scale), -_edge(at, scale), n) for at, n in negative]
    buckets.append((0.0, 0.0, merged.zeros))
    buckets += [(_edge(at, scale), _edge(at + 1, scale), n) for at, n in positive]
    total = sum(n for _, _, n in buckets)
    if total <= 0:
        return None
    rank, below = q * total, 0.0
    for lower, upper, count in buckets:
        if count > 0 and below + count >= rank:
            share = max(rank - below, 0.0) / count
            if lower == upper:
                return lower
            # Within a bucket, observations spread evenly over the exponent.
            size: float = abs(lower) ** (1 - share) * abs(upper) ** share
            return size if upper > 0 else -size
        below += count
    return buckets[-1][1]


def _edge(at: float, scale: int) -> float:
    """The lower edge of an exponential bucket: base to the power of its index, or the nearest double to that."""
    try:
        exponent: float = math.ldexp(at, -scale)
        edge: float = 2.0**exponent
    except OverflowError:
        return sys.float_info.max if at > 0 else 0.0
    return edge


def _incompatible(message: str) -> FailedPreconditionError:
    return FailedPreconditionError(message, reason="INCOMPATIBLE_DATA")
