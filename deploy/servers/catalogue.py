"""The servers that there are."""

from __future__ import annotations

from deploy.servers.clickhouse import ClickHouse
from deploy.servers.consul import Consul
from deploy.servers.elasticsearch import Elasticsearch
from deploy.servers.errors import ServerError
from deploy.servers.jaeger import Jaeger
from deploy.servers.kafka import Kafka
from deploy.servers.postgres import Postgres
from deploy.servers.redis import Redis
from deploy.servers.server import Server
from deploy.servers.zookeeper import Zookeeper

# In the order in which they are made: what others wait for longest begins first.
_CLASSES: tuple[type[Server], ...] = (Jaeger, Consul, Kafka, ClickHouse, Elasticsearch, Zookeeper, Postgres, Redis)
SERVERS: dict[str, type[Server]] = {kind.recipe.name: kind for kind in _CLASSES}


def server_class(name: str) -> type[Server]:
    """The class of a server by its name.

    Raises:
        ServerError: There is no such server.
    """
    if name not in SERVERS:
        raise ServerError(f"There is no server {name!r}. Give one of {', '.join(SERVERS)}.")
    return SERVERS[name]
