"""What processes cost: CPU seconds, memory, bytes on disk; and how many cores there are for them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_TICKS = os.sysconf("SC_CLK_TCK")
# Before any thread keeps to some of them: quotas are of all.
_OWN_CORES = float(len(os.sched_getaffinity(0)))


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


def cores() -> float:
    """How many cores this process and what it starts can keep busy: where a container has a quota, 1.5 for example."""
    return min((allowed for allowed, _ in _quotas()), default=_OWN_CORES)


def machine_cpu_seconds() -> float:
    """CPU time that all processes of the machine have used, user and system; where a container has a quota, all of the
    container's: others of the machine take nothing from it."""
    if limited := min(_quotas(), default=None):
        with contextlib.suppress(OSError):
            return _used(limited[1])
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _quotas() -> Iterator[tuple[float, Path]]:
    """Each control group that allows this process less than the cores it may run on: how many, and its folder."""
    for folder in _control_groups():
        with contextlib.suppress(OSError, ValueError):
            allowed = _allowed(folder)
            if allowed < _OWN_CORES:
                yield allowed, folder


def _control_groups() -> Iterator[Path]:
    """The folders of the groups that this process is in and that have to do with CPU, from within to without."""
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # The second version has no controllers, and one tree.
        root = _GROUPS / "cpu" if controllers else _GROUPS
        own = root / path.lstrip("/")
        # A container may be told a path of its host; what it has of that is the root.
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _allowed(folder: Path) -> float:
    if (limit := folder / "cpu.max").exists():
        quota, period = limit.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    quota_us = int((folder / "cpu.cfs_quota_us").read_text())
    return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us > 0 else math.inf


def _used(folder: Path) -> float:
    """Seconds of CPU of all that ever ran in a control group."""
    if (folder / "cpu.max").exists():
        figures = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(figures["usage_usec"]) / 1e6
    # The first version counts in another tree.
    counted = _GROUPS / "cpuacct" / folder.relative_to(_GROUPS / "cpu")
    return int((counted / "cpuacct.usage").read_text()) / 1e9


def memory(pids: Iterable[int], *, descendants: bool = True) -> Memory:
    """Of the processes and, unless told otherwise, their descendants, now."""
    rss = pss = 0.0
    for pid in tree(pids) if descendants else pids:
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
