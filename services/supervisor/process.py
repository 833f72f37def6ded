"""One child process: started in a session of its own, read line by line, stopped for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
MAX_LINE_BYTES = 64 * 1024
RECENT_LINES = 30


@dataclass(frozen=True)
class Command:
    """How a program is run and ended.

    Attributes:
        arguments: The program's absolute path and its arguments.
        environment: Added to the supervisor's own environment.
        user: The system user to run as; None: the supervisor's.
        stop_signal: Asks for an orderly end.
        stop_seconds: How long that may take before the whole process group is killed.
        death_signal: What the kernel sends when the supervisor dies without a word.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    death_signal: signal.Signals = signal.SIGKILL


class ChildProcess:
    """A running command.

    Args:
        command: What to run.
        on_line: Called with each line of its output, without the line's end.
        inherit: File descriptors that it keeps open as long as it lives.
    """

    def __init__(
        self, command: Command, on_line: Callable[[str], None] = lambda _: None, inherit: Sequence[int] = ()
    ) -> None:
        self._command = command
        self._on_line = on_line
        self._inherit = tuple(inherit)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)

    @property
    def pid(self) -> int | None:
        """Its process id; None before the start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts it. Call from the main thread: the death signal is bound to the thread that starts a child.

        Raises:
            OSError: It cannot be started.
        """
        command = self._command
        # Without our word it ends: where asyncio fails after the fork, for want of a thread or a descriptor, nobody
        # has the process in hand.
        waits, go = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(CHILD),
                str(os.getpid()),
                str(int(command.death_signal)),
                command.user or "",
                str(waits),
                "--",
                *command.arguments,
                env={**os.environ, **command.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(*self._inherit, waits),
                limit=MAX_LINE_BYTES,
            )
            os.write(go, b"\n")
        finally:
            os.close(waits)
            os.close(go)
        if self._process.stdout is not None:
            self._reader = asyncio.create_task(self._read(self._process.stdout))

    async def wait(self) -> int:
        """Waits for its end and returns the exit code; negative: the signal that ended it."""
        if self._process is None:
            raise RuntimeError("The process was not started.")
        code = await self._process.wait()
        if self._reader is not None:
            # What it wrote last explains its end; a grandchild that holds the pipe must not delay us.
            await asyncio.wait({self._reader}, timeout=1)
        return code

    async def stop(self) -> None:
        """Asks it to end, and kills its process group when it does not in time. Safe to call twice."""
        if self._process is None:
            return
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._command.stop_signal)
            try:
                await asyncio.wait_for(self._process.wait(), self._command.stop_seconds)
            except TimeoutError:
                self._on_line(f"did not end within {self._command.stop_seconds:g} s and is killed")
        self.kill()
        await self._process.wait()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=1)
            self._reader.cancel()

    def kill(self) -> None:
        """Kills what is left of its process group at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                if end.partial:
                    self._take(end.partial)
                return
            except asyncio.LimitOverrunError as overrun:
                raw = await stream.readexactly(overrun.consumed)
            self._take(raw)

    def _take(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            self.recent.append(text)
            self._on_line(text)


async def run_to_end(command: Command, inherit: Sequence[int] = ()) -> tuple[int, str]:
    """Runs a command that ends by itself; returns its exit code and the last lines of its output."""
    child = ChildProcess(command, inherit=inherit)
    await child.start()
    try:
        code = await child.wait()
    except asyncio.CancelledError:
        child.kill()
        raise
    return code, "\n".join(child.recent)
