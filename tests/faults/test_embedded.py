"""The embedded profile, as `airis up` starts it: its processes are killed and stopped, and its network breaks, under
load. Nothing acknowledged is lost, nothing is stored twice, nothing refused is stored, and nobody has to help."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from faults import network
from faults.embedded import PROCESSES, SUPERVISOR, Embedded
from faults.items import SIGNALS

longer = pytest.mark.faults
"""Only `make faults` runs these."""
pytestmark = pytest.mark.timeout(600)

Fault = Callable[[Embedded, random.Random], Awaitable[object]]


def killed(name: str) -> Fault:
    """That process is killed."""
    return lambda platform, chance: platform.kill(name)


def stopped(name: str) -> Fault:
    """That process stands still for a while."""
    return lambda platform, chance: platform.halt(name)


def broken(name: str) -> Fault:
    """That happens to every connection to Envoy."""
    return lambda platform, chance: network.FAULTS[name](platform.proxies.values(), chance)


KILLED: dict[str, Fault] = {f"{name} killed": killed(name) for name in PROCESSES}
STOPPED: dict[str, Fault] = {f"{name} stopped": stopped(name) for name in (*PROCESSES, SUPERVISOR)}
NETWORK: dict[str, Fault] = {name: broken(name) for name in network.FAULTS}


async def endure(folder: Path, chance: random.Random, faults: dict[str, Fault], frontends: int = 0) -> None:
    """Each fault once, in an order of the seed's; `Embedded` finds out what became of everything that was sent."""
    order = list(faults)
    chance.shuffle(order)
    async with Embedded(folder, chance, frontends) as platform:
        for name in order:
            await platform.strike(name, lambda name=name: faults[name](platform, chance))  # type: ignore[misc]


@longer
async def test_a_short_run(tmp_path: Path, chance: random.Random) -> None:
    some = [*chance.sample(sorted(STOPPED), 2), *chance.sample(sorted(NETWORK), 2)]
    await endure(
        tmp_path, chance, KILLED | {name: fault for name, fault in (STOPPED | NETWORK).items() if name in some}
    )


@longer
async def test_each_process_is_killed_again_and_again(tmp_path: Path, chance: random.Random) -> None:
    async with Embedded(tmp_path, chance) as platform:
        for _ in range(2):
            for name in chance.sample(PROCESSES, len(PROCESSES)):
                await platform.strike(f"{name} killed", lambda name=name: platform.kill(name))  # type: ignore[misc]
        # Two at a time: what one needs of the other is away when it comes back.
        pair = chance.sample(PROCESSES, 2)
        await platform.strike("two killed", lambda: asyncio.gather(*(platform.kill(name) for name in pair)))


@longer
async def test_everything_is_killed_at_once(tmp_path: Path, chance: random.Random) -> None:
    async with Embedded(tmp_path, chance) as platform:
        for _ in range(3):
            await platform.strike("everything killed", platform.kill_all)


@longer
async def test_each_process_stands_still_for_a_while(tmp_path: Path, chance: random.Random) -> None:
    await endure(tmp_path, chance, STOPPED)


@longer
async def test_frontends_and_the_services_behind_them_are_killed_and_stand_still(
    tmp_path: Path, chance: random.Random
) -> None:
    names = ("frontend-1", "frontend-2", *SIGNALS)
    faults = {f"{name} killed": killed(name) for name in names} | {f"{name} stopped": stopped(name) for name in names}
    await endure(tmp_path, chance, faults, frontends=2)


@longer
async def test_the_network_breaks(tmp_path: Path, chance: random.Random) -> None:
    await endure(tmp_path, chance, NETWORK)
