"""Joining items to batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from airis.client import Batcher, FailedPreconditionError, UnavailableError
from airis.metrics.v1 import metrics_pb2


class Collector:
    """A sender whose gate may be shut."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent = asyncio.Event()
        self.tried = asyncio.Event()
        self.failure: UnavailableError | None = None
        self.is_closed = False

    async def send(self, items: Sequence[metrics_pb2.Metric]) -> int:
        await self.gate.wait()
        self.tried.set()
        if self.failure:
            raise self.failure
        self.batches.append([item.value for item in items])
        self.sent.set()
        return len(self.batches)

    async def flush(self) -> None:
        return

    async def close(self) -> None:
        self.is_closed = True

    async def abort(self) -> None:
        self.is_closed = True


def point(value: float, text: str = "") -> metrics_pb2.Metric:
    return metrics_pb2.Metric(name="m", value=value, unit=text)


async def test_a_batch_goes_when_it_has_enough_items() -> None:
    collector = Collector()
    async with Batcher(collector, max_items=3, max_age=60) as batcher:
        await batcher.add_all(point(number) for number in range(7))
        assert collector.batches == [[0, 1, 2], [3, 4, 5]]
    assert collector.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert collector.is_closed


async def test_a_batch_goes_before_it_passes_its_bytes_and_a_long_item_goes_alone() -> None:
    collector = Collector()
    async with Batcher(collector, max_bytes=100, max_age=60) as batcher:
        for value, text in ((1, "x" * 30), (2, "x" * 30), (3, "x" * 30), (4, "x" * 500), (5, "")):
            await batcher.add(point(value, text))
    assert collector.batches == [[1, 2], [3], [4], [5]]


async def test_a_lonely_item_goes_when_it_is_old() -> None:
    collector = Collector()
    async with Batcher(collector, max_age=0.01) as batcher:
        await batcher.add(point(1))
        await asyncio.wait_for(collector.sent.wait(), 5)
        assert collector.batches == [[1]]


async def test_adding_waits_while_the_sender_is_full_and_a_cancelled_add_takes_nothing() -> None:
    collector = Collector()
    collector.gate.clear()
    async with Batcher(collector, max_items=2, max_age=60) as batcher:
        await batcher.add(point(1))
        await batcher.add(point(2))
        third = asyncio.create_task(batcher.add(point(3)))
        await asyncio.wait({third}, timeout=0.05)
        assert not third.done()
        third.cancel()
        await asyncio.wait({third})
        collector.gate.set()
        await batcher.add(point(4))
    assert collector.batches == [[1, 2], [4]]


async def test_a_failure_in_the_background_is_raised_by_the_next_add() -> None:
    collector = Collector()
    collector.failure = UnavailableError("The service is away.")
    batcher = Batcher(collector, max_age=0.001)
    await batcher.__aenter__()
    await batcher.add(point(1))
    await asyncio.wait_for(collector.tried.wait(), 5)
    with pytest.raises(UnavailableError):
        await batcher.add(point(2))
    await batcher.abort()


async def test_a_closed_batcher_takes_nothing() -> None:
    async with Batcher(Collector()) as batcher:
        pass
    with pytest.raises(FailedPreconditionError):
        await batcher.add(point(1))
