"""`up` and `status` as a whole: real PostgreSQL, Redis and Envoy around services that do nothing but be healthy."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import services
from services.supervisor import ports

SERVICE = """
import asyncio, os, signal, sys
import asyncpg, grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from services.supervisor import ports

async def main(name):
    offset = int(os.environ["AIRIS_PORT_OFFSET"])
    if name == "alerts":
        await (await asyncpg.connect(os.environ["AIRIS_POSTGRES__DSN"])).close()
        assert os.environ["AIRIS_REDIS__URL"].startswith("unix:///")
    health = HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"127.0.0.1:{ports.GRPC[name] + offset}")
    await server.start()
    application = web.Application()
    application.add_routes([web.get("/readyz", lambda request: asyncio.sleep(0, web.Response()))])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", ports.HTTP[name] + offset).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)
    await runner.cleanup()

asyncio.run(main(sys.argv[1]))
"""
UP = """
import sys, pathlib
from services.supervisor.app import up
sys.exit(up(pathlib.Path(sys.argv[1]), int(sys.argv[2]), False, None))
"""
STATUS = """
import sys, pathlib
from services.supervisor.app import status
sys.exit(status(pathlib.Path(sys.argv[1])))
"""


class Platform:
    def __init__(self, folder: Path) -> None:
        package = folder / "replaced" / "services"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"__path__.append({services.__path__[0]!r})")
        (package / "__main__.py").write_text(SERVICE)
        self.environment = {**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"}
        self.data = folder / "data"
        self.offset = random.randrange(1000, 48_000)
        while ports.busy(port + self.offset for port in ports.ALL):
            self.offset = random.randrange(1000, 48_000)
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def up(self) -> None:
        self.output.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, str(self.data), str(self.offset)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.read_until(lambda line: line == "AIRIS is ready\n")

    def read_until(self, wanted: Callable[[str], bool]) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if wanted(line):
                return line
        raise AssertionError("".join(self.output))

    def status(self) -> tuple[int, str]:
        command = [sys.executable, "-c", STATUS, str(self.data)]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        return result.returncode, result.stdout

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
        return {**state, "processes": {process["name"]: process for process in state["processes"]}}

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        for line in self.process.stdout or ():
            self.output.append(line)
        return self.process.wait(60)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    yield platform
    if platform.process is not None and platform.process.poll() is None:
        platform.end(signal.SIGTERM)


def test_the_platform_starts_restarts_what_dies_and_leaves_nothing_behind(platform: Platform) -> None:
    platform.up()
    assert f"http://127.0.0.1:{8080 + platform.offset}" in "".join(platform.output)
    code, table = platform.status()
    assert (code, table.count("healthy")) == (0, 7), table
    assert "PostgreSQL 18" in table
    with urllib.request.urlopen(f"http://127.0.0.1:{9901 + platform.offset}/clusters") as clusters:
        text = clusters.read().decode()
    assert text.count("health_flags::healthy") == text.count("health_flags::") > 7, text

    first = platform.state()
    os.kill(first["processes"]["logs"]["pid"], signal.SIGKILL)
    platform.read_until(lambda line: "logs was ended by SIGKILL" in line)
    platform.read_until(lambda line: "logs is healthy again" in line)
    later = platform.state()
    assert later["processes"]["logs"]["restarts"] == 1
    others = ("postgres", "redis", "metrics", "traces", "alerts", "envoy")
    assert [later["processes"][name]["pid"] for name in others] == [first["processes"][name]["pid"] for name in others]

    assert platform.end(signal.SIGINT) == 0, "".join(platform.output)
    assert not Path(first["runtime"]).exists()
    assert not [pid for pid in (process["pid"] for process in later["processes"].values()) if psutil.pid_exists(pid)]
    assert platform.status()[0] == 1


def test_after_a_killed_supervisor_a_new_one_starts_on_the_same_data(platform: Platform) -> None:
    platform.up()
    state = platform.state()
    children = [psutil.Process(process["pid"]) for process in state["processes"].values()]
    assert platform.end(signal.SIGKILL) == -signal.SIGKILL
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.wait(20)
    platform.up()
    assert not Path(state["runtime"]).exists()
    assert platform.end(signal.SIGTERM) == 0
