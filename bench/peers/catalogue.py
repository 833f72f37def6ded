"""The peers that there are."""

from __future__ import annotations

from bench.peers.collector import Collector
from bench.peers.elasticsearch import Elasticsearch
from bench.peers.jaeger import JaegerInMemory, JaegerOnDisk
from bench.peers.peer import Peer
from bench.peers.prometheus import Prometheus
from bench.peers.victorialogs import VictoriaLogs
from bench.peers.victoriametrics import VictoriaMetrics
from deploy.servers.recipe import Recipe

PEERS: dict[str, type[Peer]] = {
    "victoriametrics": VictoriaMetrics,
    "prometheus": Prometheus,
    "jaeger-memory": JaegerInMemory,
    "jaeger-badger": JaegerOnDisk,
    "victorialogs": VictoriaLogs,
    "elasticsearch": Elasticsearch,
    "collector": Collector,
}
"""In the order of the table."""


def recipes(names: list[str]) -> list[Recipe]:
    """How the programs of peers are had, each once."""
    found = {PEERS[name].server_class.recipe.name: PEERS[name].server_class.recipe for name in names}
    return list(found.values())
