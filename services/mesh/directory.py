"""Follows the services in Consul."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import structlog

from services.mesh.model import SIGNALS, Ports
from services.mesh.sets import Sets

logger = structlog.get_logger(__name__)


class Found(Protocol):
    """An instance in the directory."""

    @property
    def host(self) -> str:
        """Its address or host name."""

    @property
    def port(self) -> int:
        """For gRPC."""

    @property
    def http_port(self) -> int:
        """For HTTP; 0: unknown."""


Watch = Callable[[str], AsyncIterator[Sequence[Found]]]
"""Gives the healthy instances of a service now and after each change, and never ends."""


async def follow(sets: Sets, watch: Watch, prefix: str, lookup_interval: float = 5.0) -> None:
    """Keeps the sets as the directory has them; never ends.

    Args:
        sets: What is kept.
        watch: Follows one service.
        prefix: Services are called `<prefix>-<signal>` there.
        lookup_interval: After so many seconds host names of instances are looked up again.
    """
    async with asyncio.TaskGroup() as group:
        for signal in SIGNALS:
            service = _Service(sets, signal, lookup_interval)
            group.create_task(service.listen(watch(f"{prefix}-{signal}")))
            group.create_task(service.look_up())


class _Service:
    """The instances of one service, and what their names stand for: Envoy takes addresses only."""

    def __init__(self, sets: Sets, signal: str, lookup_interval: float) -> None:
        self._sets = sets
        self._signal = signal
        self._lookup_interval = lookup_interval
        self._instances: Sequence[Found] = ()
        self._has_changed = asyncio.Event()
        # By name. One that cannot be looked up now keeps what it had.
        self._addresses: dict[str, str] = {}
        self._unknown: set[str] = set()

    async def listen(self, changes: AsyncIterator[Sequence[Found]]) -> None:
        """Takes the instances as they are after each change."""
        async for instances in changes:
            self._instances = instances
            # A lookup may take long: what needs none does not wait for it.
            await self._update()
            self._has_changed.set()
            logger.info("instances_changed", signal=self._signal, instances=len(instances))

    async def look_up(self) -> None:
        """Looks names up after each change, and again and again."""
        while True:
            self._has_changed.clear()
            names = {instance.host for instance in self._instances if not _is_address(instance.host)}
            self._addresses = {name: address for name, address in self._addresses.items() if name in names}
            self._unknown &= names
            for name in sorted(names):
                await self._look_up(name)
                await self._update()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lookup_interval if names else None):
                    await self._has_changed.wait()

    async def _update(self) -> None:
        ports = []
        for instance in self._instances:
            host = instance.host if _is_address(instance.host) else self._addresses.get(instance.host)
            if host is not None:
                ports.append(Ports(host, instance.port, instance.http_port))
        await self._sets.update(self._signal, ports)

    async def _look_up(self, name: str) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            # Said once, not at each try.
            if name not in self._unknown:
                logger.warning("instance_has_no_address", host=name, error=str(error))
            self._unknown.add(name)
            return
        self._unknown.discard(name)
        addresses = [str(each[4][0]) for each in found]
        # Of several, the order changes from one answer to the next.
        if self._addresses.get(name) not in addresses:
            self._addresses[name] = addresses[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
