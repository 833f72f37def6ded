"""The configuration of a frontend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FrontendConfig(BaseModel):
    """Settings of a frontend.

    Attributes:
        grpc_port: For gRPC.
        http_port: For OTLP/HTTP, `/metrics`, `/healthz` and `/readyz`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_port: int = Field(8011, ge=1, le=65535)
    http_port: int = Field(9111, ge=1, le=65535)
