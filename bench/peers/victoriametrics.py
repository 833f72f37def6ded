"""VictoriaMetrics, one node. It acknowledges what is in memory, and writes it to disk within seconds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

from bench.peers.ask import ask, metric, wait_until
from bench.peers.peer import Peer, PeerServer
from bench.peers.promql import points_stored
from bench.target import Endpoint
from deploy.servers.http import get
from deploy.servers.recipe import GoProgramWithC
from services.supervisor.process import Command

# It writes what is in memory every five seconds.
_FLUSH_SECONDS = 30.0


class VictoriaMetricsServer(PeerServer):
    """The program, with its defaults but for limits of queries, which would refuse to count everything."""

    recipe = GoProgramWithC(
        name="victoriametrics",
        version="1.150.0",
        megabytes=20,
        package="github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics",
    )
    port_names: ClassVar[tuple[str, ...]] = ("http",)

    def command(self, installation: Path) -> Command:
        """All settings are arguments."""
        return Command(
            arguments=[
                str(installation / "bin" / "victoriametrics"),
                f"-storageDataPath={self.data / 'data'}",
                f"-httpListenAddr={self.address}",
                "-retentionPeriod=1y",
                "-search.maxUniqueTimeseries=20000000",
                "-search.maxSeries=20000000",
                "-search.maxSamplesPerQuery=20000000000",
                "-search.maxQueryDuration=5m",
                "-loggerLevel=WARN",
            ],
            stop_seconds=60.0,
        )

    def answers(self) -> bool:
        """Whether it says that it is well."""
        return get(self.address, "/health")[0] == 200


class VictoriaMetrics(Peer):
    """Takes OTLP over HTTP."""

    name = "VictoriaMetrics 1.150"
    signals = frozenset({"metrics"})
    server_class = VictoriaMetricsServer

    def endpoint(self, signal: str) -> Endpoint:
        """Its OTLP receiver."""
        return Endpoint("http", self.server.address, "/opentelemetry/v1/metrics")

    def disk_bytes(self) -> int:
        """What its data takes, once all of it is on disk."""
        in_memory = functools.partial(metric, self.server.address, "vm_rows", 'type="storage/inmemory"')
        wait_until(lambda: in_memory() == 0, _FLUSH_SECONDS)
        return super().disk_bytes()

    def stored(self, signal: str) -> int:
        """By PromQL, once what is in memory can be searched."""
        ask(self.server.address, "GET", "/internal/force_flush")
        return points_stored(self.server.address)
