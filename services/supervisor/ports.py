"""The platform's TCP ports, all on loopback and all shifted by the port offset."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

GRPC = {"metrics": 8001, "logs": 8002, "traces": 8003, "alerts": 8004}
HTTP = {"metrics": 9101, "logs": 9102, "traces": 9103, "alerts": 9104}
ENVOY = {"REST, gRPC, gRPC-Web": 8080, "OTLP/gRPC": 4317, "OTLP/HTTP": 4318, "Envoy admin": 9901}
FRONTEND = "frontend-"
"""What the names of frontends begin with; their numbers follow, from 1 on."""
TAKEN_BY_FRONTENDS = ("metrics", "logs", "traces")
MAX_OFFSET = 50_000
ALL = (*GRPC.values(), *HTTP.values(), *ENVOY.values())


def of_frontend(number: int) -> int:
    """What is added to a port of a service for a frontend's; 0: the service itself."""
    return 10 * number


def http_port_of_frontend(name: str) -> int:
    """Where a frontend answers over HTTP, by its name."""
    return HTTP[TAKEN_BY_FRONTENDS[0]] + of_frontend(int(name.removeprefix(FRONTEND)))


def of_frontends(count: int) -> list[int]:
    """The ports of so many frontends."""
    ports = [kind[name] for kind in (GRPC, HTTP) for name in TAKEN_BY_FRONTENDS]
    return [port + of_frontend(number) for number in range(1, count + 1) for port in ports]


def busy(ports: Iterable[int]) -> list[int]:
    """Those of the ports that something else listens on, ascending."""
    return sorted(port for port in ports if not _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of the last run that linger in TIME_WAIT do not matter; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
