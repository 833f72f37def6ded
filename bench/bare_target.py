"""The bare limit: a grpc.aio server that takes bytes, answers, and does nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import uvloop

from bench.target import GRPC_METHODS, SIGNALS, Endpoint, TargetError, otlp_grpc


class BareTarget:
    """A Target that answers every request and stores nothing."""

    name = "bare grpc.aio"
    signals = frozenset(SIGNALS)
    stores = False

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def start(self, directory: Path) -> None:
        """Starts the server on a free port."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare_target"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            raise TargetError("the bare server did not start")
        self._address = f"127.0.0.1:{port}"

    def endpoint(self, signal: str) -> Endpoint:
        """The one port, for each signal."""
        return otlp_grpc(signal, self._address)

    def pids(self) -> list[int]:
        """The server."""
        return [self._process.pid] if self._process is not None else []

    def stored(self, signal: str) -> int:
        """Nothing."""
        return 0

    def disk_bytes(self) -> int:
        """Nothing."""
        return 0

    def stop(self) -> None:
        """Ends the server."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


async def _answer(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return b""


async def _serve() -> None:
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    for method in GRPC_METHODS.values():
        _, service, name = method.split("/")
        handler = grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(_answer)})
        server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    # When the one that started it is gone, its end of the pipe closes.
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
