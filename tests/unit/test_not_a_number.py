"""A setting that is not a number is out of its range, wherever it is given."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from resilience import BreakerSettings, Bulkhead, Retry, RetryBudget


def retry(*, initial_backoff: float = 0.1, max_backoff: float = 1.0, multiplier: float = 2.0) -> Retry:
    return Retry(
        "weather",
        max_attempts=2,
        initial_backoff=initial_backoff,
        max_backoff=max_backoff,
        multiplier=multiplier,
        is_retryable=lambda _: True,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bulkhead("weather", 1, 1, math.nan),
        lambda: retry(initial_backoff=math.nan),
        lambda: retry(max_backoff=math.nan),
        lambda: retry(multiplier=math.nan),
        lambda: RetryBudget(ratio=math.nan),
        lambda: RetryBudget(reserve=math.nan),
        lambda: RetryBudget(rest=math.nan),
        lambda: BreakerSettings(slow_call_seconds=math.nan),
        lambda: BreakerSettings(open_seconds=math.nan),
        lambda: BreakerSettings(failure_rate=math.nan),
        lambda: BreakerSettings(window_seconds=math.nan),
    ],
)
def test_what_is_no_number_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="nan"):
        make()
