"""Joins single items to batches, with backpressure: adding waits while the sender is full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import grpc
from airis.client.errors import AirisError, FailedPreconditionError
from google.protobuf.message import Message

ItemT = TypeVar("ItemT", bound=Message)
SentT = TypeVar("SentT", contravariant=True)

# What an item costs beside its own bytes: its tag and length.
_OVERHEAD_BYTES = 6


class Sender(Protocol[SentT]):
    """What takes batches: `IngestSession` or `UnarySender`."""

    async def send(self, items: Sequence[SentT]) -> int:
        """Takes a batch; waits while it is full. When cancelled, it has not taken the batch."""

    async def flush(self) -> None:
        """Returns when everything that was sent is answered."""

    async def close(self) -> None:
        """Flushes and takes nothing more."""

    async def abort(self) -> None:
        """Gives up what is not answered."""


class Batcher(Generic[ItemT]):
    """Collects items and sends them: `async with client.logs.batcher() as batcher: await batcher.add(entry)`.

    A batch is sent when it has `max_items`, would pass `max_bytes`, or its first item is `max_age` old. No more
    than one batch is collected at a time: `add` waits while the sender takes nothing.

    Args:
        sender: Where to; it is closed with the batcher.
        max_items: Items of a batch.
        max_bytes: Bytes of a batch; a longer item goes alone.
        max_age: Seconds that an item waits for others.
    """

    def __init__(
        self, sender: Sender[ItemT], *, max_items: int = 1000, max_bytes: int = 1024 * 1024, max_age: float = 1.0
    ) -> None:
        self._sender = sender
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._items: list[ItemT] = []
        self._bytes = 0
        self._lock = asyncio.Lock()
        self._first_item = asyncio.Event()
        self._failure: AirisError | None = None
        self._is_closed = False
        self._sending_aged: asyncio.Task[None] | None = None

    async def add(self, item: ItemT) -> None:
        """Takes one item; waits while the sender is full. A cancelled `add` has not taken the item.

        The item must not be changed afterwards.

        Raises:
            AirisError: The sender has failed.
        """
        size = item.ByteSize() + _OVERHEAD_BYTES
        async with self._lock:
            self._check()
            if self._items and (len(self._items) >= self._max_items or self._bytes + size > self._max_bytes):
                await self._send()
            self._items.append(item)
            self._bytes += size
            self._first_item.set()

    async def add_all(self, items: Iterable[ItemT]) -> None:
        """Takes items one after the other."""
        for item in items:
            await self.add(item)

    async def flush(self) -> None:
        """Returns when everything that was added before is answered. Raises `AirisError` if the sender has failed."""
        async with self._lock:
            await self._send()
        await self._sender.flush()

    async def close(self) -> None:
        """Flushes, and closes the sender. Raises as `flush` does."""
        try:
            await self.flush()
            self._is_closed = True
            await self._sender.close()
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Gives up what is collected or not answered."""
        self._is_closed = True
        if self._sending_aged is not None:
            self._sending_aged.cancel()
            await asyncio.wait({self._sending_aged})
        await self._sender.abort()

    async def __aenter__(self) -> Self:
        self._sending_aged = asyncio.create_task(self._send_aged(), name="batcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    async def _send(self) -> None:
        if self._items:
            await self._sender.send(self._items)
            self._items = []
            self._bytes = 0
            self._first_item.clear()

    async def _send_aged(self) -> None:
        while True:
            await self._first_item.wait()
            await asyncio.sleep(self._max_age)
            async with self._lock:
                try:
                    await self._send()
                except AirisError as error:
                    self._failure = error
                    return

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_closed:
            raise FailedPreconditionError("The batcher is closed.", code=grpc.StatusCode.FAILED_PRECONDITION)
        if self._sending_aged is None:
            raise FailedPreconditionError("Use the batcher as `async with`.", code=grpc.StatusCode.FAILED_PRECONDITION)
