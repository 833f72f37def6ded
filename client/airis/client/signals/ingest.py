"""What metrics, logs and traces have in common: sending."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from airis.client.batching import Batcher, Sender
from airis.client.calls import Calls
from airis.client.dialect import MAX_MESSAGE_BYTES, BatchRejection, IngestDialect
from airis.client.session import IngestSession
from airis.client.unary import UnarySender
from airis.common.v1 import ingest_pb2
from google.protobuf.message import Message

ItemT = TypeVar("ItemT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

WaitFor = ingest_pb2.Acknowledgement.WaitFor
DURABLE = ingest_pb2.Acknowledgement.DURABLE
QUERYABLE = ingest_pb2.Acknowledgement.QUERYABLE


class Ingesting(Generic[ItemT, ResponseT]):
    """Sends items of one signal.

    Args:
        calls: The service's calls.
        dialect: The signal.
        response: The class of the unary answer.
    """

    def __init__(self, calls: Calls, dialect: IngestDialect[ItemT], response: type[ResponseT]) -> None:
        self._calls = calls
        self._dialect = dialect
        self.response = response

    async def ingest(
        self,
        items: Iterable[ItemT],
        *,
        request_id: str | None = None,
        wait_for: WaitFor = DURABLE,
        timeout: float | None = None,
    ) -> ResponseT:
        """Stores a batch by one call, which is repeated as its contract says: its `request_id` is stored once.

        Args:
            items: At most 100,000.
            request_id: A repeated id is acknowledged and not stored again. None: a new one.
            wait_for: DURABLE, or QUERYABLE to return only when queries see it.
            timeout: Seconds; None: the contract's.

        Returns:
            How many were stored, and why the others were not.

        Raises:
            AirisError: The call failed.
        """
        request: Any = self._dialect.unary_request(request_id=request_id or uuid.uuid4().hex, wait_for=wait_for)
        getattr(request, self._dialect.items).extend(items)
        return await self._calls.unary(self._dialect.unary_method, request, self.response, timeout)

    def session(
        self,
        *,
        producer_id: str | None = None,
        max_outstanding_batches: int = 64,
        max_outstanding_bytes: int = MAX_MESSAGE_BYTES,
        give_up_after: float = 300.0,
        on_rejection: Callable[[BatchRejection], None] | None = None,
    ) -> IngestSession[ItemT]:
        """A stream that survives resets; see `IngestSession`. Use it as `async with`."""
        return IngestSession(
            self._calls,
            self._dialect,
            producer_id=producer_id,
            max_outstanding_batches=max_outstanding_batches,
            max_outstanding_bytes=max_outstanding_bytes,
            give_up_after=give_up_after,
            on_rejection=on_rejection,
        )

    def unary_sender(
        self,
        *,
        max_in_flight: int = 4,
        max_attempts: int = 6,
        give_up_after: float = 60.0,
        on_rejection: Callable[[BatchRejection], None] | None = None,
    ) -> UnarySender[ItemT]:
        """Sends batches by unary calls; see `UnarySender`. Use it as `async with`."""
        return UnarySender(
            self._calls,
            self._dialect,
            max_in_flight=max_in_flight,
            max_attempts=max_attempts,
            give_up_after=give_up_after,
            on_rejection=on_rejection,
        )

    def batcher(
        self,
        sender: Sender[ItemT] | None = None,
        *,
        max_items: int = 1000,
        max_bytes: int = 1024 * 1024,
        max_age: float = 1.0,
    ) -> Batcher[ItemT]:
        """Joins single items to batches; see `Batcher`. Use it as `async with`.

        Args:
            sender: Where to; None: a session of its own.
            max_items: Items of a batch.
            max_bytes: Bytes of a batch.
            max_age: Seconds that an item waits for others.
        """
        return Batcher(sender or self.session(), max_items=max_items, max_bytes=max_bytes, max_age=max_age)
