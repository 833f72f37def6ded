"""One stream of a session: from `open` to its end. The session makes a new one after a reset."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc
from airis.client.delivery import Delivery
from airis.client.errors import AirisError, ResourceExhaustedError, UnavailableError, failure, from_call
from airis.common.v1 import ingest_pb2

_GOODBYE_SECONDS = 5.0

_TRANSIENT = frozenset(
    {
        # A reset may show as any of these, depending on who noticed it; repeated sequences do no harm.
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


def is_transient(error: AirisError) -> bool:
    """Whether a new stream may do better."""
    # A stream ends with its token; the next one shows the token of then.
    return error.code in _TRANSIENT or error.retry_delay is not None or error.reason == "TOKEN_EXPIRED"


class Connection:
    """Sends what the outbox has and hands on what the server says.

    Args:
        call: The stream; its requests are bytes.
        open_message: The first message.
        delivery: What it is for.
        silence: Seconds after which a server that owes an answer is taken for dead.
        clock: Monotonic seconds.
    """

    def __init__(
        self, call: Any, open_message: bytes, delivery: Delivery, silence: float, clock: Callable[[], float]
    ) -> None:
        self._call = call
        self._open_message = open_message
        self._delivery = delivery
        self._silence = silence
        self._clock = clock
        self._limits: tuple[int, int] | None = None
        self._paused_until = 0.0

    async def run(self) -> None:
        """Returns when the server has ended the stream without an error.

        Raises:
            AirisError: The stream broke.
        """
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done():
                # The writer ends when it is told to or because the stream did; the reader hears which.
                await asyncio.wait({reader}, timeout=_GOODBYE_SECONDS)
            if not reader.done():
                if not writer.cancelled():
                    writer.result()
                raise UnavailableError("The server did not end the stream.", code=grpc.StatusCode.UNAVAILABLE)
            if reader.cancelled():
                # gRPC cancels the calls of a channel that is closed, as that to an instance that has left is.
                raise UnavailableError("The channel was closed.", code=grpc.StatusCode.UNAVAILABLE)
            reader.result()
        except grpc.RpcError as error:
            raise from_call(error) from error
        except asyncio.InvalidStateError as error:
            raise UnavailableError("The stream has ended.", code=grpc.StatusCode.UNAVAILABLE) from error
        finally:
            reader.cancel()
            writer.cancel()
            self._call.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _write(self) -> None:
        delivery = self._delivery
        await self._call.write(self._open_message)
        await delivery.changed.wait_for(lambda: self._limits is not None)
        while True:
            pause = self._paused_until - self._clock()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            batch = delivery.outbox.next_to_send(*(self._limits or (0, 0)))
            if batch is not None:
                await self._call.write(batch.payload)
            elif delivery.is_finished:
                await self._call.done_writing()
                return
            else:
                await delivery.changed.next()

    async def _read(self) -> None:
        while (response := await self._next()) is not grpc.aio.EOF:
            match response.WhichOneof("message"):
                case "opened":
                    opened = response.opened
                    self._delivery.opened(opened.resume_after)
                    self._limits = (opened.max_outstanding_batches, opened.max_outstanding_bytes)
                case "ack":
                    self._delivery.acknowledged(response.ack.through_sequence)
                case "rejection":
                    self._delivery.rejected(response.rejection)
                case "throttle":
                    self._throttle(response.throttle)
            self._delivery.changed.tell()

    def _throttle(self, throttle: ingest_pb2.StreamThrottle) -> None:
        if not self._delivery.has_patience:
            raise ResourceExhaustedError(
                f"The server takes nothing more; it refuses batch {throttle.from_sequence} and those after it.",
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason="BACKLOG_FULL",
            )
        self._delivery.outbox.send_again_from(throttle.from_sequence)
        self._paused_until = self._clock() + throttle.retry_delay.ToNanoseconds() / 1e9

    async def _next(self) -> Any:
        # Cancelling a read would end the call, so the wait has a limit and not the read.
        read = asyncio.ensure_future(self._call.read())
        try:
            while True:
                owed = self._is_owed_an_answer()
                await asyncio.wait({read}, timeout=self._silence)
                if read.done():
                    return read.result()
                if owed and self._is_owed_an_answer():
                    raise failure(
                        grpc.StatusCode.UNAVAILABLE, f"The server has been silent for {self._silence:g} seconds."
                    )
        finally:
            if not read.done():
                read.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
                    await read

    def _is_owed_an_answer(self) -> bool:
        return self._limits is None or self._delivery.outbox.unanswered > 0
