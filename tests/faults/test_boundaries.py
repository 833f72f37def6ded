"""A service dies, or stands still, at every step between a batch's arrival and its commit: nothing acknowledged is
lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from faults.armed import embedded_points
from faults.armed_services import ArmedServices
from faults.items import SIGNALS
from faults.load import CALL_SECONDS

longer = pytest.mark.faults
"""Only `make faults` runs these."""
pytestmark = pytest.mark.timeout(1800)

# Files so small that they are begun, and deleted, all the time.
SEGMENT_BYTES = "20000"
# Whatever waits in the journal passes these at the next start.
TWICE = ("before boundary", "after boundary sync", "before commit", "after commit", "after sync", "before acknowledge")


async def die_everywhere(folder: Path, chance: random.Random, most: int | None = None) -> None:
    """Each signal's service dies at each of its points, in an order of the seed's, or at so many of them."""
    async with ArmedServices(folder, FAULTS_SEGMENT=SEGMENT_BYTES) as services:

        async def die(signal: str, plan: list[tuple[str, int, str]]) -> None:
            for point, count, again in plan:
                await services.die_at(signal, point, point, count, again)

        plans = {}
        for signal in SIGNALS:
            points = list(embedded_points(signal))
            chance.shuffle(points)
            # Every third time it dies again as soon as it comes back.
            second = [point if chance.random() < 1 / 3 else "" for point in chance.choices(TWICE, k=len(points))]
            counts = [chance.randint(1, 5) for _ in points]
            plans[signal] = list(zip(points, counts, second, strict=True))[:most]
        await asyncio.gather(*(die(signal, plan) for signal, plan in plans.items()))


async def test_killed_at_some_boundaries(tmp_path: Path, chance: random.Random) -> None:
    await die_everywhere(tmp_path, chance, most=2)


@longer
async def test_it_stands_still_at_every_boundary(tmp_path: Path, chance: random.Random) -> None:
    async with ArmedServices(tmp_path, FAULTS_SEGMENT=SEGMENT_BYTES) as services:

        async def stand_still(signal: str, plan: list[tuple[str, int, float]]) -> None:
            for point, count, seconds in plan:
                await services.stand_still_at(signal, point, count, seconds)

        plans: dict[str, list[tuple[str, int, float]]] = {signal: [] for signal in SIGNALS}
        for signal, plan in plans.items():
            points = list(embedded_points(signal))
            chance.shuffle(points)
            for number, point in enumerate(points):
                # Every third so long that senders repeat a call while its first attempt still stands there.
                least, most = (0.5, 2.5) if number % 3 else (1.1 * CALL_SECONDS, 1.6 * CALL_SECONDS)
                plan.append((point, chance.randint(1, 5), chance.uniform(least, most)))
        await asyncio.gather(*(stand_still(signal, plan) for signal, plan in plans.items()))


@longer
async def test_killed_at_every_boundary(tmp_path: Path, chance: random.Random) -> None:
    await die_everywhere(tmp_path, chance)
