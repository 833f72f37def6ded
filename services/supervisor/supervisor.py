"""Keeps programs running: starts them stage by stage, restarts those that die, stops them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from services.supervisor.process import ChildProcess
from services.supervisor.program import Program, StartError

PROBE_SECONDS = 0.1
WATCH_SECONDS = 5.0
BEFORE_STOP_SECONDS = 5.0
ATTEMPTS_TO_START = 3


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a restart: doubled with each death, forgotten after a stable time. Seconds."""

    # Short, as callers wait meanwhile; what dies again and again soon waits long.
    initial: float = 0.05
    longest: float = 30.0
    stable: float = 60.0

    def after(self, deaths: int) -> float:
        """The wait after so many deaths in a row; 1 or more."""
        return float(min(self.initial * 2 ** min(deaths - 1, 20), self.longest))


class Keeper:
    """Keeps one program running until told to stop.

    Attributes:
        state: "waiting", "starting", "healthy", "unhealthy", "backing off" or "stopped".
        restarts: How often it was started again.
        start_took: Seconds from its first start until it was healthy.
    """

    def __init__(
        self,
        program: Program,
        log: Callable[[str, str], None],
        inherit: Sequence[int],
        backoff: Backoff,
        on_change: Callable[[], None],
    ) -> None:
        self.program = program
        self.state = "waiting"
        self.restarts = 0
        self.start_took = 0.0
        self.since = time.time()
        self.process: ChildProcess | None = None
        self._log = log
        self._inherit = inherit
        self._backoff = backoff
        self._on_change = on_change
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._deaths = 0

    async def start(self) -> None:
        """Starts it and returns when it is healthy for the first time.

        Raises:
            StartError: It ended, or was not healthy in time, three times in a row.
        """
        begun = time.monotonic()
        self._task = asyncio.create_task(self._keep(), name=self.program.name)
        await asyncio.wait({self._first, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        await self._first
        self.start_took = time.monotonic() - begun

    async def stop(self) -> None:
        """Ends it in order, or by force when it takes too long."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self.process is not None:
            if self.process.running:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.program.before_stop(), BEFORE_STOP_SECONDS)
            await self.process.stop()
        self._become("stopped")

    def kill(self) -> None:
        """Ends it at once, for good."""
        if self._task is not None:
            self._task.cancel()
        if self.process is not None:
            self.process.kill()

    async def _keep(self) -> None:
        while True:
            started = asyncio.get_running_loop().time()
            reason = await self._run_until_it_ends()
            if asyncio.get_running_loop().time() - started >= self._backoff.stable:
                self._deaths = 0
            self._deaths += 1
            name = self.program.name
            if not self._first.done() and self._deaths >= ATTEMPTS_TO_START:
                raise StartError(self._start_failure(reason))
            pause = self._backoff.after(self._deaths)
            self._log("airis", f"{name} {reason}; it is started again in {pause:g} s")
            self._become("backing off")
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _run_until_it_ends(self) -> str:
        """As `_run_once`. After the first start whatever goes wrong with it counts as its end: nobody else would hear
        of it, and it would never be started again."""
        try:
            return await self._run_once()
        except Exception as error:
            if not self._first.done():
                raise
            if self.process is not None and self.process.running:
                try:
                    await self.process.stop()
                except Exception:
                    self.process.kill()
            return f"could not be kept running ({type(error).__name__}: {error})"

    async def _run_once(self) -> str:
        """Runs it until it ends; returns how it ended, as the rest of a sentence."""
        self._become("starting")
        try:
            await self.program.prepare()
        except (OSError, StartError) as error:
            if not self._first.done():
                raise
            return f"could not be prepared ({error})"
        name = self.program.name
        process = ChildProcess(self.program.command, lambda line: self._log(name, line), self._inherit)
        # Shielded: a child that is being started when we are told to stop must not get lost.
        self.process = process
        starting = asyncio.ensure_future(process.start())
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Whatever came of it: who is told to stop starts nothing again. `stop` ends a child that did start.
            await asyncio.gather(starting, return_exceptions=True)
            raise
        except OSError as error:
            return f"could not be started ({error})"
        self._on_change()
        ended = asyncio.create_task(process.wait())
        try:
            if not await self._until_healthy(ended):
                if not ended.done():
                    await process.stop()
                    return f"was not healthy within {self.program.start_seconds:g} s"
                return _ending(ended.result())
            if not self._first.done():
                self._first.set_result(None)
            elif self.program.probe is not None:
                self._log("airis", f"{name} is healthy again")
            await self._watch(ended)
            return _ending(ended.result())
        finally:
            ended.cancel()
            if not process.running:
                # Its own children, if it left any.
                process.kill()

    async def _until_healthy(self, ended: asyncio.Task[int]) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.program.start_seconds
        while not ended.done() and loop.time() < deadline:
            if self.program.probe is None or await self.program.probe():
                self._become("healthy")
                return True
            await asyncio.wait({ended}, timeout=PROBE_SECONDS)
        return False

    async def _watch(self, ended: asyncio.Task[int]) -> None:
        while not ended.done():
            await asyncio.wait({ended}, timeout=WATCH_SECONDS)
            if self.program.probe is not None and not ended.done():
                try:
                    healthy = await self.program.probe()
                except Exception as error:
                    # Of the supervisor itself: the program may be well.
                    if self.state != "unhealthy":
                        self._log("airis", f"{self.program.name} cannot be asked ({type(error).__name__}: {error})")
                    healthy = False
                self._become("healthy" if healthy else "unhealthy")

    def _become(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since = time.time()
            self._on_change()

    def _start_failure(self, reason: str) -> str:
        last = self.process.recent[-1] if self.process is not None and self.process.recent else "it wrote nothing"
        return f"{self.program.name} {reason}, {self._deaths} times in a row; its last words: {last}"


class Supervisor:
    """Keeps programs running in stages.

    Args:
        log: Takes (name, line) for each line of output.
        inherit: File descriptors that every child keeps open.
        backoff: When programs that die are started again.
        on_change: Called when the state of any program has changed.
    """

    def __init__(
        self,
        log: Callable[[str, str], None],
        inherit: Sequence[int] = (),
        backoff: Backoff | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._inherit = inherit
        self._backoff = backoff or Backoff()
        self._on_change = on_change
        self._stages: list[list[Keeper]] = []

    @property
    def keepers(self) -> list[Keeper]:
        """All programs in the order of their stages."""
        return [keeper for stage in self._stages for keeper in stage]

    async def start(self, programs: Sequence[Program]) -> list[Keeper]:
        """Starts a further stage, all programs at once; returns when all are healthy.

        Raises:
            StartError: One of them does not start.
        """
        stage = [Keeper(program, self._log, self._inherit, self._backoff, self._on_change) for program in programs]
        self._stages.append(stage)
        await together(*(keeper.start() for keeper in stage))
        return stage

    async def stop(self) -> None:
        """Stops the stages in reverse order, each as a whole."""
        for stage in reversed(self._stages):
            await asyncio.gather(*(keeper.stop() for keeper in stage))

    def kill(self) -> None:
        """Ends everything at once."""
        for keeper in self.keepers:
            keeper.kill()


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Does all of it at once. When one of it fails, the rest is cancelled, and ends before this raises what it was."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
