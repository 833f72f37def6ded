"""Servers in the background, for development: started by one command, looked at and stopped by others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.servers.catalogue import SERVERS, server_class
from deploy.servers.errors import ServerError
from deploy.servers.server import Server, kill_tree

_STOP_SECONDS = 20.0
_BY_NAME = ("jaeger", "zookeeper")
# Clocks of the kernel tick in hundredths of a second.
_SAME_START_SECONDS = 0.05


@dataclass(frozen=True)
class Running:
    """What is remembered of a server.

    Attributes:
        pid: Its process id.
        started: When that process began, in seconds since 1970: another with this id is not ours.
        ports: By name.
        stop_signal: Asks for an orderly end.
    """

    pid: int
    started: float
    ports: dict[str, int]
    stop_signal: int


@dataclass(frozen=True)
class Status:
    """How a server is.

    Attributes:
        name: Such as "kafka".
        version: Of the server.
        address: `host:port`; empty when it was not started.
        pid: Its process id; None: it does not run.
        health: "healthy", "not answering", "ended" or "stopped".
    """

    name: str
    version: str
    address: str
    pid: int | None
    health: str


class DevServers:
    """The servers of this user.

    Args:
        folder: Of their data and of the state; None: one of the user's in the system's temporary folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.gettempdir()) / f"airis-servers-{os.getuid()}"
        self._state = self.folder / "state.json"

    def up(self, names: Iterable[str], say: Callable[[str], None]) -> dict[str, str]:
        """Starts those that do not run, and leaves them running.

        Args:
            names: Which; none: all of the distributed profile, with traces in ClickHouse. Jaeger, which would have them
                in its place, and ZooKeeper, which no service of ours asks, are started by name.
            say: Told what happens.

        Returns:
            The `AIRIS_…` environment that points our services at them.

        Raises:
            ServerError: One cannot be started; those before it run.
        """
        wanted = list(dict.fromkeys(names)) or [name for name in SERVERS if name not in _BY_NAME]
        for name in wanted:
            server_class(name)
        settings: dict[str, str] = {}
        with self._locked() as running:
            for name in wanted:
                server = self._server(name, running.get(name))
                if _alive(running.get(name)):
                    say(f"{name}: runs on {server.address}")
                else:
                    running[name] = self._start(server, say)
                    self._write(running)
                settings.update(server.settings)
        return settings

    def down(self, names: Iterable[str], say: Callable[[str], None]) -> None:
        """Stops them and removes their data.

        Args:
            names: Which; none: all that were started.
            say: Told what happens.

        Raises:
            ServerError: There is no such server.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            server_class(name)
        with self._locked() as running:
            for name in wanted or list(running):
                record = running.pop(name, None)
                if record is not None and _alive(record):
                    _stop(record)
                    say(f"{name}: stopped")
                else:
                    say(f"{name}: did not run")
                shutil.rmtree(self.folder / name, ignore_errors=True)
                self._write(running)

    def status(self) -> list[Status]:
        """How each is, of all that there are.

        Raises:
            ServerError: What was started cannot be told.
        """
        with self._locked() as running:
            return [self._status(name, running.get(name)) for name in SERVERS]

    def _status(self, name: str, record: Running | None) -> Status:
        version = server_class(name).recipe.version
        if record is None:
            return Status(name, version, "", None, "stopped")
        server = self._server(name, record)
        if not _alive(record):
            return Status(name, version, server.address, None, "ended")
        return Status(name, version, server.address, record.pid, "healthy" if server.healthy() else "not answering")

    def _server(self, name: str, record: Running | None) -> Server:
        # One that ended comes back where it was, so that programs that were told of it go on.
        return server_class(name)(self.folder / name, ports=record.ports if record else None, detached=True)

    def _start(self, server: Server, say: Callable[[str], None]) -> Running:
        say(f"{server.name}: starting")
        try:
            server.start()
        except BaseException:
            server.kill()
            raise
        say(f"{server.name}: runs on {server.address}")
        started = psutil.Process(server.pid).create_time()
        return Running(server.pid, started, server.ports, int(server.stop_signal))

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Running]]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.getuid():
            raise ServerError(f"{self.folder} belongs to another user: remove it, or set TMPDIR.")
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()

    def _read(self) -> dict[str, Running]:
        if not self._state.exists():
            return {}
        try:
            records = json.loads(self._state.read_text())
            return {name: _record(fields) for name, fields in records.items() if name in SERVERS}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ServerError(
                f"{self._state}, which tells what was started, is damaged. End the servers that still run in "
                f"{self.folder}, remove that folder, and start them anew."
            ) from error

    def _write(self, running: dict[str, Running]) -> None:
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps({name: asdict(record) for name, record in running.items()}, indent=2))
        fresh.replace(self._state)


def _record(fields: Any) -> Running:
    """What was written of a server; raises `ValueError`, `TypeError`, `KeyError` or `AttributeError` if it was not."""
    ports = {str(name): int(port) for name, port in fields["ports"].items()}
    return Running(int(fields["pid"]), float(fields["started"]), ports, int(fields["stop_signal"]))


def _alive(record: Running | None) -> bool:
    """Whether the process is there, and is still the one that was started."""
    if record is None:
        return False
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < _SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _stop(record: Running) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(record.pid)
        process.send_signal(signal.Signals(record.stop_signal))
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
    if _alive(record):
        kill_tree(record.pid)
