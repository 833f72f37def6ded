"""Metrics, logs and traces of the embedded profile, each a process of its own that dies where it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from faults.history import History, Stored, Verdict
from faults.items import SIGNALS
from faults.load import CALL_SECONDS, Load
from faults.matrix import MATRIX
from faults.readback import ChdbReadBack
from service_process import ServiceProcess

from services.shared.bus.adapters.journal_framing import START_BYTES, decode_header, is_whole, parse_start

PROFILE = "one service"
_ARMED = Path(__file__).with_name("armed.py")
_DEATH_SECONDS = 60.0
_START_SECONDS = 120.0


class ArmedService(ServiceProcess):
    """A service that is started by `armed.py`.

    Args:
        name: "metrics".
        data_dir: Where its data is.
        environment: What it is told.
    """

    def __init__(self, name: str, data_dir: Path, **environment: str) -> None:
        super().__init__(name, data_dir, **environment)
        # -P: what is beside that file is no module of the program.
        self.command = [sys.executable, "-P", str(_ARMED), name]

        self._pipe = data_dir / "points"
        os.mkfifo(self._pipe)
        self.environment["FAULTS_POINTS"] = str(self._pipe)

    def arm(self, point: str, count: int, sent: signals.Signals = signals.SIGKILL) -> None:
        """The running process gets a signal when it gets to a point so many times more."""
        self._pipe.write_text(f"{point}:{count}:{sent.name}\n")

    def wait_death(self) -> int | None:
        """Waits until it has ended by itself; gives its exit code, or None if it does not end."""
        assert self.process is not None
        try:
            return self.process.wait(_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    @asynccontextmanager
    async def standing_still_at(self, point: str, count: int) -> AsyncIterator[None]:
        """Within, it stands still at a point, to which it gets so many times more; afterwards it goes on.

        Raises:
            AssertionError: It does not get there.
        """
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        await asyncio.to_thread(self.arm, point, count, signals.SIGSTOP)
        try:
            async with asyncio.timeout(_DEATH_SECONDS):
                while process.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110 (the kernel tells its parent alone)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            # Nor later, amid another test. One that has ended reads nothing any more.
            if self.process.poll() is None:
                await asyncio.to_thread(self.arm, "", 0)
                process.resume()
            raise AssertionError(f"{self.name} did not stand still at {point}:\n{self.log()}") from None
        try:
            yield
        finally:
            process.resume()


class ArmedServices:
    """`async with ArmedServices(folder) as services:` starts all three and senders; leaving judges.

    Args:
        folder: For their data.
        profile: What the matrix calls this.
        environment: What all are told.

    Attributes:
        services: By signal.
        history: What was sent, by signal.
        load: The senders.
    """

    def __init__(self, folder: Path, profile: str = PROFILE, **environment: str) -> None:
        self._folder = folder
        self._profile = profile
        self.services = {signal: ArmedService(signal, folder / signal, **environment) for signal in SIGNALS}
        self.history = {signal: History() for signal in SIGNALS}
        self.load: Load

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(self.start(signal) for signal in SIGNALS))
            self.load = await Load(
                {signal: service.grpc for signal, service in self.services.items()},
                self.services["logs"].http,
                None,
                self.history,
            ).__aenter__()
            await self.load.flows()
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.load.end()
                await self.load.until_queryable()
                await asyncio.gather(*(asyncio.to_thread(service.stop, 60.0) for service in self.services.values()))
                await self._judge()
        finally:
            await self.load.__aexit__(kind or AssertionError, error, trace)
            self._kill()

    async def start(self, signal: str, **armed: str) -> None:
        """Starts a service, told what is to happen; returns when it serves."""
        service = self.services[signal]
        service.environment |= {"FAULTS_POINT": "", **armed}
        await asyncio.to_thread(service.start, _START_SECONDS)

    async def die_at(self, signal: str, fault: str, point: str, count: int, again: str = "") -> None:
        """A service dies at a point, and is started again; waits until it takes everything again.

        Args:
            fault: Its name in the matrix.
            again: A point at which it dies once more, while it begins again; empty: it does not.

        Raises:
            AssertionError: It did not die there, or does not take everything again.
        """
        self.history[signal].fault = fault
        await asyncio.to_thread(self.services[signal].arm, point, count)
        await self._death(signal, point)
        began = asyncio.get_running_loop().time()
        if again:
            # Before it says that it serves, or soon after: what it has to catch up with passes the same points.
            with contextlib.suppress(AssertionError):
                await self.start(signal, FAULTS_POINT=f"{again}:1")
            await self._death(signal, again)
        await self.start(signal)
        await self.recovers(fault, signal, asyncio.get_running_loop().time() - began)

    async def stand_still_at(self, signal: str, point: str, count: int, seconds: float) -> None:
        """A service stands still at a point for a while; waits until it takes everything again.

        Raises:
            AssertionError: It did not stand still there, or for longer than a call may take and none was given up.
        """
        fault = f"{point}, stands still"
        self.history[signal].fault = fault
        before = self.load.given_up[f"{signal} unary"]
        async with self.services[signal].standing_still_at(point, count):
            await asyncio.sleep(seconds)
        await self.recovers(fault, signal, seconds)
        if seconds > CALL_SECONDS:
            assert self.load.given_up[f"{signal} unary"] > before, "no sender gave a call up meanwhile"

    async def restart(self, signal: str, fault: str, **armed: str) -> None:
        """A service ends, if it runs, and is started again; waits until it takes everything again."""
        self.history[signal].fault = fault
        began = asyncio.get_running_loop().time()
        await asyncio.to_thread(self.services[signal].stop, 60.0)
        await self.start(signal, **armed)
        await self.recovers(fault, signal, asyncio.get_running_loop().time() - began)

    async def recovers(self, fault: str, signal: str, seconds: float = 0.0) -> None:
        """Waits until everything of a signal is taken again; `seconds` have passed already."""
        took = await self.load.recovers(signals=[signal])
        MATRIX.recovered(self._profile, fault, {signal: seconds + took[signal]})

    def journal_bytes(self, signal: str) -> int:
        """The length of the journal's largest file."""
        return max(file.stat().st_size for file in self._segments(signal))

    def received_at(self, signal: str) -> float:
        """When the newest batch of the journal was taken, by the service's own clock: seconds since 1970."""
        data, at, nanoseconds = max(self._segments(signal)).read_bytes(), 0, 0
        # The last frame may be half written.
        while (start := parse_start(data[at : at + START_BYTES])) and is_whole(start, memoryview(data)[at:]):
            header = data[at + START_BYTES : at + START_BYTES + start.header_bytes]
            at, nanoseconds = at + start.frame_bytes, decode_header(header).received_at
        return nanoseconds / 1e9

    def pid(self, signal: str) -> int:
        """The process of a service."""
        process = self.services[signal].process
        assert process is not None
        return process.pid

    def _segments(self, signal: str) -> list[Path]:
        return list((self._folder / signal / signal / "journal").glob("*.segment"))

    async def _death(self, signal: str, point: str) -> None:
        service = self.services[signal]
        code = await asyncio.to_thread(service.wait_death)
        assert code == -signals.SIGKILL, f"{signal} did not die at {point}, but ended with {code}:\n{service.log()}"

    async def _judge(self) -> None:
        faults = []
        for signal, history in self.history.items():
            async with ChdbReadBack(self._folder / signal / signal / "clickhouse") as store:
                faults += judged(
                    self._profile, signal, history, await store.stored(signal), await store.rolled_up(signal)
                )
        assert not faults, "\n".join(faults)

    def _kill(self) -> None:
        for service in self.services.values():
            if service.process is not None and service.process.poll() is None:
                service.kill()


def judged(
    profile: str, signal: str, history: History, stored: Mapping[str, Stored], sums: list[int] | Any = ()
) -> list[str]:
    """Adds a signal's batches to the matrix, and says what is wrong with them.

    Args:
        sums: How many items each rollup has counted.
    """
    MATRIX.add(profile, signal, history, stored)
    verdict = history.judge(stored)
    faults = [f"{signal}: {verdict}"] if verdict != Verdict() else []
    items = sum(each.items for each in stored.values())
    return faults + [f"{signal}: {items} are stored, {total} rolled up" for total in sums if total != items]
