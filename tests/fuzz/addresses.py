"""Where a platform listens."""

from __future__ import annotations

from dataclasses import dataclass

_GRPC = {"metrics": 8001, "logs": 8002, "traces": 8003, "alerts": 8004}
_HTTP = {"metrics": 9101, "logs": 9102, "traces": 9103, "alerts": 9104}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The ports of a platform on loopback.

    Attributes:
        offset: Its `--port-offset`.
        token: A token that may do all; empty where none is asked for.
    """

    offset: int
    token: str = ""

    @property
    def edge(self) -> str:
        """Envoy: REST, gRPC, gRPC-Web."""
        return f"127.0.0.1:{8080 + self.offset}"

    def grpc(self, signal: str) -> str:
        """A service's own gRPC."""
        return f"127.0.0.1:{_GRPC[signal] + self.offset}"

    def otlp_grpc(self) -> str:
        """Envoy's OTLP over gRPC."""
        return f"127.0.0.1:{4317 + self.offset}"

    def otlp_http(self, signal: str, directly: bool) -> str:
        """OTLP over HTTP, of Envoy or of the service."""
        return self.http(signal) if directly else f"127.0.0.1:{4318 + self.offset}"

    def http(self, signal: str) -> str:
        """A service's own HTTP."""
        return f"127.0.0.1:{_HTTP[signal] + self.offset}"

    def all_ports(self) -> list[int]:
        """Every port but Envoy's admin."""
        return [port + self.offset for port in (8080, 4317, 4318, *_GRPC.values(), *_HTTP.values())]
