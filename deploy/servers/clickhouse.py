"""ClickHouse server, run from the library that its Node.js package brings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar
from xml.sax.saxutils import escape

from deploy.servers.http import get
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import NpmPackage
from deploy.servers.server import Server
from services.supervisor.process import Command

PROCESS = Path(__file__).with_name("clickhouse_process.py")
_LIBRARY = Path("node_modules/@chdb/lib-linux-x64-gnu/libchdb.so")
# Opens the ports, then never ends: the program runs as long as its statement does.
_SERVE = (
    "SYSTEM START LISTEN QUERIES DEFAULT; "
    "SELECT sleepEachRow(1) FROM system.numbers SETTINGS max_block_size = 1, "
    "function_sleep_max_microseconds_per_block = 0 FORMAT Null"
)
_USERS = """\
<clickhouse>
  <profiles><default/></profiles>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
    </default>
  </users>
  <quotas><default/></quotas>
</clickhouse>
"""


class ClickHouse(Server):
    """`config` holds elements of the server's configuration by name, each with the XML inside it:
    {"macros": "<shard>1</shard>", "zookeeper": "<node>…</node>", "remote_servers": "…"}.

    The database `default` is one of its own kind: make another. Replicated tables can be made, but stay read-only, and
    `ON CLUSTER` is refused: the library has neither the port between replicas nor the queue of such statements.
    """

    recipe = NpmPackage(name="clickhouse", version="26.7.3", megabytes=570)
    port_names: ClassVar[tuple[str, ...]] = ("http", "tcp")

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://default@{self.address}"

    @property
    def settings(self) -> dict[str, str]:
        """All stores on it."""
        return {f"AIRIS_{signal}__STORE_DSN": self.url for signal in ("METRICS", "LOGS", "TRACES")}

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        users = self.data / "users.xml"
        users.write_text(_USERS)
        elements = {
            "users_config": escape(str(users)),
            "tmp_path": escape(f"{self.data / 'tmp'}/"),
            "max_server_memory_usage": str(4 * 1024**3),
            "mark_cache_size": str(256 * 1024**2),
            "logger": "<console>1</console><level>information</level>",
            **self.config,
        }
        file = self.data / "config.xml"
        inside = "".join(f"  <{name}>{content}</{name}>\n" for name, content in elements.items())
        file.write_text(f"<clickhouse>\n{inside}</clickhouse>\n")
        arguments = [
            "--config-file", str(file), "--path", str(self.data / "store"), "--listen_host", LOOPBACK,
            "--http_port", str(self.ports["http"]), "--tcp_port", str(self.ports["tcp"]), "--query", _SERVE,
            "--log-level=information",
        ]  # fmt: skip
        return Command(arguments=[sys.executable, "-I", "-S", str(PROCESS), str(installation / _LIBRARY), *arguments])

    def answers(self) -> bool:
        """Whether it answers over HTTP."""
        return get(self.address, "/ping") == (200, b"Ok.\n")
