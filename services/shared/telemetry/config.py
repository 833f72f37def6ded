"""The configuration of the platform's own telemetry."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class TelemetryConfig(BaseModel):
    """Settings of the platform's own telemetry.

    Attributes:
        otlp_endpoint: Where it is sent, as `http://host:port` of OTLP/gRPC; empty: nowhere.
        token_file: A file with the token that is sent along; read again when it changes.
        trace_ratio: The share of calls without a sampled caller that are traced, 0 to 1.
        metric_interval: Seconds between exports of metrics.
        log_level: The least level that is logged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_endpoint: str = ""
    token_file: Path | None = None
    trace_ratio: float = Field(0.1, ge=0, le=1)
    metric_interval: float = Field(60.0, ge=1)
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
