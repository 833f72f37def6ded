"""Which data answers a question about metrics, and how its answer is computed beside everything else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from services.metrics import distribution_query
from services.metrics.model import Aggregation, Capabilities, Kind, RangeQuery, TimeSeries
from services.metrics.query import MetricQuery, plan
from services.metrics.store.port import Plan
from services.shared.errors import DeadlineExceededError

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BASE = 1_790_000_000_000 // HOUR * HOUR
LATER = BASE + 100 * DAY
ONE, FIVE = BASE + HOUR, BASE + 5 * HOUR
PATIENCE = 10.0


def question(start: int, end: int, step: int = 0, aggregation: Aggregation = Aggregation.SUM) -> RangeQuery:
    return RangeQuery("default", "cpu", "", start, end, step, aggregation, 0.9, (), 1000)


@pytest.mark.parametrize(
    ("query", "raw_since", "expected"),
    [
        # All raw data is there: the edges that are no whole bucket come from it.
        (question(BASE + 1, BASE + 5 * HOUR - 1), 0, Plan(HOUR, BASE + HOUR, BASE + 4 * HOUR)),
        (question(BASE + 1, BASE + 5 * HOUR), BASE + 1, Plan(HOUR, BASE + HOUR, BASE + 5 * HOUR)),
        (question(BASE + 1, BASE + HOUR, MINUTE), 0, Plan(MINUTE, BASE + MINUTE, BASE + HOUR)),
        # It is gone, and no edge needs it.
        (question(BASE, BASE + 5 * HOUR), LATER, Plan(HOUR, BASE, BASE + 5 * HOUR)),
        (question(BASE, BASE + 5 * HOUR, 90 * MINUTE), LATER, Plan(MINUTE, BASE, BASE + 5 * HOUR)),
        # Minutes are known where hours would leave out or add much.
        (question(BASE, FIVE + MINUTE), LATER, Plan(HOUR, BASE, FIVE, ((FIVE, FIVE + MINUTE),))),
        (question(BASE + MINUTE, FIVE), LATER, Plan(HOUR, ONE, FIVE, ((BASE + MINUTE, ONE),))),
        (question(BASE + 1, ONE + 1), LATER, Plan(MINUTE, BASE, ONE + MINUTE)),
        # The minutes that the range cuts count whole.
        (question(BASE + 1, FIVE + 1), LATER, Plan(HOUR, ONE, FIVE, ((BASE, ONE), (FIVE, FIVE + MINUTE)))),
        (question(BASE + 7, BASE + 9), LATER, Plan(MINUTE, BASE, BASE + MINUTE)),
        # Only the raw data of the start is gone, or of a part of that edge.
        (question(BASE, FIVE + 1), ONE, Plan(HOUR, BASE, FIVE)),
        (question(BASE + 1, FIVE + 1), BASE + 5, Plan(HOUR, ONE, FIVE, ((BASE, ONE),))),
        (question(BASE, FIVE + 9), FIVE + 1, Plan(HOUR, BASE, FIVE, ((FIVE, FIVE + MINUTE),))),
        # No rollup has such steps.
        (question(BASE, BASE + HOUR, 90_000), LATER, Plan(0, BASE, BASE)),
        (question(BASE, BASE + HOUR, MINUTE, Aggregation.RATE), 0, Plan(0, BASE, BASE)),
    ],
)
def test_the_coarsest_figures_answer_that_need_no_raw_data_which_is_gone(
    query: RangeQuery, raw_since: int, expected: Plan
) -> None:
    assert plan(query, raw_since) == expected


class HistogramReader:
    """A store whose metrics are histograms."""

    def capabilities(self, now_ms: int) -> Capabilities:
        return Capabilities(frozenset(Aggregation), datetime.fromtimestamp(0, UTC))

    async def kinds(self, *_: Any) -> frozenset[Kind]:
        return frozenset({Kind.HISTOGRAM})

    async def aggregate(self, *_: Any) -> list[TimeSeries]:
        return []

    async def distributions(self, *_: Any) -> pa.Table:
        return pa.table({})


class Evaluations:
    """Stands in for `distribution_query.evaluate`: each ends when it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun = asyncio.Semaphore(0)
        self.count = 0
        self._loop = asyncio.get_running_loop()

    def __call__(self, *_: Any) -> list[TimeSeries]:
        self.count += 1
        self._loop.call_soon_threadsafe(self.begun.release)
        assert self.may_end.wait(PATIENCE)
        return [TimeSeries({}, [BASE], [float(self.count)])]


@pytest.fixture
async def evaluations(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Evaluations]:
    made = Evaluations()
    monkeypatch.setattr(distribution_query, "evaluate", made)
    yield made
    made.may_end.set()


async def test_histograms_are_evaluated_beside_everything_else_and_one_query_at_a_time(
    evaluations: Evaluations,
) -> None:
    query = MetricQuery(HistogramReader())
    asked = [asyncio.create_task(query.query(question(BASE, BASE + HOUR), LATER, PATIENCE)) for _ in range(3)]
    await evaluations.begun.acquire()
    for _ in range(100):
        await asyncio.sleep(0)
    assert evaluations.count == 1
    evaluations.may_end.set()
    assert [(await each).series[0].values for each in asked] == [[1.0], [2.0], [3.0]]


async def test_histograms_that_take_too_long_are_given_up_at_the_deadline(evaluations: Evaluations) -> None:
    query = MetricQuery(HistogramReader())
    with pytest.raises(DeadlineExceededError, match="shorter range"):
        await query.query(question(BASE, BASE + HOUR), LATER, 0.05)
    # The thread cannot be stopped: until it ends, no other may begin.
    with pytest.raises(DeadlineExceededError):
        await query.query(question(BASE, BASE + HOUR), LATER, 0.05)
    assert evaluations.count == 1
    evaluations.may_end.set()
    assert (await query.query(question(BASE, BASE + HOUR), LATER, PATIENCE)).series[0].values == [2.0]
