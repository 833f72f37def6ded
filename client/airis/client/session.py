"""The ingest session: batches over one stream that survives resets, each stored once.

What is not acknowledged is kept, bounded, and sent again after a reset, from the sequence behind the last that the
server has settled. The server knows repeated sequences, so nothing is lost and nothing is stored twice.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
from airis.client.backoff import Backoff
from airis.client.calls import Calls
from airis.client.connection import Connection, is_transient
from airis.client.delivery import Delivery
from airis.client.dialect import MAX_MESSAGE_BYTES, BatchRejection, IngestDialect, check_batch
from airis.client.errors import AirisError, FailedPreconditionError, failure
from airis.client.outbox import Outbox
from airis.client.waiting import Patience
from airis.common.v1 import ingest_pb2

ItemT = TypeVar("ItemT")

_SILENCE_SECONDS = 30.0
_GOODBYE_SECONDS = 5.0
# A sequence as a varint, and lengths that grow by it.
_SEQUENCE_BYTES = 20


class IngestSession(Generic[ItemT]):
    """Sends batches: `async with client.metrics.session() as session: await session.send(points)`.

    Entering connects. Leaving waits until everything is acknowledged; leaving by an exception does not wait. Use it
    from one event loop; `send` may be called from several tasks.

    Args:
        calls: The service's calls.
        dialect: The signal.
        producer_id: Names the sender over all its sessions; one session at a time may use it. None: a new name.
        max_outstanding_batches: Batches that are kept until they are acknowledged; the server may allow fewer.
        max_outstanding_bytes: Bytes of batches that are kept.
        give_up_after: Seconds without any acknowledgement after which the session fails.
        on_rejection: Is told what was refused; it must not block. Rejections are in `rejections` too.
        backoff: Delays between connections.
        clock: Monotonic seconds.

    Attributes:
        producer_id: The sender's name.
    """

    def __init__(
        self,
        calls: Calls,
        dialect: IngestDialect[ItemT],
        *,
        producer_id: str | None = None,
        max_outstanding_batches: int = 64,
        max_outstanding_bytes: int = MAX_MESSAGE_BYTES,
        give_up_after: float = 300.0,
        on_rejection: Callable[[BatchRejection], None] | None = None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.producer_id = producer_id or uuid.uuid4().hex
        # Under an id of our own nothing can have been sent before.
        self._is_new = producer_id is None
        self._calls = calls
        self._dialect = dialect
        self._clock = clock
        self._outbox = Outbox(max_outstanding_batches, max_outstanding_bytes)
        self._delivery = Delivery(
            self.producer_id, self._outbox, Patience(give_up_after, clock), backoff or Backoff(), on_rejection
        )
        self._runner: asyncio.Task[None] | None = None

    @property
    def resume_after(self) -> int:
        """The highest sequence that the server had of this producer when the session began."""
        return self._delivery.resume_after

    @property
    def acknowledged_through(self) -> int:
        """The highest settled sequence: it and all before it are durable, or refused."""
        return self._outbox.settled_through

    @property
    def stored_items(self) -> int:
        """How many items are durable."""
        return self._outbox.settled_items - self._delivery.rejected_items

    @property
    def rejected_items(self) -> int:
        """How many items were refused. Refusals in a batch that was settled while a stream broke are not known."""
        return self._delivery.rejected_items

    @property
    def rejections(self) -> Sequence[BatchRejection]:
        """The newest 1,000 rejections."""
        return tuple(self._delivery.rejections)

    async def start(self) -> None:
        """Connects. `async with` does it.

        Raises:
            AirisError: The server refuses, or cannot be reached for `give_up_after` seconds.
        """
        delivery = self._delivery
        if self._runner is None:
            delivery.patience.restart()
            self._runner = asyncio.create_task(self._run(), name=f"ingest session {self.producer_id}")
        await delivery.changed.wait_for(lambda: delivery.has_opened or delivery.failure is not None)
        delivery.check()

    async def send(self, items: Sequence[ItemT]) -> int:
        """Hands over a batch; waits while too much is unacknowledged.

        A cancelled `send` has not taken the batch.

        Returns:
            The batch's sequence; `acknowledged_through` will pass it.

        Raises:
            InvalidArgumentError: The batch is empty or longer than a message may be.
            AirisError: The session has failed.
        """
        request = self._dialect.stream_request()
        getattr(request.batch, self._dialect.items).extend(items)
        size = request.ByteSize() + _SEQUENCE_BYTES
        check_batch(len(items), size)
        await self.start()
        delivery = self._delivery
        await delivery.changed.wait_for(lambda: delivery.failure is not None or self._outbox.has_room(size))
        delivery.check()
        if delivery.is_closing:
            raise FailedPreconditionError("The session is closed.", code=grpc.StatusCode.FAILED_PRECONDITION)
        if self._outbox.is_empty:
            delivery.patience.restart()
        sequence = self._outbox.last_sequence + 1
        request.batch.sequence = sequence
        self._outbox.add(request.SerializeToString(), len(items))
        delivery.changed.tell()
        return sequence

    async def flush(self) -> None:
        """Returns when everything that was sent before is acknowledged.

        Raises:
            AirisError: The session has failed; batches after `acknowledged_through` may be stored or not.
        """
        delivery, last = self._delivery, self._outbox.last_sequence
        await delivery.changed.wait_for(lambda: delivery.failure is not None or self._outbox.settled_through >= last)
        if self._outbox.settled_through < last:
            delivery.check()

    async def close(self) -> None:
        """Flushes, and ends the stream. Raises as `flush` does."""
        try:
            if self._runner is not None:
                await self.flush()
                self._delivery.is_closing = True
                self._delivery.changed.tell()
                await asyncio.wait({self._runner}, timeout=_GOODBYE_SECONDS)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Ends the stream at once; unacknowledged batches may be stored or not."""
        self._delivery.is_closing = True
        self._delivery.fail(FailedPreconditionError("The session is closed.", code=grpc.StatusCode.FAILED_PRECONDITION))
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    async def _run(self) -> None:
        delivery = self._delivery
        try:
            while True:
                error = await self._connect()
                if delivery.is_finished:
                    return
                if not is_transient(error) or not delivery.has_patience:
                    delivery.fail(error)
                    return
                await asyncio.sleep(error.retry_delay or delivery.backoff.next_delay())
        except Exception as error:
            # Whoever waits must hear of a fault of ours, or of the rejection callback's, too.
            fault = failure(grpc.StatusCode.INTERNAL, f"The session failed: {error!r}.")
            fault.__cause__ = error
            delivery.fail(fault)

    async def _connect(self) -> AirisError:
        method = self._calls.channel.stream_stream(
            self._calls.path(self._dialect.stream_method),
            response_deserializer=self._dialect.stream_response.FromString,
        )
        knows = self._is_new or self._delivery.has_opened
        settled = self._outbox.settled_through if knows else None
        first = self._dialect.stream_request(
            open=ingest_pb2.StreamOpen(producer_id=self.producer_id, settled_through=settled)
        )
        try:
            await Connection(method(), first.SerializeToString(), self._delivery, _SILENCE_SECONDS, self._clock).run()
        except AirisError as error:
            return error
        return failure(grpc.StatusCode.UNAVAILABLE, "The server ended the stream.")
