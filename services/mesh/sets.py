"""The last known instances of each service, and who waits for changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.mesh.model import ALL, SIGNALS, Address, Ports


class Sets:
    """Addresses by name. An answer without instances changes nothing: more likely Consul lost them than that all are
    gone, and Envoy asks each for its health itself.

    Attributes:
        version: Grows with each change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._ports: dict[str, tuple[Ports, ...]] = {}
        self._changed = asyncio.Condition()

    async def update(self, signal: str, instances: Sequence[Ports]) -> None:
        """Takes the instances of a service as they are now."""
        found = tuple(sorted(instances))
        if not found or self._ports.get(signal) == found:
            return
        async with self._changed:
            self._ports[signal] = found
            self.version += 1
            self._changed.notify_all()

    async def tell(self) -> None:
        """Wakes whoever waits, so that it sees what else has changed."""
        async with self._changed:
            self._changed.notify_all()

    async def changed_since(self, version: int, has_news: Callable[[], bool]) -> None:
        """Returns when there is a later version, or other news."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.version != version or has_news())

    def addresses(self, name: str) -> tuple[Address, ...]:
        """The addresses of a set, sorted; none: it is not known yet, or there is no such set."""
        signal, _, kind = name.partition("/")
        signals = SIGNALS if signal == ALL else (signal,)
        instances = [instance for each in signals for instance in self._ports.get(each, ())]
        if kind == "grpc":
            found = {Address(instance.host, instance.grpc) for instance in instances}
        elif kind == "http":
            found = {Address(instance.host, instance.http) for instance in instances if instance.http}
        else:
            found = set()
        return tuple(sorted(found))

    @property
    def known(self) -> frozenset[str]:
        """The services of which an instance was ever seen."""
        return frozenset(self._ports)
