"""Prometheus with its OTLP receiver. What it acknowledges is in its write-ahead log, which is not synced to disk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import yaml

from bench.peers.peer import Peer, PeerServer
from bench.peers.promql import points_stored
from bench.target import Endpoint
from deploy.servers.http import get
from deploy.servers.recipe import GoProgram
from services.supervisor.process import Command

# What its guide to OpenTelemetry asks for: room for points that come late, and the resource's attributes as labels,
# which the others keep too.
_CONFIGURATION = {
    "global": {"scrape_interval": "1m"},
    "otlp": {"promote_all_resource_attributes": True},
    "storage": {"tsdb": {"out_of_order_time_window": "30m"}},
}


class PrometheusServer(PeerServer):
    """The program, with its defaults but for limits of queries, which would refuse to count everything."""

    recipe = GoProgram(
        name="prometheus",
        version="0.315.0",
        megabytes=120,
        package="github.com/prometheus/prometheus/cmd/prometheus",
    )
    port_names: ClassVar[tuple[str, ...]] = ("http",)

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        file = self.data / "prometheus.yaml"
        file.write_text(yaml.safe_dump(_CONFIGURATION))
        return Command(
            arguments=[
                str(installation / "bin" / "prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={self.data / 'data'}",
                f"--web.listen-address={self.address}",
                "--web.enable-otlp-receiver",
                "--query.max-samples=2000000000",
                "--query.timeout=5m",
                "--log.level=warn",
            ],
            stop_seconds=60.0,
        )

    def answers(self) -> bool:
        """Whether it has read its log and takes requests."""
        return get(self.address, "/-/ready")[0] == 200


class Prometheus(Peer):
    """Takes OTLP over HTTP."""

    name = "Prometheus 3.15"
    signals = frozenset({"metrics"})
    server_class = PrometheusServer

    def endpoint(self, signal: str) -> Endpoint:
        """Its OTLP receiver."""
        return Endpoint("http", self.server.address, "/api/v1/otlp/v1/metrics")

    def stored(self, signal: str) -> int:
        """By PromQL."""
        return points_stored(self.server.address)
