"""ZooKeeper, one server: the keeper of ClickHouse's replicated tables.

Our ClickHouse keeps such a table's definition there, but does not serve other replicas, and so takes no data into it:
its library opens no port between servers.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar

from deploy.servers import tools
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import MavenLibraries
from deploy.servers.server import Server
from services.supervisor.process import Command

JAVA_RELEASE = 17


class Zookeeper(Server):
    """`config` holds settings of the server, such as {"tickTime": "500"}."""

    recipe = MavenLibraries(name="zookeeper", version="3.9.4", megabytes=13)
    port_names: ClassVar[tuple[str, ...]] = ("zookeeper",)

    @property
    def settings(self) -> dict[str, str]:
        """None: only ClickHouse talks to it."""
        return {}

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        settings = {
            "dataDir": str(self.data / "state"),
            "clientPortAddress": LOOPBACK,
            "clientPort": str(self.ports["zookeeper"]),
            "tickTime": "1000",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "srvr",
            **self.config,
        }
        file = self.data / "zoo.cfg"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        java = str(tools.java_home(JAVA_RELEASE) / "bin" / "java")
        options = ["-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        main = ["-cp", f"{installation / 'lib'}/*", "org.apache.zookeeper.server.ZooKeeperServerMain", str(file)]
        return Command(arguments=[java, *options, *main])

    def answers(self) -> bool:
        """Whether it serves: that its process is well, it would say before."""
        with socket.create_connection((LOOPBACK, self.ports["zookeeper"]), timeout=1) as connection:
            connection.sendall(b"srvr")
            with connection.makefile("rb") as answer:
                return b"Mode: standalone" in answer.read()
