"""The configuration of the mesh."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MeshConfig(BaseModel):
    """Settings of the control plane.

    Attributes:
        host: The address to listen on. Another one than a loopback address needs `token_file`.
        grpc_port: Where Envoy asks, and gRPC's health service answers.
        http_port: Where `/metrics`, `/healthz` and `/readyz` are served.
        token_file: A file with the token that Envoy shows (`airis mesh bootstrap --token-file`), read anew each time;
            "": whoever reaches the port may ask.
        max_streams: Envoys at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    grpc_port: int = Field(8006, ge=1, le=65535)
    http_port: int = Field(9106, ge=1, le=65535)
    token_file: str = ""
    max_streams: int = Field(1000, ge=1, le=100_000)
