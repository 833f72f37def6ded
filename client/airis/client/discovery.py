"""How a client finds the instances of the services by itself: through Consul, without a proxy between."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import grpc
from airis.client.errors import InvalidArgumentError

DISCOVERY_VARIABLE = "AIRIS_DISCOVERY_URL"
"""Not AIRIS_DISCOVERY: that is where the services' own settings of discovery begin."""

Balancing = Literal["least_request", "round_robin"]

_URL = re.compile(r"consul://(?P<address>(\[[0-9a-fA-F:]+\]|[^\s/:@?#]+):[0-9]{1,5})(/(?P<prefix>[a-z0-9-]{1,50}))?/?")


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """A process that answers calls.

    Attributes:
        id: Its name in the directory, unique in all of it.
        host: Its address or host name.
        port: For gRPC.
        http_port: For HTTP; 0: unknown.
    """

    id: str
    host: str
    port: int
    http_port: int = 0

    @property
    def target(self) -> str:
        """`host:port` for gRPC."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Directory(Protocol):
    """Knows which instances of a service are healthy."""

    def watch(self, service: str) -> AsyncIterator[tuple[Instance, ...]]:
        """Gives the healthy instances now and after each change; never ends, never raises while it is away."""

    async def close(self) -> None:
        """Lets go of what it holds."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where a client finds instances, and how it shares its calls among them.

    Attributes:
        address: `host:port` of the HTTP API of Consul's agent.
        prefix: Services are registered as `<prefix>-<signal>`.
        token_file: A file with Consul's ACL token, read again for each question; None: `CONSUL_HTTP_TOKEN`, if set.
        balancing: "least_request": the instance with the fewest calls under way of the next four that are connected;
            "round_robin": the next.
    """

    address: str
    prefix: str = "airis"
    token_file: Path | None = None
    balancing: Balancing = "least_request"

    @classmethod
    def parse(cls, url: str, balancing: Balancing = "least_request") -> Discovery:
        """Reads `consul://host:port` or `consul://host:port/prefix`.

        Raises:
            InvalidArgumentError: It is none.
        """
        found = _URL.fullmatch(url)
        if found is None or not 0 < int(found["address"].rpartition(":")[2]) < 65536:
            raise InvalidArgumentError(
                f"{url!r} names no directory; write for example consul://127.0.0.1:8500.",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        return cls(found["address"], found["prefix"] or "airis", balancing=balancing)

    @classmethod
    def find(
        cls, discovery: str | Discovery | None, *, use_environment: bool, environment: Mapping[str, str] = os.environ
    ) -> Discovery | None:
        """What is given, or else what `AIRIS_DISCOVERY_URL` says; None: addresses are fixed. Raises as `parse`."""
        if isinstance(discovery, Discovery):
            return discovery
        url = discovery or (environment.get(DISCOVERY_VARIABLE) if use_environment else None)
        return cls.parse(url) if url else None

    def service(self, signal: str) -> str:
        """The name of a signal's service in the directory."""
        return f"{self.prefix}-{signal}"

    def open(self) -> Directory:
        """The directory; nothing is asked yet."""
        # py-consul is slow to import, and most clients have fixed addresses.
        from airis.client.discovery_consul import ConsulAgent, ConsulDirectory

        return ConsulDirectory(ConsulAgent(self.address, self.token_file))
