"""The embedded profile, as `airis up` starts it: its processes are killed and stopped, and its network breaks, under
load. Nothing acknowledged is lost, nothing is stored twice, nothing refused is stored, and nobody has to help."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fakes.tcp_proxy import Direction
from faults.embedded import PROCESSES, SUPERVISOR, Embedded

longer = pytest.mark.faults
"""Only `make faults` runs these."""
pytestmark = pytest.mark.timeout(600)

Fault = Callable[[Embedded, random.Random], Awaitable[object]]


async def reset(platform: Embedded, chance: random.Random) -> None:
    """Connections end at once, some of them amid a message or an answer."""
    for proxy in platform.proxies.values():
        proxy.reset_after(chance.randint(1, 20_000))
    await platform.pause(0.5)
    for proxy in platform.proxies.values():
        proxy.reset_after(chance.randint(1, 50), Direction.TO_CLIENT)
    await platform.pause(0.5)
    for proxy in platform.proxies.values():
        proxy.heal()
        proxy.reset()


async def half_open(platform: Embedded, chance: random.Random) -> None:
    """One side goes on with connections of which the other knows nothing any more."""
    for proxy in platform.proxies.values():
        proxy.blackhole()
    # Longer than a call may take: its sender gives it up, and the service may have stored it.
    await platform.pause(8.0, at_least=5.5)
    for proxy in platform.proxies.values():
        proxy.reset()
        proxy.heal()


async def half_closed(platform: Embedded, chance: random.Random) -> None:
    """One side says that it sends nothing any more."""
    ways = list(Direction)
    chance.shuffle(ways)
    for way in ways:
        for proxy in platform.proxies.values():
            proxy.half_close(way)
        await platform.pause(0.5)


async def lossy(platform: Embedded, chance: random.Random) -> None:
    """What TCP makes of lost packets: everything stands still, for as long as a repetition takes, again and again."""
    for _ in range(20):
        for proxy in platform.proxies.values():
            proxy.blackhole()
        await platform.pause(0.4, at_least=0.2)
        for proxy in platform.proxies.values():
            proxy.heal()
        await platform.pause(0.1)


async def slow(platform: Embedded, chance: random.Random) -> None:
    """A long way, and a narrow one."""
    for proxy in platform.proxies.values():
        proxy.delay(chance.uniform(0.1, 0.4))
        proxy.throttle(300_000)
    await platform.pause(4.0, at_least=2.0)
    for proxy in platform.proxies.values():
        proxy.heal()


def killed(name: str) -> Fault:
    """That process is killed."""
    return lambda platform, chance: platform.kill(name)


def stopped(name: str) -> Fault:
    """That process stands still for a while."""
    return lambda platform, chance: platform.halt(name)


KILLED: dict[str, Fault] = {f"{name} killed": killed(name) for name in PROCESSES}
STOPPED: dict[str, Fault] = {f"{name} stopped": stopped(name) for name in (*PROCESSES, SUPERVISOR)}
NETWORK: dict[str, Fault] = {
    "connections reset": reset,
    "connections half open": half_open,
    "connections half closed": half_closed,
    "packets lost": lossy,
    "network slow": slow,
}


async def endure(folder: Path, chance: random.Random, faults: dict[str, Fault]) -> None:
    """Each fault once, in an order of the seed's; `Embedded` finds out what became of everything that was sent."""
    order = list(faults)
    chance.shuffle(order)
    async with Embedded(folder, chance) as platform:
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
async def test_the_network_breaks(tmp_path: Path, chance: random.Random) -> None:
    await endure(tmp_path, chance, NETWORK)
