"""Where a platform listens."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fuzz.contract import MESH

_GRPC = {"metrics": 8001, "logs": 8002, "traces": 8003, "alerts": 8004, "mesh": 8006}
_HTTP = {"metrics": 9101, "logs": 9102, "traces": 9103, "alerts": 9104, "mesh": 9106}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The ports of a platform on loopback.

    Attributes:
        offset: Its `--port-offset`.
        token: A token that may do all; empty where none is asked for.
        mesh_offset: That of the mesh, which is no part of the platform.
    """

    offset: int
    token: str = ""
    mesh_offset: int = 0

    @property
    def edge(self) -> str:
        """Envoy: REST, gRPC, gRPC-Web."""
        return f"127.0.0.1:{8080 + self.offset}"

    def grpc(self, signal: str) -> str:
        """A service's own gRPC."""
        return f"127.0.0.1:{self._port(_GRPC, signal)}"

    def otlp_grpc(self) -> str:
        """Envoy's OTLP over gRPC."""
        return f"127.0.0.1:{4317 + self.offset}"

    def otlp_http(self, signal: str, directly: bool) -> str:
        """OTLP over HTTP, of Envoy or of the service."""
        return self.http(signal) if directly else f"127.0.0.1:{4318 + self.offset}"

    def http(self, signal: str) -> str:
        """A service's own HTTP."""
        return f"127.0.0.1:{self._port(_HTTP, signal)}"

    def all_ports(self) -> list[int]:
        """Every port but Envoy's admin."""
        own = [self._port(ports, name) for ports in (_GRPC, _HTTP) for name in ports]
        return [8080 + self.offset, 4317 + self.offset, 4318 + self.offset, *own]

    def _port(self, ports: dict[str, int], name: str) -> int:
        return ports[name] + (self.mesh_offset if name == MESH else self.offset)
