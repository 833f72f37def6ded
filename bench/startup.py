"""How long our platform takes until it is ready, and what it costs when nobody uses it."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from bench import processes
from bench.airis_target import AirisTarget


def measure(target: AirisTarget, idle_seconds: float, work: Path | None = None) -> dict[str, float]:
    """Starts on a new folder, starts again on the same, and waits.

    Args:
        target: Not started.
        idle_seconds: How long it is watched. What it does at its start is over after as long again.
        work: Where the folder is made; None: where the system keeps temporary files.

    Returns:
        `first_start_seconds`, `start_seconds`, `idle_memory_bytes` (PSS), `idle_cpu_percent` of one core,
        `foreign_cores`, which other programs were busy with meanwhile.
    """
    directory = Path(tempfile.mkdtemp(prefix="airis-bench-", dir=work))
    try:
        target.start(directory)
        first = target.start_seconds
        target.stop()
        target.start(directory)
        time.sleep(idle_seconds)
        machine, before, began = processes.machine_cpu_seconds(), processes.cpu_seconds(target.pids()), time.monotonic()
        time.sleep(idle_seconds)
        seconds = time.monotonic() - began
        used = processes.cpu_seconds(target.pids()) - before
        return {
            "first_start_seconds": first,
            "start_seconds": target.start_seconds,
            "idle_memory_bytes": processes.memory(target.pids()).pss,
            "idle_cpu_percent": used / seconds * 100,
            "foreign_cores": max(0.0, (processes.machine_cpu_seconds() - machine - used) / seconds),
        }
    finally:
        target.stop()
        shutil.rmtree(directory, ignore_errors=True)
