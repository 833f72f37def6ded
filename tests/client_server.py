"""A service as a child process, as the platform starts it, for tests of the client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from service_process import free_offset

_PORTS = {"metrics": (8001, 9101), "logs": (8002, 9102), "traces": (8003, 9103)}


class ServiceChild:
    """One service on ports of its own; `start` again after `kill` finds the data.

    Args:
        name: "metrics", "logs" or "traces".
        data_dir: Its data.
    """

    def __init__(self, name: str, data_dir: Path) -> None:
        self.name = name
        self.data_dir = data_dir
        self.offset = free_offset(*_PORTS[name])
        self.target = f"127.0.0.1:{_PORTS[name][0] + self.offset}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it serves."""
        environment = {
            **os.environ,
            "AIRIS_DATA_DIR": str(self.data_dir),
            "AIRIS_PORT_OFFSET": str(self.offset),
        }
        log = (self.data_dir / f"{self.name}.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services", self.name, env=environment, stdout=log, stderr=log
        )
        log.close()
        await asyncio.wait_for(self._healthy(), 45)

    async def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """In order, or at once if that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            await self.kill()

    async def _healthy(self) -> None:
        assert self._process is not None
        options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
        async with grpc.aio.insecure_channel(self.target, options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                if self._process.returncode is not None:
                    log = (self.data_dir / f"{self.name}.log").read_text()
                    raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{log[-3000:]}")
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
