"""What Envoy is told: sets of addresses by name."""

from __future__ import annotations

from dataclasses import dataclass

SIGNALS = ("metrics", "logs", "traces", "alerts")
ALL = "*"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a port is.

    Attributes:
        host: An IP address: Envoy resolves no names here.
        port: The port.
    """

    host: str
    port: int


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """The two ports of an instance.

    Attributes:
        host: Its address.
        grpc: For gRPC.
        http: For HTTP; 0: it has none.
    """

    host: str
    grpc: int
    http: int


def names() -> frozenset[str]:
    """The sets that there can be: "metrics/grpc", "metrics/http", …, "*/http"."""
    return frozenset(f"{signal}/{kind}" for signal in (*SIGNALS, ALL) for kind in ("grpc", "http"))
