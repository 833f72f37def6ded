"""The frontend's side: hands calls over, and waits for the owner while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog

from resilience import load
from services.shared.errors import AirisError, InvalidArgumentError, UnavailableError
from services.shared.handover.frames import Call, Frame, Frames, Kind, call_frame, frame, read_error
from services.shared.rpc.limits import MAX_MESSAGE_BYTES

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 4.0
"""So long takes an owner that is started again, and callers shall not notice."""
_BETWEEN_ATTEMPTS_SECONDS = 0.05
_RETRY_SECONDS = 1.0
# Of a call: both sides have a clock for its end.
_LAST_SECONDS = 0.02


class Caller:
    """Hands calls over to the owner of a signal's store.

    Args:
        path: The owner's socket.
        signal: What the owner is of: "metrics".
    """

    def __init__(self, path: Path, signal: str) -> None:
        self._path = path
        self._signal = signal
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._one_attempt = asyncio.Lock()
        self._is_away = False

    async def call(self, kind: Kind, call: Call) -> bytes:
        """Hands a call over.

        Returns:
            The bytes of the response.

        Raises:
            AirisError: What the owner answered.
            InvalidArgumentError: The request is too large.
            UnavailableError: The owner is away. Or it went away meanwhile: then it is not known whether the batch was
                taken.
        """
        if len(call.payload) > MAX_MESSAGE_BYTES:
            raise InvalidArgumentError(
                f"The request has more than {MAX_MESSAGE_BYTES >> 20} MiB as protobuf. Split it into several.",
                reason="SIZE_LIMIT_EXCEEDED",
            )
        while True:
            connection = await self._connected()
            try:
                return await connection.call(kind, call)
            except _NotTakenError:
                # Surely not: the next owner may take it.
                continue

    async def check(self) -> None:
        """Raises `UnavailableError` if the owner cannot be reached now."""
        await self._connect()

    async def close(self) -> None:
        """Hangs up."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> _Connection:
        if self._connection is not None and not self._connection.is_over:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect_patiently(), name=f"to the owner of {self._signal}")
            self._connecting.add_done_callback(self._tried)
        # Others wait for it, too.
        return await asyncio.shield(self._connecting)

    def _tried(self, done: asyncio.Task[_Connection]) -> None:
        # Whoever waited may have gone, and an error that is kept would keep what they sent.
        if not done.cancelled():
            done.exception()
        self._connecting = None

    async def _connect_patiently(self) -> _Connection:
        loop = asyncio.get_running_loop()
        ends = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await self._connect()
            except UnavailableError:
                if loop.time() >= ends:
                    raise
            await asyncio.sleep(_BETWEEN_ATTEMPTS_SECONDS)

    async def _connect(self) -> _Connection:
        async with self._one_attempt:
            if self._connection is not None and not self._connection.is_over:
                return self._connection
            loop = asyncio.get_running_loop()
            try:
                _, self._connection = await loop.create_unix_connection(
                    lambda: _Connection(self._signal), str(self._path)
                )
            except OSError as error:
                if not self._is_away:
                    # Once: it is tried again and again.
                    logger.warning("owner_away", signal=self._signal, reason=error.strerror or str(error))
                self._is_away = True
                # Not as the cause: it names a path.
                raise UnavailableError(
                    f"The {self._signal} service cannot be reached now. Try again.", retry_after=_RETRY_SECONDS
                ) from None
            self._is_away = False
            return self._connection


class _NotTakenError(Exception):
    """The owner has surely not taken a call."""


@dataclass(slots=True)
class _Waiting:
    response: asyncio.Future[bytes]
    only_waits: Callable[[], None]


class _Connection(asyncio.Protocol):
    """A connection to an owner.

    Attributes:
        is_over: Whether nothing can be handed over by it any more.
    """

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._frames = Frames()
        self._transport: asyncio.Transport
        self._waiting: dict[int, _Waiting] = {}
        self._last = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        self._writable.set()
        for each in self._waiting.values():
            if not each.response.done():
                each.response.set_exception(self._gone())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        for each in self._frames.feed(data):
            if each.kind is Kind.NOT_TAKEN:
                self.is_over = True
                self._leave_if_done()
            waiting = self._waiting.get(each.number)
            # Nobody waits any more for what took too long.
            if waiting is not None and not waiting.response.done():
                self._hear(each, waiting)

    async def call(self, kind: Kind, call: Call) -> bytes:
        # Each looks again: the first that writes may be too much already.
        while not self._writable.is_set():
            await self._writable.wait()
        if self.is_over:
            raise _NotTakenError
        self._last += 1
        number = self._last
        waiting = _Waiting(asyncio.get_running_loop().create_future(), load.ender())
        self._waiting[number] = waiting
        try:
            self._transport.write(call_frame(number, kind, call))
            return await waiting.response
        except asyncio.CancelledError:
            # What has no time left the owner ends itself, and learns from it.
            if time.monotonic() < call.ends_at - _LAST_SECONDS and not self._transport.is_closing():
                self._transport.write(frame(number, Kind.CANCEL))
            raise
        finally:
            del self._waiting[number]
            self._leave_if_done()
            # An error would hold itself by it until Python looks for what has gone.
            del waiting

    def close(self) -> None:
        self._transport.close()

    def _hear(self, heard: Frame, waiting: _Waiting) -> None:
        if heard.kind is Kind.ANSWER:
            waiting.response.set_result(heard.content)
        elif heard.kind is Kind.ONLY_WAITS:
            waiting.only_waits()
        elif heard.kind is Kind.NOT_TAKEN:
            waiting.response.set_exception(_NotTakenError())
        else:
            waiting.response.set_exception(read_error(heard.content))

    def _leave_if_done(self) -> None:
        if self.is_over and not self._waiting:
            self._transport.close()

    def _gone(self) -> AirisError:
        return UnavailableError(
            f"The {self._signal} service ended before it answered: it is not known whether the batch was taken. "
            "Send it again, with the same request_id if it has one.",
            retry_after=_RETRY_SECONDS,
        )
