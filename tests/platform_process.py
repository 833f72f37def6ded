"""Runs `airis up` as a user does, and asks the platform over its public ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
from service_process import free_offset

from services.supervisor.ports import of_frontends

ROOT = Path(__file__).parent.parent
PORTS = (8080, 4317, 4318, 9901, 8001, 8002, 8003, 8004, 9101, 9102, 9103, 9104, *of_frontends(2))
WITHOUT_DEMO = ("--profile", str(ROOT / "services" / "profiles" / "embedded.yaml"))
"""Arguments of a `Platform` that is as users run it: without any it brings the demo."""
ResultT = TypeVar("ResultT")


def eventually(check: Callable[[], ResultT], within: float = 30.0) -> ResultT:
    """Asks again until the answer is true, or fails with what the last one was."""
    ends = time.monotonic() + within
    while True:
        try:
            answer: Any = check()
            if answer:
                return answer  # type: ignore[no-any-return]
        except (AssertionError, OSError, LookupError) as error:
            answer = error
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within} s: {answer!r}")
        time.sleep(0.1)


class Platform:
    """One `airis up` on free ports, with its data in a folder of its own."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self.offset = free_offset(*PORTS)
        self.edge = f"127.0.0.1:{8080 + self.offset}"
        self.rest = f"http://{self.edge}"
        self.otlp_grpc = f"http://127.0.0.1:{4317 + self.offset}"
        self.otlp_http = f"http://127.0.0.1:{4318 + self.offset}"
        self._arguments = arguments or ("--demo",)
        self._lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self, within: float = 120.0) -> None:
        """Returns when the platform says that it is ready."""
        ready = threading.Event()
        command = [Path(sys.executable).parent / "airis", "up", "--data-dir", self.data_dir]
        self.process = subprocess.Popen(
            [*map(str, command), "--port-offset", str(self.offset), *self._arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "COLUMNS": "160"},
        )
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        if not ready.wait(within) or self.process.poll() is not None:
            output = self.output()
            self.process.kill()
            raise AssertionError(f"the platform did not start:\n{output}")

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line)
            if line.strip() == "AIRIS is ready":
                ready.set()
        # What it prints ends before it does.
        process.wait()
        ready.set()

    def output(self) -> str:
        """What it printed last."""
        return "".join(self._lines[-200:])

    def printed(self) -> list[str]:
        """Every line it has printed."""
        return list(self._lines)

    def processes(self) -> list[psutil.Process]:
        """Every process of the platform but the supervisor."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        """Ctrl-C: everything ends in order, and nothing is left."""
        assert self.process is not None
        children = self.processes()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.output()
        _, left = psutil.wait_procs(children, timeout=5)
        assert not left, f"left behind: {left}"

    def state(self) -> dict[str, dict[str, Any]]:
        """What `airis status` reads: the processes by name."""
        tree = json.loads((self.data_dir / "run" / "state.json").read_text())
        return {process["name"]: process for process in tree["processes"]}

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """A REST call: the HTTP status and the JSON answered."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.rest + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=70) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        """A REST GET that must succeed."""
        status, answer = self.call("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def post(self, path: str, body: object) -> Any:
        """A REST POST that must succeed."""
        status, answer = self.call("POST", path, body)
        assert status == 200, (path, status, answer)
        return answer
