"""VictoriaLogs, one node. It acknowledges what is in memory, and writes it to disk within seconds."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import ClassVar

from bench.peers.ask import ask, ask_form, metric, wait_until
from bench.peers.peer import Peer, PeerServer
from bench.target import Endpoint
from deploy.servers.http import get
from deploy.servers.recipe import GoProgramWithC
from services.supervisor.process import Command

# It writes what is in memory every five seconds.
_FLUSH_SECONDS = 30.0


class VictoriaLogsServer(PeerServer):
    """The program, with its defaults."""

    recipe = GoProgramWithC(
        name="victorialogs",
        version="1.51.1",
        megabytes=17,
        package="github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",
    )
    port_names: ClassVar[tuple[str, ...]] = ("http",)

    def command(self, installation: Path) -> Command:
        """All settings are arguments."""
        return Command(
            arguments=[
                str(installation / "bin" / "victorialogs"),
                f"-storageDataPath={self.data / 'data'}",
                f"-httpListenAddr={self.address}",
                "-retentionPeriod=1y",
                "-search.maxQueryDuration=5m",
                "-loggerLevel=WARN",
            ],
            stop_seconds=60.0,
        )

    def answers(self) -> bool:
        """Whether it says that it is well."""
        return get(self.address, "/health")[0] == 200


class VictoriaLogs(Peer):
    """Takes OTLP over HTTP; the resource's attributes make its log streams, as is its default."""

    name = "VictoriaLogs 1.51"
    signals = frozenset({"logs"})
    server_class = VictoriaLogsServer

    def endpoint(self, signal: str) -> Endpoint:
        """Its OTLP receiver."""
        return Endpoint("http", self.server.address, "/insert/opentelemetry/v1/logs")

    def disk_bytes(self) -> int:
        """What its data takes, once all of it is on disk."""
        in_memory = functools.partial(metric, self.server.address, "vl_storage_rows", 'type="storage/inmemory"')
        wait_until(lambda: in_memory() == 0, _FLUSH_SECONDS)
        return super().disk_bytes()

    def stored(self, signal: str) -> int:
        """By LogsQL, once what is in memory can be searched."""
        ask(self.server.address, "GET", "/internal/force_flush")
        answer = ask_form(self.server.address, "/select/logsql/query", {"query": "* | stats count() as lines"})
        return int(json.loads(answer)["lines"]) if answer.strip() else 0
