"""One server as a child process: started until it answers, stopped or killed, and back on the same ports and data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import psutil

from deploy.servers.cache import Cache
from deploy.servers.errors import ServerError
from deploy.servers.ports import LOOPBACK, free_ports
from deploy.servers.recipe import Recipe
from deploy.servers.tools import tail
from services.supervisor.process import CHILD, Command

_POLL_SECONDS = 0.1
_GONE_SECONDS = 5.0
# The kernel binds the death signal to the thread that starts a child; this one lives as long as the process.
_starter = ThreadPoolExecutor(1, thread_name_prefix="server-starter")


class Server(ABC):
    """A server that `make servers` has provided.

    Args:
        data: The folder of its data, configuration and log; made when missing.
        config: Settings of its own over those that suit tests; what they are, the class says.
        ports: Its ports by name; None: free ones.
        detached: Whether it outlives this process.
        cache: Where the recipes put what they made.

    Attributes:
        recipe: How it is had.
        port_names: Its ports; the first is the main one.
        start_seconds: How long it may take until it answers.
        ports: The ports by name; they stay the same.
    """

    recipe: ClassVar[Recipe]
    port_names: ClassVar[tuple[str, ...]]
    start_seconds: ClassVar[float] = 120.0

    def __init__(
        self,
        data: Path,
        *,
        config: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        detached: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self.data = data.absolute()
        self.config = dict(config or {})
        self.ports = dict(ports) if ports else free_ports(self.port_names)
        self._detached = detached
        self._cache = cache or Cache()
        self._process: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None

    @property
    def name(self) -> str:
        """Such as "kafka"."""
        return self.recipe.name

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.data / "server.log"

    @property
    def address(self) -> str:
        """`host:port` of the main port."""
        return self.address_of(self.port_names[0])

    def address_of(self, port: str) -> str:
        """`host:port` of a port by its name."""
        return f"{LOOPBACK}:{self.ports[port]}"

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ServerError: It does not run.
        """
        if self._process is None or not self.running:
            raise ServerError(f"{self.name} does not run.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def stop_signal(self) -> signal.Signals:
        """Asks for an orderly end."""
        return self._command.stop_signal if self._command else signal.SIGTERM

    @property
    @abstractmethod
    def settings(self) -> dict[str, str]:
        """The `AIRIS_…` environment that points our services at it."""

    @abstractmethod
    def command(self, installation: Path) -> Command:
        """How it is run; called before each start, and writes the configuration that it reads.

        Args:
            installation: What the recipe made.

        Raises:
            ServerError: It cannot be run here.
        """

    @abstractmethod
    def answers(self) -> bool:
        """Whether it does its work now; within a few seconds. Any exception of the network's means no."""

    def healthy(self) -> bool:
        """Whether it answers, from whichever process it was started."""
        try:
            return self.answers()
        except (OSError, TimeoutError, EOFError, ValueError):
            return False

    def start(self) -> None:
        """Starts it and waits until it answers. Does nothing when it runs.

        Raises:
            ServerError: It is not in the cache, ended, or did not answer in time; with the tail of its log.
        """
        if self.running:
            return
        installation = self._cache.installed(self.recipe)
        self.data.mkdir(parents=True, exist_ok=True)
        self._command = self.command(installation)
        self._process = _starter.submit(self._spawn, self._command).result()
        ends = time.monotonic() + self.start_seconds
        while not self.healthy():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}:\n{tail(self.log)}")
            if time.monotonic() > ends:
                self.kill()
                raise ServerError(f"{self.name} did not answer within {self.start_seconds:g} s:\n{tail(self.log)}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Asks it to end, kills it when it takes too long, and returns when it is gone. Safe to call twice."""
        if self._process is None or self._command is None:
            return
        if self.running:
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._command.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """Ends it with SIGKILL, at once, with what it started, and returns when it is gone. Safe to call twice."""
        if self._process is None:
            return
        kill_tree(self._process.pid)
        self._process.wait()
        self._process = None

    def run_to_end(self, command: Sequence[str], user: str | None = None) -> None:
        """Runs a program that prepares the data and ends, its output in the log.

        Raises:
            ServerError: It failed; with the tail of the log.
        """
        process = _starter.submit(self._spawn, Command(arguments=command, user=user)).result()
        if process.wait() != 0:
            raise ServerError(
                f"{self.name}: {Path(command[0]).name} failed with {process.returncode}:\n{tail(self.log)}"
            )

    def _spawn(self, command: Command) -> subprocess.Popen[bytes]:
        death_signal = 0 if self._detached else int(command.death_signal)
        child = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), str(death_signal), command.user or "", "--"]
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [*child, *command.arguments],
                cwd=self.data,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def kill_tree(pid: int) -> None:
    """Kills a process that leads a group, what is in its group, and its children in groups of their own."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    # Not only asked to go, but gone: they may hold what the next start needs.
    psutil.wait_procs(children, timeout=_GONE_SECONDS)
