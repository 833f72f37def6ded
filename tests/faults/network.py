"""What happens to connections, made by the tests' own proxies: it strikes, and is over when it returns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

from fakes.tcp_proxy import Direction, TcpProxy


async def reset(proxies: Collection[TcpProxy], chance: random.Random) -> None:
    """Connections end at once, some of them amid a message or an answer."""
    for proxy in proxies:
        proxy.reset_after(chance.randint(1, 20_000))
    await _pause(chance, 0.5)
    for proxy in proxies:
        proxy.reset_after(chance.randint(1, 50), Direction.TO_CLIENT)
    await _pause(chance, 0.5)
    for proxy in proxies:
        proxy.heal()
        proxy.reset()


async def half_open(proxies: Collection[TcpProxy], chance: random.Random) -> None:
    """One side goes on with connections of which the other knows nothing any more."""
    for proxy in proxies:
        proxy.blackhole()
    # Longer than a call may take: its sender gives it up, and the service may have stored it.
    await _pause(chance, 8.0, at_least=5.5)
    for proxy in proxies:
        proxy.reset()
        proxy.heal()


async def half_closed(proxies: Collection[TcpProxy], chance: random.Random) -> None:
    """One side says that it sends nothing any more."""
    ways = list(Direction)
    chance.shuffle(ways)
    for way in ways:
        for proxy in proxies:
            proxy.half_close(way)
        await _pause(chance, 0.5)


async def lossy(proxies: Collection[TcpProxy], chance: random.Random) -> None:
    """What TCP makes of lost packets: everything stands still, for as long as a repetition takes, again and again."""
    for _ in range(20):
        for proxy in proxies:
            proxy.blackhole()
        await _pause(chance, 0.4, at_least=0.2)
        for proxy in proxies:
            proxy.heal()
        await _pause(chance, 0.1)


async def slow(proxies: Collection[TcpProxy], chance: random.Random) -> None:
    """A long way, and a narrow one."""
    for proxy in proxies:
        proxy.delay(chance.uniform(0.1, 0.4))
        proxy.throttle(300_000)
    await _pause(chance, 4.0, at_least=2.0)
    for proxy in proxies:
        proxy.heal()


FAULTS: dict[str, Callable[[Collection[TcpProxy], random.Random], Awaitable[None]]] = {
    "connections reset": reset,
    "connections half open": half_open,
    "connections half closed": half_closed,
    "packets lost": lossy,
    "network slow": slow,
}


async def during(using: Coroutine[Any, Any, None], strike: Callable[[], Awaitable[None]]) -> None:
    """A fault strikes again and again until that is done which uses the connections: it may begin with them late."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(using)
        while not task.done():
            await strike()


async def _pause(chance: random.Random, most: float, at_least: float = 0.0) -> None:
    await asyncio.sleep(chance.uniform(at_least, most))
