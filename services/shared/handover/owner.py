"""The owner's side: answers what frontends hand over."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import structlog

from resilience import deadline, load
from resilience.grpc.guard import Guard
from services.shared.bus.ingest import MOST_WAITING_BYTES
from services.shared.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from services.shared.handover.frames import Call, Frame, Frames, Kind, error_frame, frame, read_call
from services.shared.rpc.context import set_tenant
from services.shared.rpc.errors import from_exception
from services.shared.telemetry.tracing import within_trace

logger = structlog.get_logger(__name__)

_GRACE_SECONDS = 10.0
# Of one frontend: calls that are under way or wait for a place, of which the policies give fewer.
_MOST_CALLS = 1_024
# More than may wait to be decoded: who sends too much is refused there, and does not hold up the others here.
_MOST_BYTES = 2 * MOST_WAITING_BYTES


class Answers(Protocol):
    """What answers calls: `services.shared.rpc.ingest_methods.IngestMethods`."""

    def unary(self, payload: bytes) -> Awaitable[Any]:
        """Answers the unary method of the signal, of the current tenant."""

    def export(self, payload: bytes, owner: str) -> Awaitable[Any]:
        """Answers OTLP's `Export`."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What a service answers for frontends.

    Attributes:
        socket: Where it listens, in a folder that nobody else may enter.
        answers: Answers the calls.
        domain: The ErrorInfo domain: "metrics.airis".
        method: The path of the RPC whose policy they have.
    """

    socket: Path
    answers: Answers
    domain: str
    method: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A caller whom a frontend knows."""

    tenant: str
    permissions: frozenset[str] = frozenset()
    expires_at: float = float("inf")


class Owner:
    """Listens for frontends.

    Args:
        served: What it answers, and where.
        guard: Gives places to calls: to those of the service's own port, too.
        clock: Gives monotonic seconds.
    """

    def __init__(self, served: HandedOver, guard: Guard, clock: Callable[[], float] = time.monotonic) -> None:
        self._served = served
        self._guard = guard
        self._rule = guard.rule(served.method)
        self._clock = clock
        self._server: asyncio.AbstractServer | None = None
        self._frontends: set[_Frontend] = set()
        self._all_gone = asyncio.Event()
        self._is_ending = False

    async def start(self) -> None:
        """Listens.

        Raises:
            InvalidArgumentError: Others may enter the folder.
            UnavailableError: It is not possible to listen there.
        """
        path = self._served.socket
        try:
            if stat.S_IMODE(path.parent.stat().st_mode) & 0o077:
                raise InvalidArgumentError(
                    f"Others may enter handover.folder, {path.parent}, and would store data in anybody's name: "
                    f"chmod 700 {path.parent}"
                )
            loop = asyncio.get_running_loop()
            # Takes the place of a socket that a process before this one left: the store has one owner.
            self._server = await loop.create_unix_server(lambda: _Frontend(self), str(path))
        except OSError as error:
            raise UnavailableError(
                f"Frontends cannot be listened for in handover.folder, {path.parent}: {error.strerror or error}."
            ) from error

    async def stop(self) -> None:
        """Takes nothing more, waits until the frontends have their answers, but not for long, and hangs up."""
        if self._server is None:
            return
        self._is_ending = True
        self._server.close()
        self._server = None
        with suppress(OSError):
            self._served.socket.unlink(missing_ok=True)
        for each in self._frontends:
            each.say_goodbye()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                while self._frontends:
                    self._all_gone.clear()
                    await self._all_gone.wait()
        await asyncio.gather(*(each.hang_up() for each in list(self._frontends)))

    def joined(self, frontend: _Frontend) -> None:
        """Notes a frontend that has connected."""
        self._frontends.add(frontend)

    def left(self, frontend: _Frontend) -> None:
        """Notes that one has gone."""
        self._frontends.discard(frontend)
        if not self._frontends:
            self._all_gone.set()

    @property
    def takes(self) -> bool:
        """Whether it takes calls."""
        return not self._is_ending

    async def answer(self, kind: Kind, call: Call, only_waits: Callable[[], None]) -> bytes:
        """Answers a call.

        Args:
            kind: `UNARY` or `EXPORT`.
            call: What is asked.
            only_waits: Is called if all is done but for something that comes by itself.

        Returns:
            The bytes of the response.
        """
        guard, rule = self._guard, self._rule
        code, entry = "CANCELLED", None
        try:
            left = call.ends_at - self._clock()
            if left <= 0:
                raise DeadlineExceededError("The deadline had passed before the call was begun.")
            # Also for the wait for a place.
            deadline.begin(left)
            entry = await guard.enter_again(rule, _Known(call.tenant), left)
            _also(only_waits)
            set_tenant(call.tenant)
            try:
                async with asyncio.timeout(call.ends_at - self._clock()) as timer:
                    response = await self._respond(kind, call)
            except TimeoutError as error:
                if not timer.expired():
                    raise
                code = "DEADLINE_EXCEEDED"
                raise DeadlineExceededError("The call took longer than its deadline.") from error
            code = "OK"
            return response
        except Exception:
            code = code if code == "DEADLINE_EXCEEDED" else "UNKNOWN"
            raise
        finally:
            if entry is not None:
                guard.leave(rule, entry, code)

    def worded(self, number: int, error: Exception) -> bytes:
        """The frame of an error; one that is not for callers is logged and says nothing of its cause."""
        return error_frame(number, from_exception(error, self._served.domain, f"{self._served.method} (handed over)"))

    def broken(self, reason: str) -> None:
        """Notes that a frontend sends what is no frame."""
        logger.error("handover_broken", domain=self._served.domain, reason=reason)

    async def _respond(self, kind: Kind, call: Call) -> bytes:
        answers = self._served.answers
        if kind is Kind.UNARY:
            response = await answers.unary(call.payload)
        else:
            response = await answers.export(call.payload, call.tenant)
        return bytes(response.SerializeToString())


class _Frontend(asyncio.Protocol):
    """The connection of one frontend."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._frames = Frames()
        self._transport: asyncio.Transport
        self.running: dict[int, asyncio.Task[None]] = {}
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.joined(self)
        if not self._owner.takes:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.left(self)
        # As of any call whose caller has gone.
        for task in self.running.values():
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for each in self._frames.feed(data):
                self._take(each)
        except ValueError as error:
            self._owner.broken(str(error))
            self._transport.abort()

    def say_goodbye(self) -> None:
        """Tells the frontend that nothing more is taken: it leaves when it has its answers."""
        self._send(frame(0, Kind.NOT_TAKEN))

    async def hang_up(self) -> None:
        """Ends what is still under way, and the connection."""
        self._transport.abort()
        running = list(self.running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _take(self, taken: Frame) -> None:
        number = taken.number
        if taken.kind is Kind.CANCEL:
            if number in self.running:
                self.running[number].cancel()
            return
        if taken.kind not in (Kind.UNARY, Kind.EXPORT) or number in self.running:
            raise ValueError(f"call {number} as {taken.kind.name}, which is out of turn")
        call = read_call(taken.content)
        if not self._owner.takes:
            self._send(frame(number, Kind.NOT_TAKEN))
            return
        size = len(call.payload)
        task = asyncio.get_running_loop().create_task(self._answer(number, taken.kind, call))
        self.running[number] = task
        self._bytes += size
        task.add_done_callback(lambda _: self._end(number, size))
        if self._is_full():
            self._transport.pause_reading()

    def _end(self, number: int, size: int) -> None:
        was_full = self._is_full()
        del self.running[number]
        self._bytes -= size
        if was_full and not self._is_full() and not self._transport.is_closing():
            self._transport.resume_reading()

    def _is_full(self) -> bool:
        return len(self.running) >= _MOST_CALLS or self._bytes >= _MOST_BYTES

    async def _answer(self, number: int, kind: Kind, call: Call) -> None:
        with within_trace(call.traceparent):
            try:
                response = await self._owner.answer(kind, call, lambda: self._send(frame(number, Kind.ONLY_WAITS)))
                self._send(frame(number, Kind.ANSWER, response))
            except Exception as error:
                self._send(self._owner.worded(number, error))

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def _also(only_waits: Callable[[], None]) -> None:
    """Lets the frontend know, too, from when on a call is no load any more."""
    end = load.ender()

    def both() -> None:
        end()
        only_waits()

    load.begin(both)
