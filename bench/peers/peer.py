"""What the peers have in common: each is one process that our own provisioning had built into its cache."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.processes import disk_bytes
from bench.target import Endpoint, TargetError
from deploy.servers.cache import Cache
from deploy.servers.errors import ServerError
from deploy.servers.server import Server

_FETCH = "python -m bench.peers fetch"


class PeerServer(Server):
    """A server that is no part of our platform: none of our settings points at it."""

    @property
    def settings(self) -> dict[str, str]:
        """None."""
        return {}


class Peer(ABC):
    """One peer as a `bench.target.Target`; it may be started again on its data.

    Attributes:
        name: For people, with the version.
        signals: Which signals it takes.
        stores: Whether it stores anything.
        server_class: The program.
    """

    name: str
    signals: frozenset[str]
    stores: bool = True
    server_class: ClassVar[type[Server]]

    def __init__(self) -> None:
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The program.

        Raises:
            TargetError: It was never started.
        """
        if self._server is None:
            raise TargetError(f"{self.name} was not started.")
        return self._server

    def make_server(self, directory: Path) -> Server:
        """The program on a folder, not started."""
        return self.server_class(directory)

    def start(self, directory: Path) -> None:
        """Starts it with its data in a folder; returns when it takes requests.

        Raises:
            TargetError: It does not start; says what it printed.
        """
        # Elasticsearch may run as another user.
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        if self._server is None or self._server.data != directory.absolute():
            self.stop()
            self._server = self.make_server(directory)
        if not Cache().has(self.server_class.recipe):
            raise TargetError(f"{self.name} is not in the cache: run `make bench-peers`, or `{_FETCH}`.")
        try:
            self._server.start()
        except (ServerError, OSError) as error:
            raise TargetError(str(error)) from error
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Makes what must be there before the load; called after each start."""

    @abstractmethod
    def endpoint(self, signal: str) -> Endpoint:
        """Where a signal goes."""

    @abstractmethod
    def stored(self, signal: str) -> int:
        """How many items can be read back now, exactly, by its own query API.

        Raises:
            TargetError: It does not answer.
        """

    def pids(self) -> list[int]:
        """Its process; none when it does not run."""
        with contextlib.suppress(ServerError):
            return [self.server.pid]
        return []

    def disk_bytes(self) -> int:
        """What its data takes now, its log left out."""
        log = self.server.log
        return disk_bytes(self.server.data) - (log.stat().st_blocks * 512 if log.exists() else 0)

    def stop(self) -> None:
        """Ends it; does nothing when it does not run."""
        if self._server is not None:
            self._server.stop()
