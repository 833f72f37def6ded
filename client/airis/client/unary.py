"""Sends batches as unary calls, a few at once: for where a stream is not wanted, the same as a session otherwise."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from airis.client.backoff import Backoff
from airis.client.calls import Calls
from airis.client.dialect import BatchRejection, IngestDialect, batch_rejection, check_batch
from airis.client.errors import AirisError, FailedPreconditionError
from airis.client.waiting import Patience

ItemT = TypeVar("ItemT")

_KEPT_REJECTIONS = 1000
# A request id, with its tag and length.
_REQUEST_ID_BYTES = 40
# What the client's own circuit breaker refused was never sent.
_HELD_BACK = "CIRCUIT_OPEN"


def is_worth_repeating(error: AirisError) -> bool:
    """Whether the same request may be taken later: as AIP-194, and where the service says when.

    What was not answered in time may have been stored; its `request_id` sees to it that it is stored once.
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_delay is not None
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class UnarySender(Generic[ItemT]):
    """Sends each batch by one call, repeated under the same request id when the service is away or full.

    Args:
        calls: The service's calls.
        dialect: The signal.
        max_in_flight: Calls at once.
        max_attempts: How often a batch is sent, at most. What the circuit breaker holds back is not sent.
        give_up_after: Seconds after which a batch that the circuit breaker holds back fails.
        timeout: Seconds for a call; None: the contract's.
        on_rejection: Is told what was refused; it must not block.
        backoff: Makes the delays of one batch.

    Attributes:
        stored_items: How many items are durable.
        rejected_items: How many items were refused.
        rejections: The newest 1,000 rejections.
    """

    def __init__(
        self,
        calls: Calls,
        dialect: IngestDialect[ItemT],
        *,
        max_in_flight: int = 4,
        max_attempts: int = 6,
        give_up_after: float = 60.0,
        timeout: float | None = None,
        on_rejection: Callable[[BatchRejection], None] | None = None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._calls = calls
        self._dialect = dialect
        self._slots = asyncio.Semaphore(max_in_flight)
        self._max_attempts = max_attempts
        self._give_up_after = give_up_after
        self._timeout = timeout
        self._on_rejection = on_rejection
        self._backoff = backoff
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: AirisError | None = None
        self._is_closed = False
        self._sequence = 0
        self._sent_items = 0
        self.stored_items = 0
        self.rejected_items = 0
        self.rejections: deque[BatchRejection] = deque(maxlen=_KEPT_REJECTIONS)

    async def send(self, items: Sequence[ItemT]) -> int:
        """Hands over a batch; waits for a free call. A cancelled `send` has not taken the batch.

        Returns:
            The batch's number, from 1.

        Raises:
            InvalidArgumentError: The batch is empty or longer than a message may be.
            AirisError: A batch before this one failed for good.
        """
        request = self._dialect.unary_request(request_id=uuid.uuid4().hex)
        getattr(request, self._dialect.items).extend(items)
        check_batch(len(items), request.ByteSize() + _REQUEST_ID_BYTES)
        await self._slots.acquire()
        if self._failure is not None or self._is_closed:
            self._slots.release()
            self._check()
            raise FailedPreconditionError("The sender is closed.", code=grpc.StatusCode.FAILED_PRECONDITION)
        self._sequence += 1
        task = asyncio.create_task(self._deliver(self._sequence, self._sent_items, request))
        self._sent_items += len(items)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return self._sequence

    async def flush(self) -> None:
        """Returns when everything that was sent before is answered. Raises `AirisError` if a batch failed."""
        if self._tasks:
            await asyncio.wait(self._tasks.copy())
        self._check()

    async def close(self) -> None:
        """Flushes and takes nothing more. Raises as `flush` does."""
        self._is_closed = True
        await self.flush()

    async def abort(self) -> None:
        """Ends the calls at once; their batches may be stored or not."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.copy())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    async def _deliver(self, sequence: int, first_item: int, request: Any) -> None:
        backoff, patience = self._backoff(), Patience(self._give_up_after)
        attempts = 0
        while True:
            try:
                response = await self._calls.unary(
                    self._dialect.unary_method, request, self._dialect.unary_response, self._timeout, repeat=False
                )
            except AirisError as error:
                is_held_back = error.reason == _HELD_BACK
                attempts += not is_held_back
                is_last = patience.is_spent if is_held_back else attempts >= self._max_attempts
                if is_last or not is_worth_repeating(error):
                    self._failure = self._failure or error
                    return
                await asyncio.sleep(max(error.retry_delay or 0.0, backoff.next_delay()))
            else:
                self._count(sequence, first_item, response)
                return

    def _count(self, sequence: int, first_item: int, response: Any) -> None:
        self.stored_items += response.accepted_count
        if response.rejections:
            told = batch_rejection(sequence, first_item, 0, None, response.rejections)
            self.rejected_items += told.item_count
            self.rejections.append(told)
            if self._on_rejection is not None:
                self._on_rejection(told)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            fault = AirisError(f"The sender failed: {error!r}.", code=grpc.StatusCode.INTERNAL)
            fault.__cause__ = error
            self._failure = self._failure or fault

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
