"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
# Below those that Linux gives to clients: a server that is away for a moment must find its port free.
_RANGE = range(15_000, 32_000)
_TRIES = 500


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A free port for each name.

    Raises:
        OSError: None was found.
    """
    ports: dict[str, int] = {}
    for name in names:
        ports[name] = _free_port(set(ports.values()))
    return ports


def _free_port(taken: set[int]) -> int:
    for port in random.sample(_RANGE, _TRIES):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError(f"No free port was found from {_RANGE.start} to {_RANGE.stop}.")
