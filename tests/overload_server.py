"""A server of the real contract that can do so much and no more, in a process of its own.

It answers every RPC of the metrics and alerts services behind everything that `RpcServer` puts before a servicer. What
it can do is bounded by design, not by the processor: each call with one answer needs one of `WORKERS` for
`WORK_SECONDS`. It counts what arrives, whether it is let in or not, and tells it who asks. Run by
`OverloadServer`, or `python tests/overload_server.py GRPC_PORT HTTP_PORT`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from airis.alerts.v1 import alerts_pb2
from airis.metrics.v1 import metrics_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor

sys.path.insert(0, str(Path(__file__).parent))

from service_process import ROOT, free_offset

from services.shared.auth.config import AuthConfig
from services.shared.rpc import grpc_server
from services.shared.rpc.server import Binding, Endpoints, RpcServer

WORKERS = 8
WORK_SECONDS = 0.04
CAPACITY = WORKERS / WORK_SECONDS
"""Calls a second."""

_SERVICES = (
    metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"],
    alerts_pb2.DESCRIPTOR.services_by_name["AlertService"],
)
# The server takes the methods alone that it knows: of this one, calls with the metadata below are ours.
_ARRIVED = "/grpc.health.v1.Health/Check"
_CONTROL = ("trial-control", "arrived")
_FIRST_PORT = 8000
_SECONDS_TO_START = 60.0


class _Servicer:
    """Answers every RPC of a service with an empty message, when a worker has had time for it."""

    def __init__(self, service: ServiceDescriptor, workers: asyncio.Semaphore) -> None:
        for method in service.methods:
            setattr(self, method.name, _behavior(message_factory.GetMessageClass(method.output_type), workers))


def _behavior(answer: Any, workers: asyncio.Semaphore) -> Any:
    async def work(_request: Any, _context: Any) -> Any:
        async with workers:
            await asyncio.sleep(WORK_SECONDS)
        return answer()

    return work


class _Arrivals(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Counts calls before anything else sees them, those included that are turned away."""

    def __init__(self) -> None:
        self._arrived: Counter[str] = Counter()
        begin = grpc_server._Calls._begin

        def count_and_begin(calls: Any, method: str, call: Any, stands: bool) -> None:
            self._arrived[method] += 1
            begin(calls, method, call, stands)

        grpc_server._Calls._begin = count_and_begin  # type: ignore[method-assign]

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if _CONTROL in (details.invocation_metadata or ()):
            return grpc.unary_unary_rpc_method_handler(self._tell)
        return await continuation(details)

    async def _tell(self, _request: bytes, _context: Any) -> bytes:
        return json.dumps(self._arrived).encode()


async def _ready() -> str:
    return ""


async def _serve(grpc_port: int, http_port: int) -> None:
    workers = asyncio.Semaphore(WORKERS)
    server = RpcServer(
        Endpoints(
            host="127.0.0.1",
            grpc_port=grpc_port,
            http_port=http_port,
            domain="trial.airis",
            bindings=[Binding(service, _Servicer(service, workers)) for service in _SERVICES],
            ready=_ready,
            auth=AuthConfig(),
            interceptors=(_Arrivals(),),
        )
    )
    await server.start()
    await asyncio.Event().wait()


class OverloadServer:
    """The server as a child process.

    Attributes:
        target: Its host and port.
    """

    def __init__(self) -> None:
        offset = free_offset(_FIRST_PORT, _FIRST_PORT + 1)
        self._ports = (_FIRST_PORT + offset, _FIRST_PORT + offset + 1)
        self.target = f"127.0.0.1:{self._ports[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, __file__, *map(str, self._ports)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        ends = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                self.arrived()
            except grpc.RpcError:
                if self._process.poll() is not None or time.monotonic() > ends:
                    code = self._process.poll()
                    self.stop()
                    raise AssertionError(f"the server did not start; exit code {code}") from None
                continue
            return

    def arrived(self) -> dict[str, int]:
        """Calls that reached it so far, by path."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100))
        with grpc.insecure_channel(self.target, options) as channel:
            answer = channel.unary_unary(_ARRIVED)(b"", timeout=5, wait_for_ready=True, metadata=[_CONTROL])
        return dict(json.loads(answer))

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
