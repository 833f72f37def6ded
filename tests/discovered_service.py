"""An instance of the metrics service as a process that registers in Consul: our server and our registration, with
answers that say whose they are in place of a store.

`python -m tests.discovered_service GRPC_PORT HTTP_PORT CONSUL PREFIX` is the process; `DiscoveredService` runs one.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import structlog
from airis.metrics.v1 import metrics_pb2

from services.shared.auth.config import AuthConfig
from services.shared.discovery.config import ConsulConfig
from services.shared.discovery.registration import OwnInstance, Registration
from services.shared.rpc.server import Binding, Endpoints, RpcServer
from tests.service_process import ROOT, free_offset

_WORK_SECONDS = 0.02


class Servicer:
    """Every RPC of MetricsService is there; those that tests call say which instance answered."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        async def refuse(request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, method)

        return refuse

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        await asyncio.sleep(_WORK_SECONDS)
        series = metrics_pb2.TimeSeries(labels={"instance": self._name})
        return metrics_pb2.QueryMetricsResponse(series=[series])

    async def WatchMetrics(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        while True:
            yield metrics_pb2.WatchMetricsResponse()
            await asyncio.sleep(_WORK_SECONDS)


async def _not_unready() -> str:
    return ""


async def serve(grpc_port: int, http_port: int, consul: str, prefix: str) -> None:
    service = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"]
    binding = Binding(service, Servicer(str(grpc_port)))
    at = Endpoints("127.0.0.1", grpc_port, http_port, "metrics.airis", (binding,), _not_unready, AuthConfig())
    server = RpcServer(at)
    config = ConsulConfig(
        address=consul, service_prefix=prefix, check_interval=1.0, check_timeout=1.0, refresh_interval=0.5
    )
    registration = Registration(
        config, OwnInstance("metrics", "127.0.0.1", grpc_port, http_port, "1", "all", service.full_name)
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await server.start()
    registration.start()
    print("serving", flush=True)
    await ended.wait()
    await registration.leave()
    await server.stop()


class DiscoveredService:
    """One instance; `start` again after `stop` or `kill` serves on the same ports."""

    def __init__(self, consul: str, prefix: str, log: Path) -> None:
        offset = free_offset(8001, 9101)
        self.ports = (8001 + offset, 9101 + offset)
        self.name = str(self.ports[0])
        self._arguments = [*map(str, self.ports), consul, prefix]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Returns when it serves; it registers right after that."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "tests.discovered_service", *self._arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line == b"serving\n", self._log.read_text()

    async def stop(self) -> None:
        """Ends it in order."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        await self._end()

    async def kill(self) -> None:
        """Ends it as a crash would. Nothing happens to one that does not run."""
        if self._process is not None:
            self._process.kill()
            await self._end()

    async def _end(self) -> None:
        assert self._process is not None
        await asyncio.to_thread(self._process.wait, 30)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Load:
    """Calls without pause, and counts who answered and what failed."""

    def __init__(self, call: Any, callers: int = 4) -> None:
        self._call = call
        self._tasks = [asyncio.create_task(self._run()) for _ in range(callers)]
        self.failures: list[str] = []
        self.answers: dict[str, int] = {}
        self.recent: list[tuple[float, str]] = []

    async def _run(self) -> None:
        while True:
            try:
                answer = await self._call()
            except Exception as error:
                self.failures.append(str(error))
                await asyncio.sleep(0.05)
                continue
            name = answer.series[0].labels["instance"]
            self.answers[name] = self.answers.get(name, 0) + 1
            self.recent.append((time.monotonic(), name))

    async def until_answered_by(self, *names: str, within: float = 10.0, window: float = 0.5) -> None:
        """Returns when exactly these instances have answered in the last half second."""
        ends = time.monotonic() + within
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            self.recent = [each for each in self.recent if each[0] > now - window]
            seen = {name for _, name in self.recent}
            if seen == set(names):
                return
            assert now < ends, f"{sorted(seen)} answer, not {sorted(names)}; failed: {self.failures[-3:]}"

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
