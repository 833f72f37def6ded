"""The configuration of the traces service."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class JaegerConfig(BaseModel):
    """Settings of a Jaeger v2 that keeps the spans.

    Attributes:
        otlp_target: `host:port` where it takes OTLP/gRPC.
        query_target: `host:port` of its query API over gRPC.
        max_message_bytes: What one OTLP request to it may have; a collector's receiver takes 4 MiB unless told
            otherwise (`max_recv_msg_size_mib`).
        write_timeout: Seconds that one OTLP request may take.
        search_depth: Traces that it may give at once; its memory storage takes at most its `max_traces`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_target: str = "127.0.0.1:4317"
    query_target: str = "127.0.0.1:16685"
    max_message_bytes: int = Field(3_500_000, ge=1024)
    write_timeout: float = Field(10.0, gt=0, le=300)
    search_depth: int = Field(500, ge=1, le=100_000)


class TracesConfig(BaseModel):
    """Settings of the traces service.

    Attributes:
        grpc_port: Where gRPC is served.
        http_port: Where OTLP/HTTP, `/metrics`, `/healthz` and `/readyz` are served.
        store: Where spans are kept.
        store_dsn: The ClickHouse; empty: chdb in the data directory.
        jaeger: Where Jaeger is.
        raw_retention_days: How long spans are kept; older ones are refused.
        rollup_retention_days: How long one-minute figures are kept; at least as long as spans.
        insert_max_items: Spans that one insert joins.
        insert_max_delay: Seconds a span waits for others before it is inserted.
        max_items: Spans a request may have.
        edge_interval: Seconds between looks at which services call which, when spans have come.
        edge_lateness: Seconds that a span may be later than its child and still be found as the caller.
        journal_max_bytes: Bytes of acknowledged spans that may wait for the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_port: int = Field(8003, ge=1, le=65535)
    http_port: int = Field(9103, ge=1, le=65535)
    store: Literal["clickhouse", "jaeger"] = "clickhouse"
    store_dsn: str = ""
    jaeger: JaegerConfig = JaegerConfig()
    raw_retention_days: int = Field(90, ge=1, le=3650)
    rollup_retention_days: int = Field(180, ge=1, le=3650)
    insert_max_items: int = Field(200_000, ge=1)
    insert_max_delay: float = Field(0.05, ge=0, le=0.2)
    max_items: int = Field(100_000, ge=1)
    edge_interval: float = Field(2.0, gt=0, le=60)
    edge_lateness: int = Field(600, ge=60, le=86_400)
    journal_max_bytes: int = Field(4 * 1024**3, ge=1024**2)

    @property
    def rollup_days(self) -> int:
        """For how many days figures are kept: what spans are kept for, figures answer for."""
        return max(self.raw_retention_days, self.rollup_retention_days)
