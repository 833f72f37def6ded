"""The OpenTelemetry collector that drops everything: what receiving OTLP costs when nothing is stored."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar

import yaml

from bench.peers.ask import metric
from bench.peers.peer import Peer, PeerServer
from bench.target import Endpoint, otlp_grpc
from deploy.servers.http import get
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import GoProgram
from services.supervisor.process import Command

_COUNTERS = {"metrics": "metric_points", "logs": "log_records", "traces": "spans"}


class CollectorServer(PeerServer):
    """Its receiver for OTLP, and an exporter that does nothing."""

    recipe = GoProgram(name="collector", version="0.159.0", megabytes=30, package=".")
    port_names: ClassVar[tuple[str, ...]] = ("otlp_grpc", "metrics")

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        pipeline = {"receivers": ["otlp"], "exporters": ["nop"]}
        reader = {"pull": {"exporter": {"prometheus": {"host": LOOPBACK, "port": self.ports["metrics"]}}}}
        configuration = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.address}}}},
            "exporters": {"nop": {}},
            "service": {
                "pipelines": dict.fromkeys(_COUNTERS, pipeline),
                "telemetry": {"metrics": {"level": "basic", "readers": [reader]}, "logs": {"level": "warn"}},
            },
        }
        file = self.data / "collector.yaml"
        file.write_text(yaml.safe_dump(configuration))
        return Command(arguments=[str(installation / "bin" / "collector"), f"--config=file:{file}"])

    def answers(self) -> bool:
        """Whether it listens."""
        with socket.create_connection((LOOPBACK, self.ports["otlp_grpc"]), 1):
            return get(self.address_of("metrics"), "/metrics")[0] == 200


class Collector(Peer):
    """Takes OTLP over gRPC."""

    name = "OTel collector 0.159, drops all"
    signals = frozenset(_COUNTERS)
    stores = False
    server_class = CollectorServer

    def endpoint(self, signal: str) -> Endpoint:
        """Its OTLP receiver."""
        return otlp_grpc(signal, self.server.address)

    def stored(self, signal: str) -> int:
        """What its own counter says that it accepted; none of it is kept."""
        return round(metric(self.server.address_of("metrics"), f"otelcol_receiver_accepted_{_COUNTERS[signal]}"))
