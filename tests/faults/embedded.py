"""The embedded platform under faults: one `airis up`, reached over a network that the test can break."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from fakes.tcp_proxy import TcpProxy
from faults.armed_services import judged
from faults.history import History, Stored
from faults.items import SIGNALS
from faults.load import ALERTS, Load
from faults.matrix import MATRIX
from faults.readback import ChdbReadBack
from faults.standstill import family, standstill
from platform_process import WITHOUT_DEMO, Platform

PROFILE = "embedded"
PROCESSES = (*SIGNALS, ALERTS, "envoy", "postgres", "redis")
SUPERVISOR = "supervisor"
_EDGES = ("edge", "otlp_grpc", "otlp_http")


class Embedded:
    """`async with Embedded(folder, chance) as platform:` starts the platform and senders of everything.

    Args:
        folder: For its data.
        chance: Where moments come from.
        frontends: How many processes take ingest calls for the services; 0: they take them themselves.

    Attributes:
        profile: Its name in the matrix.
        load: The senders.
        proxies: The network before Envoy: "edge", "otlp_grpc", "otlp_http".
    """

    def __init__(self, folder: Path, chance: random.Random, frontends: int = 0) -> None:
        self._folder = folder
        self._chance = chance
        self.profile = f"{PROFILE}, {frontends} frontends" if frontends else PROFILE
        self.platform = Platform(folder, *WITHOUT_DEMO, "--frontends", str(frontends))
        self.history = {signal: History() for signal in (*SIGNALS, ALERTS)}
        self.proxies: dict[str, TcpProxy] = {}
        self.load: Load

    async def __aenter__(self) -> Self:
        platform = self.platform
        await asyncio.to_thread(platform.start)
        servers = (platform.edge, *(url.removeprefix("http://") for url in (platform.otlp_grpc, platform.otlp_http)))
        try:
            for name, server in zip(_EDGES, servers, strict=True):
                self.proxies[name] = await TcpProxy(server).__aenter__()
            addresses = {name: proxy.address for name, proxy in self.proxies.items()}
            self.load = Load(
                dict.fromkeys((*SIGNALS, ALERTS), addresses["edge"]),
                f"http://{addresses['otlp_http']}",
                None,
                self.history,
                otlp_targets=dict.fromkeys(SIGNALS, addresses["otlp_grpc"]),
            )
            await self.load.__aenter__()
            await self.load.flows(signals=(*SIGNALS, ALERTS))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.load.end()
                await self.load.until_queryable()
                await self._judge()
        finally:
            await self.load.__aexit__(kind or AssertionError, error, trace)
            await self._stop()

    async def strike(self, fault: str, strikes: Callable[[], Awaitable[object]]) -> None:
        """Makes a fault happen while everything is sent, and waits until everything is taken again.

        Args:
            fault: Its name in the matrix.
            strikes: Returns when the fault is over, or left to the platform.

        Raises:
            AssertionError: Something is not taken any more.
        """
        for history in self.history.values():
            history.fault = fault
        await self.pause(0.3)
        await strikes()
        MATRIX.recovered(self.profile, fault, await self.load.recovers())

    async def kill(self, name: str) -> None:
        """Ends a process as a crash would; the supervisor starts it again."""
        await asyncio.to_thread(self._process(name).kill)

    async def kill_all(self) -> None:
        """Ends everything at once, by the supervisor's end, and starts the platform again."""
        running, children = self.platform.process, self.platform.processes()
        assert running is not None
        running.kill()
        running.wait()
        await asyncio.to_thread(psutil.wait_procs, children, 10)
        await asyncio.to_thread(self.platform.start)

    async def halt(self, name: str) -> None:
        """Stops a process and all of its own for some seconds: it answers nothing, and its connections stay."""
        process = self._process(name)
        # The supervisor's children are no part of it.
        with standstill([process] if name == SUPERVISOR else family(process.pid)):
            await self.pause(4.0, at_least=1.0)

    def pid(self, name: str) -> int:
        """The process that a program is now."""
        return self._process(name).pid

    async def pause(self, most: float, at_least: float = 0.0) -> None:
        """Lets some time pass, as the seed says."""
        await asyncio.sleep(self._chance.uniform(at_least, most))

    def _process(self, name: str) -> psutil.Process:
        assert self.platform.process is not None
        pid = self.platform.process.pid if name == SUPERVISOR else self.platform.state()[name]["pid"]
        assert pid is not None, f"{name} does not run"
        return psutil.Process(pid)

    async def _judge(self) -> None:
        stored = {ALERTS: await asyncio.to_thread(self._rules)}
        sums: dict[str, list[int]] = {ALERTS: []}
        await asyncio.to_thread(self.platform.stop)
        for signal in SIGNALS:
            async with ChdbReadBack(self._folder / signal / "clickhouse") as store:
                stored[signal] = await store.stored(signal)
                sums[signal] = await store.rolled_up(signal)
        faults = []
        for signal, history in self.history.items():
            faults += judged(self.profile, signal, history, stored[signal], sums[signal])
        assert not faults, "\n".join(faults)

    def _rules(self) -> dict[str, Stored]:
        found, token = {}, ""
        while True:
            answer = self.platform.get(f"/api/v1/alertRules?pageSize=1000&pageToken={token}")
            found |= {rule["name"].removeprefix("alertRules/"): Stored(1, 1) for rule in answer["alertRules"]}
            if not (token := answer.get("nextPageToken", "")):
                return found

    async def _stop(self) -> None:
        for proxy in self.proxies.values():
            await proxy.__aexit__(None, None, None)
        running = self.platform.process
        if running is not None and running.poll() is None:
            # After a test that failed: nothing is left, whatever state it is in.
            running.kill()
            await asyncio.to_thread(running.wait)
