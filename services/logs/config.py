"""The configuration of the logs service."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ElasticsearchConfig(BaseModel):
    """Settings of Elasticsearch.

    Attributes:
        hosts: URLs, several separated by commas.
        username: Whom to log in as; empty: nobody.
        password_file: A file with the password.
        ca_file: A file with the certificate authority; empty: those of the system.
        index_prefix: Indices are named `<prefix>-…`.
        shards: Of a new index.
        replicas: Of a new index.
        max_connections: To one host; further calls wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: str = "http://127.0.0.1:9200"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    index_prefix: str = Field("logs", pattern=r"^[a-z][a-z0-9_]{0,50}$")
    shards: int = Field(3, ge=1, le=1024)
    replicas: int = Field(1, ge=0, le=10)
    max_connections: int = Field(10, ge=2, le=1000)


class LogsConfig(BaseModel):
    """Settings of the logs service.

    Attributes:
        grpc_port: Where gRPC is served.
        http_port: Where OTLP/HTTP, `/metrics`, `/healthz` and `/readyz` are served.
        store: Where entries are kept.
        store_dsn: The ClickHouse; empty: chdb in the data directory.
        elasticsearch: Where Elasticsearch is.
        raw_retention_days: How long entries are kept; older ones are refused.
        insert_max_items: Entries that one insert joins.
        insert_max_delay: Seconds an entry waits for others before it is inserted.
        max_items: Entries a request may have.
        max_labels: Labels an entry may have.
        journal_max_bytes: Bytes of acknowledged entries that may wait for the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_port: int = Field(8002, ge=1, le=65535)
    http_port: int = Field(9102, ge=1, le=65535)
    store: Literal["clickhouse", "elasticsearch"] = "clickhouse"
    store_dsn: str = ""
    elasticsearch: ElasticsearchConfig = ElasticsearchConfig()
    raw_retention_days: int = Field(90, ge=1, le=3650)
    insert_max_items: int = Field(200_000, ge=1)
    insert_max_delay: float = Field(0.05, ge=0, le=0.2)
    max_items: int = Field(100_000, ge=1, le=2**18)
    max_labels: int = Field(64, ge=1)
    journal_max_bytes: int = Field(4 * 1024**3, ge=1024**2)
