"""The data folder: who may use it, whether we can read it, and where this run's sockets are."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from services.shared.auth.key_folder import write_file
from services.shared.files import sync_directory
from services.supervisor.program import StartError

DATA_FORMAT = 1
"""What this version writes. It reads this and every older one."""

MINIMUM_FREE_BYTES = 512 * 1024 * 1024
LONGEST_RUNTIME_PATH = 60
"""Characters: a socket's whole path must stay below 108, and PostgreSQL adds its own name."""


class DataFolder:
    """Holds the folder for this process from `open` until `close`.

    Two locks: one of the supervisor's own, and one that its children inherit and so hold until the last of them
    has ended. After a crash of the supervisor the second tells when it is safe to start again.

    Args:
        path: The folder; created when missing.
        orphans_seconds: How long to wait for the children of a supervisor that crashed.
        minimum_free_bytes: Less free space than this refuses the start.
        on_wait: Called once when it has to wait for them.
    """

    def __init__(
        self,
        path: Path,
        orphans_seconds: float = 40.0,
        minimum_free_bytes: int = MINIMUM_FREE_BYTES,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.state_file = path / "run" / "state.json"
        self.runtime: Path
        self._orphans_seconds = orphans_seconds
        self._minimum_free_bytes = minimum_free_bytes
        self._on_wait = on_wait
        self._supervisor_lock = -1
        self._children_lock = -1

    @property
    def inherited(self) -> tuple[int, ...]:
        """The descriptor that every child must keep open."""
        return (self._children_lock,)

    def open(self) -> None:
        """Takes the folder and makes the runtime folder.

        Raises:
            StartError: It is in use, of a newer version, not writable, or its disk is full.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "run").mkdir(mode=0o700, exist_ok=True)
            self._lock()
            self._check_version()
            self._check_space()
            self._remove_old_runtime()
            self.runtime = _make_runtime()
        except OSError as error:
            self.close()
            raise StartError(explain(error, self.path)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Removes the runtime folder and lets go of the data folder."""
        if hasattr(self, "runtime"):
            shutil.rmtree(self.runtime, ignore_errors=True)
        for descriptor in (self._children_lock, self._supervisor_lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._children_lock = self._supervisor_lock = -1

    def _lock(self) -> None:
        run = self.path / "run"
        self._supervisor_lock = os.open(run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(self._supervisor_lock):
            owner = os.read(self._supervisor_lock, 32).decode("ascii", "replace").strip() or "unknown"
            raise StartError(
                f"The data directory {self.path} is in use by another AIRIS (process {owner}): stop that one, or "
                "give this one a --data-dir of its own."
            )
        os.ftruncate(self._supervisor_lock, 0)
        os.pwrite(self._supervisor_lock, str(os.getpid()).encode(), 0)
        self._children_lock = os.open(run / "children.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._orphans_seconds
        if _try_lock(self._children_lock):
            return
        self._on_wait()
        while not _try_lock(self._children_lock):
            if time.monotonic() > deadline:
                raise StartError(
                    f"Processes of an AIRIS that crashed still use the data directory {self.path} and did not end "
                    f"within {self._orphans_seconds:g} s: find them with `fuser {run / 'children.lock'}` and end them."
                )
            time.sleep(0.1)

    def _check_version(self) -> None:
        file = self.path / "version.json"
        if not file.exists():
            # Synced: after a power cut an empty file would refuse every further start.
            write_file(file, f"{json.dumps({'data_format': DATA_FORMAT})}\n".encode(), 0o644)
            sync_directory(self.path)
            return
        try:
            found = int(json.loads(file.read_text(encoding="utf-8"))["data_format"])
        except (ValueError, KeyError, TypeError) as error:
            raise StartError(
                f"{file} cannot be read: restore it from a backup, or, if this version wrote the data, put "
                f'{{"data_format": {DATA_FORMAT}}} into it.'
            ) from error
        if found > DATA_FORMAT:
            raise StartError(
                f"The data in {self.path} was written by a newer AIRIS (data format {found}, this one reads up to "
                f"{DATA_FORMAT}): install that version, or give another --data-dir."
            )

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < self._minimum_free_bytes:
            raise StartError(
                f"The disk of {self.path} is full ({free >> 20} MiB free, {self._minimum_free_bytes >> 20} MiB "
                "needed to start): free some space, or give a --data-dir on another disk."
            )

    def _remove_old_runtime(self) -> None:
        """What a crashed supervisor has left: it could not remove its runtime folder."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            old = Path(json.loads(self.state_file.read_text(encoding="utf-8"))["runtime"])
            if old.name.startswith("airis-") and old.parent in _runtime_parents():
                shutil.rmtree(old, ignore_errors=True)


def explain(error: OSError, path: Path) -> str:
    """One sentence for an operating system error at the start."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {path} is full: free some space, or give a --data-dir on another disk."
    where = error.filename or path
    return f"{where} cannot be used: {error.strerror or error}."


def is_running(path: Path) -> bool:
    """Whether a supervisor holds this data folder now."""
    try:
        descriptor = os.open(path / "run" / "supervisor.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runtime_parents() -> list[Path]:
    # As root, PostgreSQL is another user, who may not enter what is somebody's own.
    wished = os.environ.get("XDG_RUNTIME_DIR", "") if os.geteuid() != 0 else ""
    parents = [Path(wished)] if wished and os.access(wished, os.W_OK) and len(wished) <= LONGEST_RUNTIME_PATH else []
    return [*parents, Path("/tmp")]  # noqa: S108  mkdtemp makes a folder that only we may enter


def _make_runtime() -> Path:
    return Path(tempfile.mkdtemp(prefix="airis-", dir=_runtime_parents()[0]))
