"""The machine fails: its disk is full or slow, its clock jumps, its memory is used up. What was acknowledged is stored
once, what is refused is not stored, and when there is room again everything goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.armed_services import ArmedServices
from faults.embedded import Embedded
from faults.history import History, Outcome
from faults.items import SIGNALS
from faults.little_memory import can_limit_memory, little_memory

longer = pytest.mark.faults
"""Only `make faults` runs these."""
pytestmark = [longer, pytest.mark.timeout(900)]

_HOUR = 3600
# `airis up` asks for 512 free when it starts.
_DISK_MIB = 700


async def test_no_file_may_grow(tmp_path: Path, chance: random.Random) -> None:
    """As on a full disk, every write behind the end of the journal fails."""
    async with ArmedServices(tmp_path) as services:
        for signal in chance.sample(SIGNALS, len(SIGNALS)):
            fault, history = "files may not grow", services.history[signal]
            history.fault = fault
            refused = history.count(Outcome.REFUSED)
            # Not less: of a file that may not grow ClickHouse does not notice all, either (see clickhouse/room.py).
            limit(services.pid(signal), resource.RLIMIT_FSIZE, services.journal_bytes(signal))
            # Exporters are told so.
            await until_refused(history, refused + 1)
            limit(services.pid(signal), resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
            await services.recovers(fault, signal)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system with little room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "airis-faults", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: this needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_the_disk_is_full(tmp_path: Path, chance: random.Random) -> None:
    with small_disk(tmp_path / "disk") as folder:
        async with Embedded(folder, chance) as platform:

            async def fill() -> None:
                before = platform.history["metrics"].count(Outcome.REFUSED)
                ballast = folder / "ballast"
                try:
                    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(1024 * 1024))
                            # As fast as a disk.
                            await asyncio.sleep(0.01)
                    await until_refused(platform.history["metrics"], before + 1)
                    await platform.pause(6.0, at_least=3.0)
                finally:
                    ballast.unlink()

            for _ in range(2):
                await platform.strike("disk full", fill)


async def test_a_slow_disk(tmp_path: Path, chance: random.Random) -> None:
    async with ArmedServices(tmp_path) as services:
        slow = {signal: chance.uniform(0.1, 0.4) for signal in SIGNALS}
        for signal, seconds in slow.items():
            await services.restart(signal, "slow disk", FAULTS_SYNC=str(seconds))
        await services.load.flows(10)
        quickest = services.load.quickest
        # Nothing is acknowledged before it is synced.
        assert {lane: took for lane, took in quickest.items() if took < slow[lane.split()[0]]} == {}
        for signal in SIGNALS:
            # Amid a sync.
            services.services[signal].kill()
            await services.restart(signal, "slow disk", FAULTS_SYNC="0")


async def test_the_clock_jumps(tmp_path: Path, chance: random.Random) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    async with ArmedServices(tmp_path, FAULTS_CLOCK=str(clock)) as services:
        # Less than a day: ids are known for so long.
        for hours in (chance.uniform(0, 20), 0, -chance.uniform(0, 20), 0):
            written = clock.with_suffix(".new")
            written.write_text(str(hours * _HOUR))
            fault = "clock ahead" if hours > 0 else "clock behind" if hours else "clock right again"
            for history in services.history.values():
                history.fault = fault
            written.replace(clock)
            for signal in SIGNALS:
                await services.recovers(fault, signal)
                ahead = services.received_at(signal) - time.time()
                assert ahead == pytest.approx(hours * _HOUR, abs=60), f"the clock of {signal} is not {fault}"
            # What it wrote at one time it reads back at another.
            signal = chance.choice(SIGNALS)
            services.services[signal].kill()
            await services.restart(signal, fault)


async def test_a_process_has_no_memory_left(tmp_path: Path, chance: random.Random) -> None:
    """The kernel ends it amid whatever needs more; the supervisor starts another."""
    if not can_limit_memory():
        pytest.skip("memory cannot be limited here: this needs root and control groups that can be written")
    async with Embedded(tmp_path, chance) as platform:
        for name in chance.sample(SIGNALS, len(SIGNALS)):

            async def use_up(name: str = name) -> None:
                async with little_memory(platform.pid(name)) as group:
                    await group.until_kill()

            await platform.strike(f"{name} without memory", use_up)


def limit(pid: int, kind: int, most: int) -> None:
    """Sets what a running process may use; nothing happens if it has ended."""
    try:
        resource.prlimit(pid, kind, (most, resource.RLIM_INFINITY))
    except ProcessLookupError:
        return


async def until_refused(history: History, count: int) -> None:
    """Waits until so many batches are refused."""
    async with asyncio.timeout(120):
        # There is no event of the history's to wait for.
        while history.count(Outcome.REFUSED) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
