"""The configuration of the metrics service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MetricsConfig(BaseModel):
    """Settings of the metrics service.

    Attributes:
        grpc_port: Where gRPC is served.
        http_port: Where OTLP/HTTP, `/metrics`, `/healthz` and `/readyz` are served.
        store_dsn: The ClickHouse; empty: chdb in the data directory.
        raw_retention_days: How long points are kept; older ones are refused.
        rollup_retention_days: How long one-minute and one-hour figures are kept; at least as long as points.
        insert_max_items: Points that one insert joins.
        insert_max_delay: Seconds a point waits for others before it is inserted.
        max_items: Points a request may have.
        max_labels: Labels a series may have.
        journal_max_bytes: Bytes of acknowledged points that may wait for the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_port: int = Field(8001, ge=1, le=65535)
    http_port: int = Field(9101, ge=1, le=65535)
    store_dsn: str = ""
    raw_retention_days: int = Field(90, ge=1, le=3650)
    rollup_retention_days: int = Field(180, ge=1, le=3650)
    insert_max_items: int = Field(500_000, ge=1)
    insert_max_delay: float = Field(0.05, ge=0, le=0.2)
    max_items: int = Field(100_000, ge=1)
    max_labels: int = Field(64, ge=1)
    journal_max_bytes: int = Field(4 * 1024**3, ge=1024**2)

    @property
    def rollup_days(self) -> int:
        """For how many days figures are kept: what points are kept for, figures answer for."""
        return max(self.raw_retention_days, self.rollup_retention_days)
