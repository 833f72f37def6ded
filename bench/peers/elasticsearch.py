"""Elasticsearch, one node, with the nori analyzer for Korean. It acknowledges what is synced in its translog."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from bench.peers.ask import ask_json
from bench.peers.bulk import bulk_body, bulk_refused
from bench.peers.peer import Peer
from bench.target import Endpoint
from deploy.servers import elasticsearch
from services.supervisor.process import Command

INDEX = "bench-logs"
# A user gives it more than the tests do, and leaves it its own garbage collector.
_JAVA_OPTIONS = "-Xms2g -Xmx2g -XX:-UseSerialGC -XX:+UseG1GC"
_KOREAN = {"type": "custom", "tokenizer": "nori_tokenizer", "filter": ["lowercase"]}
_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_INDEX: dict[str, Any] = {
    "settings": {
        "number_of_shards": 1,
        "number_of_replicas": 0,
        "refresh_interval": "5s",
        "codec": "best_compression",
        "analysis": {
            "analyzer": {"korean": {"type": "custom", "tokenizer": "nori_tokenizer", "filter": ["lowercase"]}}
        },
    },
    "mappings": {
        "dynamic_templates": [{"strings": {"match_mapping_type": "string", "mapping": _KEYWORD}}],
        "properties": {
            "@timestamp": {"type": "date_nanos"},
            "message": {"type": "text", "analyzer": "korean"},
            "level": _KEYWORD,
            "service": _KEYWORD,
        },
    },
}


class ElasticsearchServer(elasticsearch.Elasticsearch):
    """The program with 2 GiB of heap."""

    def command(self, installation: Path) -> Command:
        """As for tests, with Java's options for a load."""
        command = super().command(installation)
        return dataclasses.replace(command, environment={**command.environment, "ES_JAVA_OPTS": _JAVA_OPTIONS})


class Elasticsearch(Peer):
    """Takes the same lines in its own bulk format, which is made of the OTLP requests before the clock starts."""

    name = "Elasticsearch 9.5.3, nori"
    signals = frozenset({"logs"})
    server_class: ClassVar[type[ElasticsearchServer]] = ElasticsearchServer

    def prepare(self) -> None:
        """Makes the index, unless a start before has."""
        indices = ask_json(self.server.address, "GET", f"/_cat/indices/{INDEX}*?format=json")
        if not indices:
            ask_json(self.server.address, "PUT", f"/{INDEX}", _INDEX)

    def endpoint(self, signal: str) -> Endpoint:
        """Its bulk API."""
        # Of items that were taken it answers nothing.
        path = f"/{INDEX}/_bulk?filter_path=errors,items.*.error.type"
        headers = {"Content-Type": "application/x-ndjson"}
        return Endpoint("http", self.server.address, path, headers, bulk_body, bulk_refused)

    def stored(self, signal: str) -> int:
        """By its count, after a refresh."""
        ask_json(self.server.address, "POST", f"/{INDEX}/_refresh")
        return int(ask_json(self.server.address, "GET", f"/{INDEX}/_count")["count"])
