"""Folders, as command lines name them, and what they are on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

_IN_MEMORY = ("tmpfs", "ramfs")


def absolute(text: str) -> Path:
    """A folder below the working directory of this process, which is not that of all it starts."""
    return Path(text).expanduser().absolute()


RESULTS = absolute("bench-results")
"""Where results go unless another folder is chosen."""


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on: "ext4"; empty if the system does not tell."""
    mounted = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    return next((mounted[each] for each in (resolved, *resolved.parents) if each in mounted), "")


def work_folder(chosen: Path | None, results: Path) -> Path:
    """Where data folders are made: as chosen, or else the system's temporary folder. Where that is in memory, one of
    the results: a sync of nothing measures nothing."""
    temporary = Path(tempfile.gettempdir())
    work = chosen or (results / "work" if file_system(temporary) in _IN_MEMORY else temporary)
    work.mkdir(parents=True, exist_ok=True)
    return work
