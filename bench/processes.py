"""What processes cost: CPU seconds, memory, bytes on disk."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Bytes. RSS counts what processes share in each of them, PSS once; not a number where the system does not tell."""

    rss: float
    pss: float


def tree(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants, each once; those that ended are left out."""
    found: dict[int, None] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found[pid] = None
            for child in process.children(recursive=True):
                found[child.pid] = None
    return list(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time, user and system, of the processes, their descendants, and those of them that ended and were waited for.

    One that ends between two readings is not lost: its parent has its time.
    """
    total = 0
    for pid in tree(pids):
        with contextlib.suppress(OSError):
            # The name of the program is in brackets and may hold anything.
            values = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            total += sum(int(value) for value in values[11:15])
    return total / _TICKS


def machine_cpu_seconds() -> float:
    """CPU time that all processes of the machine have used, user and system."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def memory(pids: Iterable[int]) -> Memory:
    """Of the processes and their descendants, now."""
    rss = pss = 0.0
    for pid in tree(pids):
        folder = _PROC / str(pid)
        try:
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except ProcessLookupError:
            continue
        except OSError:
            # Whoever has just ended has no memory. Of whoever runs it is unknown, and not 0.
            if folder.exists():
                return Memory(math.nan, math.nan)
            continue
        for line in lines:
            if line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
            elif line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
    return Memory(rss, pss)


def disk_bytes(directory: Path) -> int:
    """What files take on disk, in whole blocks; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(folder, name))
                seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
