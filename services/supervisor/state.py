"""What `airis status` reads: which processes a supervisor runs, written at each change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.supervisor.supervisor import Keeper


@dataclass(frozen=True)
class ProcessState:
    """One program; `since` is when `state` began, in seconds since 1970."""

    name: str
    engine: str
    address: str
    state: str
    pid: int | None
    restarts: int
    since: float


@dataclass(frozen=True)
class PlatformState:
    """One run of the platform."""

    supervisor: int
    runtime: str
    port_offset: int
    processes: list[ProcessState]


def write_state(file: Path, runtime: Path, port_offset: int, keepers: Iterable[Keeper]) -> None:
    """Replaces the file as a whole, so that a reader never sees half of it."""
    processes = [
        ProcessState(
            name=keeper.program.name,
            engine=keeper.program.engine,
            address=keeper.program.address,
            state=keeper.state,
            pid=keeper.process.pid if keeper.process and keeper.process.running else None,
            restarts=keeper.restarts,
            since=keeper.since,
        )
        for keeper in keepers
    ]
    state = PlatformState(os.getpid(), str(runtime), port_offset, processes)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)


def read_state(file: Path) -> PlatformState | None:
    """The last state; None if there is none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        processes = [ProcessState(**process) for process in content.pop("processes")]
        return PlatformState(**content, processes=processes)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
