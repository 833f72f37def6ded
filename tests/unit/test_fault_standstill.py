"""Nobody stands still any longer than a test wants."""

from __future__ import annotations

import os
import signal as signals
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from faults import armed_services
from faults.armed_services import ArmedService
from faults.cluster import Cluster


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as running:
        yield running
        running.kill()


def armed_service(folder: Path, process: subprocess.Popen[bytes]) -> ArmedService:
    service = ArmedService("metrics", folder)
    service.process = process
    (folder / "metrics.log").touch()
    return service


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signals.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def stands_still(process: subprocess.Popen[bytes]) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


async def test_a_point_that_is_reached_too_late_stops_nobody_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(armed_services, "_DEATH_SECONDS", 0.01)
    service, armed = armed_service(tmp_path, process), []

    def arm(point: str, count: int, sent: signals.Signals = signals.SIGKILL) -> None:
        armed.append((point, count))
        if not point:
            # It got there just before it was told otherwise.
            stop(process)

    monkeypatch.setattr(service, "arm", arm)
    with pytest.raises(AssertionError, match="did not stand still at late"):
        async with service.standing_still_at("late", 1):
            pass
    assert armed == [("late", 1), ("", 0)]
    assert not stands_still(process)


async def test_of_a_process_that_has_ended_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(armed_services, "_DEATH_SECONDS", 0.01)
    service, armed = armed_service(tmp_path, process), []

    def arm(point: str, count: int, sent: signals.Signals = signals.SIGKILL) -> None:
        armed.append(point)
        process.kill()

    monkeypatch.setattr(service, "arm", arm)
    with pytest.raises(AssertionError):
        async with service.standing_still_at("late", 1):
            pass
    assert armed == ["late"]


@pytest.mark.parametrize("kind", ["server", "service"])
async def test_after_a_test_that_failed_everything_goes_on(
    tmp_path: Path, process: subprocess.Popen[bytes], kind: str
) -> None:
    cluster = Cluster(tmp_path, ())
    one: Any = SimpleNamespace(running=True, pid=process.pid, process=SimpleNamespace(process=process), start=list)
    (cluster.servers if kind == "server" else cluster.services)["one"] = one
    stop(process)
    await cluster.mend()
    assert not stands_still(process)
