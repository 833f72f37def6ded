"""Starts one service as a child process, as the supervisor does, on free ports and in a folder of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parent.parent
_PORTS = {
    "metrics": (8001, 9101),
    "logs": (8002, 9102),
    "traces": (8003, 9103),
    "alerts": (8004, 9104),
    "mesh": (8006, 9106),
}


# Whoever was given a port may not have bound it yet.
_given: deque[int] = deque(maxlen=500)


def free_offset(*ports: int) -> int:
    """An offset at which all these ports can be bound now, below those that the system gives to clients, and which
    this process has given to nobody else."""
    for offset in random.sample(range(10_000, 22_000, 10), 200):
        wanted = {port + offset for port in ports}
        if wanted.isdisjoint(_given) and all(_can_bind(port) for port in wanted):
            _given.extend(wanted)
            return offset
    raise RuntimeError("no free ports")


def free_port() -> int:
    """A port that can be bound now, as `free_offset` finds them."""
    return free_offset(0)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServiceProcess:
    """One service. `start` may be called again after `kill` or `stop`: the data stays.

    Attributes:
        command: How it is started.
        environment: What it is told.
    """

    def __init__(self, name: str, data_dir: Path, **environment: str) -> None:
        self.name = name
        self.offset = free_offset(*_PORTS[name])
        self.grpc = f"127.0.0.1:{_PORTS[name][0] + self.offset}"
        self.http = f"http://127.0.0.1:{_PORTS[name][1] + self.offset}"
        self._log = data_dir / f"{name}.log"
        data_dir.mkdir(parents=True, exist_ok=True)
        self.command = [sys.executable, "-m", "services", name]
        self.environment = {
            **os.environ,
            "AIRIS_DATA_DIR": str(data_dir),
            "AIRIS_PORT_OFFSET": str(self.offset),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, within: float = 60.0) -> None:
        """Returns when the service says SERVING."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ends = time.monotonic() + within
        with grpc.insecure_channel(self.grpc) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                if self.process.poll() is not None or time.monotonic() > ends:
                    raise AssertionError(f"{self.name} did not start:\n{self.log()}")
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    continue

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, within: float = 20.0) -> int:
        """Ends it in order and gives its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {within} s:\n{self.log()}") from None

    def log(self) -> str:
        """What it printed last."""
        return self._log.read_text(errors="replace")[-4000:]
