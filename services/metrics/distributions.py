"""Checks of histograms, exponential histograms and summaries, over columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.metrics.model import EXPONENTIAL_KINDS
from services.shared.errors import FieldViolation

MOST_BUCKETS = 10_000
"""Of a point, in each of its lists. Senders make some hundreds at most."""
_LISTS = ("bucket_counts", "positive_counts", "negative_counts", "quantiles")

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Kinds = np.ndarray[Any, np.dtype[np.int32]]


def violations(table: pa.Table, kinds: Kinds) -> Iterator[tuple[FieldViolation, Mask]]:
    """What can be wrong with distributions of certain kinds (int32[n]), each with the rows (bool[n]) of which it is."""
    inconsistent = "INCONSISTENT_DISTRIBUTION"
    yield FieldViolation("bucket_counts", f"at most {MOST_BUCKETS:,} buckets", "SIZE_LIMIT_EXCEEDED"), _too_many(table)
    yield FieldViolation("bucket_counts", "must be one more than explicit_bounds", inconsistent), _misfit(table)
    yield FieldViolation("count", "must be the sum of the bucket counts", inconsistent), _miscounted(table, kinds)
    yield FieldViolation("explicit_bounds", "must be finite and ascending", inconsistent), _unordered(table)
    yield FieldViolation("sum", "must be a finite number", "NON_FINITE_VALUE"), _non_finite(table)


def _lengths(table: pa.Table, name: str) -> Any:
    return pc.list_value_length(table.column(name)).to_numpy()


def _too_many(table: pa.Table) -> Mask:
    wrong: Mask = np.logical_or.reduce([_lengths(table, name) > MOST_BUCKETS for name in _LISTS])
    return wrong


def _sums(table: pa.Table, name: str) -> Any:
    lists = table.column(name).combine_chunks()
    totals = np.concatenate(([0], np.cumsum(lists.flatten().to_numpy().astype(np.uint64))))
    ends = np.cumsum(_lengths(table, name))
    return totals[ends] - totals[np.concatenate(([0], ends[:-1]))]


def _misfit(table: pa.Table) -> Mask:
    counts, bounds = _lengths(table, "bucket_counts"), _lengths(table, "bounds")
    wrong: Mask = (counts != bounds + 1) & ((counts != 0) | (bounds != 0))
    return wrong


def _miscounted(table: pa.Table, kinds: Kinds) -> Mask:
    total = (
        _sums(table, "bucket_counts")
        + _sums(table, "positive_counts")
        + _sums(table, "negative_counts")
        + table.column("zero_count").to_numpy()
    )
    has_buckets = (_lengths(table, "bucket_counts") > 0) | np.isin(kinds, list(EXPONENTIAL_KINDS))
    wrong: Mask = has_buckets & (total != table.column("count").to_numpy())
    return wrong


def _unordered(table: pa.Table) -> Mask:
    lists = table.column("bounds").combine_chunks()
    flat = lists.flatten().to_numpy()
    row = np.repeat(np.arange(table.num_rows), _lengths(table, "bounds"))
    wrong = ~np.isfinite(flat)
    wrong[1:] |= (row[1:] == row[:-1]) & ~(flat[1:] > flat[:-1])
    result = np.zeros(table.num_rows, bool)
    result[row[wrong]] = True
    return result


def _non_finite(table: pa.Table) -> Mask:
    finite = pc.is_finite(table.column("sum")).fill_null(True)
    wrong: Mask = ~finite.to_numpy()
    return wrong
