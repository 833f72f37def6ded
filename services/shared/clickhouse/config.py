"""The configuration of ClickHouse that all signals share."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ClickHouseConfig(BaseModel):
    """Settings of ClickHouse; each signal's `store_dsn` says where it is.

    Attributes:
        cluster: The name of the cluster in the servers' `remote_servers`; empty: one server. With it, tables are
            sharded by tenant (Distributed).
        replicated: Whether a cluster's tables are replicated, too (ReplicatedMergeTree, which needs a keeper).
        nodes: `host:port` of the HTTP interface of every server of the cluster: tables are made on each of them, with
            the user and password of the `store_dsn`. Empty: only on the one of the `store_dsn`.
        database: The database of all tables; the path of a `store_dsn` (`http://host:8123/name`) goes first.
        password_file: A file with the password and nothing else, read whenever a connection is made; for a `store_dsn`
            that has none.
        connect_timeout: Seconds until a server that takes no connection counts as away.
        request_timeout: Seconds without a sign of life after which a server counts as hung. A query's own deadline
            ends it earlier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: str = Field("", pattern=r"^[A-Za-z0-9_]{0,100}$")
    replicated: bool = True
    nodes: tuple[str, ...] = ()
    database: str = Field("airis", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    password_file: Path | None = None
    connect_timeout: float = Field(3.0, gt=0, le=60)
    request_timeout: float = Field(60.0, ge=1, le=3600)
