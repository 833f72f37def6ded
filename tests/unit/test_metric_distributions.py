"""Quantiles and growth of distributions, against figures worked out by hand."""

from __future__ import annotations

import math
import sys

import pytest

from services.metrics.distribution_query import Merged, quantile


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
