"""Real servers for tests marked `servers`, each started when a test first asks for it, for the whole session.

Keep tests apart by names (topics, databases, index prefixes). A test that kills or reconfigures a server makes one of
its own with `deploy.servers.make_server`. A server that is not in the cache fails the test: run `make servers`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.servers import Server, make_server


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[[str], Server]]:
    """Gives the session's server of a name; all are stopped at the end."""
    root = Path(tempfile.mkdtemp(prefix="airis-servers-"))
    # Some run as another user.
    root.chmod(0o755)
    running: dict[str, Server] = {}

    def started(name: str) -> Server:
        if name not in running:
            server = make_server(name, root / name)
            server.start()
            running[name] = server
        return running[name]

    try:
        yield started
    finally:
        for server in running.values():
            server.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(shared_server: Callable[[str], Server]) -> Server:
    """Kafka; topics are not made by themselves."""
    return shared_server("kafka")


@pytest.fixture(scope="session")
def clickhouse_server(shared_server: Callable[[str], Server]) -> Server:
    """A ClickHouse server; `url` is its address."""
    return shared_server("clickhouse")


@pytest.fixture(scope="session")
def elasticsearch(shared_server: Callable[[str], Server]) -> Server:
    """Elasticsearch, one node."""
    return shared_server("elasticsearch")


@pytest.fixture(scope="session")
def consul(shared_server: Callable[[str], Server]) -> Server:
    """Consul, one server."""
    return shared_server("consul")


@pytest.fixture(scope="session")
def jaeger(shared_server: Callable[[str], Server]) -> Server:
    """Jaeger v2 that keeps traces in memory."""
    return shared_server("jaeger")


@pytest.fixture(scope="session")
def zookeeper(shared_server: Callable[[str], Server]) -> Server:
    """ZooKeeper, for ClickHouse's replicated tables."""
    return shared_server("zookeeper")


@pytest.fixture(scope="session")
def postgres(shared_server: Callable[[str], Server]) -> Server:
    """PostgreSQL by address; `dsn` is the one of its database `airis`."""
    return shared_server("postgres")


@pytest.fixture(scope="session")
def redis_server(shared_server: Callable[[str], Server]) -> Server:
    """Redis by address; `url` is its address."""
    return shared_server("redis")
