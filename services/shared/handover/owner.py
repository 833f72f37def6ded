"""The owner's side: answers what frontends hand over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, cast

import structlog

from resilience import deadline, load
from services.shared.errors import DeadlineExceededError
from services.shared.handover.frames import Call, Frame, Frames, Kind, error_frame, frame, read_call
from services.shared.rpc.context import set_tenant
from services.shared.rpc.errors import from_exception

logger = structlog.get_logger(__name__)

_GRACE_SECONDS = 10.0
# Of one frontend. Its own policies allow fewer, unless it is told otherwise.
_MOST_CALLS = 4_096
_MOST_BYTES = 128 * 1024 * 1024


class Answers(Protocol):
    """What answers calls: `services.shared.rpc.ingest_methods.IngestMethods`."""

    def unary(self, payload: bytes) -> Awaitable[Any]:
        """Answers the unary method of the signal, of the current tenant."""

    def export(self, payload: bytes, owner: str) -> Awaitable[Any]:
        """Answers OTLP's `Export`."""


class Owner:
    """Listens for frontends.

    Args:
        path: The socket, in a folder that nobody else may enter.
        answers: Answers what they hand over.
        domain: The ErrorInfo domain: "metrics.airis".
    """

    def __init__(self, path: Path, answers: Answers, domain: str) -> None:
        self._path = path
        self._answers = answers
        self._domain = domain
        self._server: asyncio.AbstractServer | None = None
        self._frontends: set[_Frontend] = set()

    async def start(self) -> None:
        """Listens. What a process before this one left is in nobody's use: the store has one owner."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Frontend(self._answers, self._domain, self._frontends), str(self._path)
        )
        os.chmod(self._path, 0o600)

    async def stop(self) -> None:
        """Takes nothing more, waits for what was taken, but not for long, and hangs up."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        frontends = list(self._frontends)
        running = [task for each in frontends for task in each.end()]
        if running:
            await asyncio.wait(running, timeout=_GRACE_SECONDS)
        for each in frontends:
            each.hang_up()


class _Frontend(asyncio.Protocol):
    """The connection of one frontend."""

    def __init__(self, answers: Answers, domain: str, all_of_them: set[_Frontend]) -> None:
        self._answers = answers
        self._domain = domain
        self._all = all_of_them
        self._frames = Frames()
        self._transport: asyncio.Transport
        self._running: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._is_ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # Nobody hears the answers; what is being stored is stored.
        self._all.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            for each in self._frames.feed(data):
                self._begin(each, read_call(each.content))
        except ValueError as error:
            logger.error("handover_broken", domain=self._domain, error=str(error))
            self._transport.abort()

    def end(self) -> list[asyncio.Task[None]]:
        """Takes no more calls. Gives those under way."""
        self._is_ending = True
        return list(self._running)

    def hang_up(self) -> None:
        """Ends the connection when what was answered has been sent."""
        self._transport.close()

    def _begin(self, call_frame: Frame, call: Call) -> None:
        if call_frame.kind not in (Kind.UNARY, Kind.EXPORT):
            raise ValueError(f"a frame of kind {call_frame.kind.name}, which is no call")
        task = asyncio.get_running_loop().create_task(self._answer(call_frame.number, call_frame.kind, call))
        size = len(call.payload)
        self._bytes += size
        self._running.add(task)
        task.add_done_callback(lambda done: self._end(done, size))
        if self._is_full():
            self._transport.pause_reading()

    def _end(self, task: asyncio.Task[None], size: int) -> None:
        was_full = self._is_full()
        self._running.discard(task)
        self._bytes -= size
        if was_full and not self._is_full() and not self._transport.is_closing():
            self._transport.resume_reading()

    def _is_full(self) -> bool:
        return len(self._running) >= _MOST_CALLS or self._bytes >= _MOST_BYTES

    async def _answer(self, number: int, kind: Kind, call: Call) -> None:
        set_tenant(call.tenant)
        deadline.begin(call.seconds)
        load.begin(lambda: self._send(frame(number, Kind.ONLY_WAITS)))
        try:
            async with asyncio.timeout(call.seconds):
                if kind is Kind.UNARY:
                    response = await self._answers.unary(call.payload)
                else:
                    response = await self._answers.export(call.payload, call.tenant)
            self._send(frame(number, Kind.ANSWER, response.SerializeToString()))
        except TimeoutError:
            self._send(error_frame(number, DeadlineExceededError("The call took longer than its deadline.")))
        except Exception as error:
            self._send(error_frame(number, from_exception(error, self._domain, f"handed over: {kind.name}")))

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)
