"""The server's side of an ingest stream, the same for every signal.

Batches are published side by side, up to the limits that `opened` names, and settled in order: an ack is
cumulative. A batch that cannot be taken now throttles the stream from its sequence on; a bad one is rejected
and the stream goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from airis.common.v1 import ingest_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from services.shared.bus.intake import MAX_ID_LENGTH, Receipt
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError
from services.shared.rpc.errors import item_status, to_status
from services.shared.rpc.times import to_duration

MAX_OUTSTANDING_BATCHES = 64
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024

_WORDED_REJECTIONS = 1000


@dataclass(frozen=True, slots=True)
class StreamDialect:
    """What differs between the signals.

    Attributes:
        domain: The ErrorInfo domain.
        request: The request message's class, with the oneof `open` and `batch`.
        response: The response message's class.
        ingest: Takes (payload, producer_id, sequence).
        settle: Takes (producer_id, sequence) of a batch that was refused whole, once all before it are settled.
        resume_after: Gives what is settled of a producer, from its id and what it knows itself.
        ended: Called with the producer's id when the stream is over.
    """

    domain: str
    request: Any
    response: Any
    ingest: Callable[[bytes, str, int], Coroutine[Any, Any, Receipt]]
    settle: Callable[[str, int], None]
    resume_after: Callable[[str, int | None], Coroutine[Any, Any, int]]
    ended: Callable[[str], None]


@dataclass(slots=True)
class _Outstanding:
    sequence: int
    size: int
    attempt: int
    outcome: asyncio.Task[Receipt]


async def serve_stream(requests: AsyncIterator[bytes], dialect: StreamDialect) -> AsyncIterator[Any]:
    """Answers one ingest stream.

    Args:
        requests: The messages' bytes.
        dialect: What to do with them.

    Raises:
        InvalidArgumentError: The stream does not begin with `open`, a message is malformed, or sequences do not grow.
    """
    producer_id, resume_after = await _open(requests, dialect)
    try:
        yield dialect.response(
            opened=ingest_pb2.StreamOpened(
                resume_after=resume_after,
                max_outstanding_batches=MAX_OUTSTANDING_BATCHES,
                max_outstanding_bytes=MAX_OUTSTANDING_BYTES,
            )
        )
        session = _Session(dialect, producer_id, resume_after)
        reader = asyncio.create_task(session.read(requests))
        try:
            async for response in session.settle():
                yield response
            await reader
        finally:
            if not reader.cancel():
                _heed(reader)
            session.cancel()
    finally:
        dialect.ended(producer_id)


async def _open(requests: AsyncIterator[bytes], dialect: StreamDialect) -> tuple[str, int]:
    async for payload in requests:
        request = _parse(payload, dialect)
        if request.WhichOneof("message") != "open":
            break
        producer_id = str(request.open.producer_id)
        if not 1 <= len(producer_id) <= MAX_ID_LENGTH:
            raise InvalidArgumentError(f"open.producer_id must have 1 to {MAX_ID_LENGTH} characters.")
        known = int(request.open.settled_through) if request.open.HasField("settled_through") else None
        if known is not None and known < 0:
            raise InvalidArgumentError("open.settled_through must be 0 or more.")
        return producer_id, await dialect.resume_after(producer_id, known)
    raise InvalidArgumentError("The first message of the stream must be `open`.")


def _parse(payload: bytes, dialect: StreamDialect) -> Any:
    try:
        return dialect.request.FromString(payload)
    except DecodeError as error:
        raise InvalidArgumentError("A message of the stream is malformed.", reason="MALFORMED_REQUEST") from error


class _Session:
    def __init__(self, dialect: StreamDialect, producer_id: str, settled: int) -> None:
        self._dialect = dialect
        self._producer_id = producer_id
        self._settled = settled
        self._queue: asyncio.Queue[_Outstanding | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Receipt]] = set()
        self._bytes = 0
        self._room = asyncio.Condition()
        self._throttled_from: int | None = None
        self._newest = settled
        # Grows with each throttle: what was begun before it is not settled by its own outcome.
        self._attempt = 0

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        """Starts a publish for each batch, within the limits."""
        try:
            async for payload in requests:
                sequence = batch_sequence(payload)
                if sequence is None:
                    raise InvalidArgumentError("`open` may be sent only once; then send `batch`.")
                if sequence < 1:
                    raise InvalidArgumentError("batch.sequence must be 1 or more.")
                if self._throttled_from is not None and sequence > self._throttled_from:
                    continue
                self._throttled_from = None
                if sequence <= self._newest and sequence > self._settled:
                    raise InvalidArgumentError(
                        f"batch.sequence {sequence} was sent already on this stream; after {self._newest} "
                        f"{self._newest + 1} follows."
                    )
                await self._start(sequence, payload)
        finally:
            await self._queue.put(None)

    async def _start(self, sequence: int, payload: bytes) -> None:
        async with self._room:
            await self._room.wait_for(
                lambda: (
                    len(self._tasks) < MAX_OUTSTANDING_BATCHES
                    and (not self._tasks or self._bytes + len(payload) <= MAX_OUTSTANDING_BYTES)
                )
            )
        if self._throttled_from is not None:
            return
        self._newest = max(self._newest, sequence)
        task = asyncio.create_task(self._dialect.ingest(payload, self._producer_id, sequence))
        self._tasks.add(task)
        self._bytes += len(payload)
        await self._queue.put(_Outstanding(sequence, len(payload), self._attempt, task))

    async def settle(self) -> AsyncIterator[Any]:
        """Gives the responses, in the order of the batches."""
        ended = False
        while not ended:
            outstanding = await self._queue.get()
            acked = 0
            while outstanding is not None:
                responses, settled = await self._outcome(outstanding)
                # One that was sent twice comes after later ones.
                acked = max(acked, outstanding.sequence) if settled else acked
                for response in responses:
                    yield response
                if self._queue.empty():
                    break
                outstanding = self._queue.get_nowait()
            ended = outstanding is None
            if acked:
                self._settled = max(self._settled, acked)
                yield self._dialect.response(ack=ingest_pb2.StreamAck(through_sequence=self._settled))

    async def _outcome(self, outstanding: _Outstanding) -> tuple[list[Any], bool]:
        # Not awaited itself: a stream that is cut off lets go of all its batches in one step, so that no later one goes
        # on without an earlier.
        if not outstanding.outcome.done():
            await asyncio.wait([outstanding.outcome])
        try:
            return self._told(outstanding)
        finally:
            await self._release(outstanding)

    def _told(self, outstanding: _Outstanding) -> tuple[list[Any], bool]:
        """What is answered to a batch whose outcome is known, and whether it is settled."""
        sequence, outcome = outstanding.sequence, outstanding.outcome
        if outstanding.attempt != self._attempt:
            # It may have been taken although an earlier one was not; sent again, it is recognized.
            _heed(outcome)
            return [], False
        # Not raised here: it would hold its task by this frame, and by that the batch, until Python looks for what has
        # gone.
        error = None if outcome.cancelled() else outcome.exception()
        if isinstance(error, ResourceExhaustedError):
            self._attempt += 1
            self._throttled_from = sequence
            self._newest = sequence - 1
            throttle = ingest_pb2.StreamThrottle(
                retry_delay=to_duration(int((error.retry_after or 1.0) * 1e9)), from_sequence=sequence
            )
            return [self._dialect.response(throttle=throttle)], False
        if isinstance(error, InvalidArgumentError):
            self._dialect.settle(self._producer_id, sequence)
            status = to_status(error, self._dialect.domain)
            rejection = ingest_pb2.StreamRejection(sequence=sequence, status=status)
            return [self._dialect.response(rejection=rejection)], True
        receipt = outcome.result()
        if receipt.accepted_count == 0:
            self._dialect.settle(self._producer_id, sequence)
        if not receipt.rejected:
            return [], True
        rejection = ingest_pb2.StreamRejection(sequence=sequence, items=rejections(receipt, self._dialect.domain))
        return [self._dialect.response(rejection=rejection)], True

    async def _release(self, outstanding: _Outstanding) -> None:
        if outstanding.outcome in self._tasks:
            self._tasks.discard(outstanding.outcome)
            self._bytes -= outstanding.size
            async with self._room:
                self._room.notify_all()

    def cancel(self) -> None:
        """Lets go of publishes that nobody waits for."""
        for task in self._tasks:
            if not task.cancel():
                _heed(task)


def _heed(ended: asyncio.Task[Any]) -> None:
    """Marks a failure as seen that nobody is told: the stream has ended, or an earlier one is told."""
    ended.cancelled() or ended.exception()


def rejections(receipt: Receipt, domain: str) -> list[ingest_pb2.Rejection]:
    """The refused items of a batch, the first worded in full, the others by their reason: answers stay small."""
    return [
        ingest_pb2.Rejection(
            index=index,
            status=item_status(violation, domain)
            if place < _WORDED_REJECTIONS
            else status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=violation.reason),
        )
        for place, (index, violation) in enumerate(receipt.rejected.items())
    ]


def batch_sequence(payload: bytes) -> int | None:
    """Reads `batch.sequence` of a stream message without parsing the items; None if it has no `batch`.

    Field 2 of the message is the batch, and its field 1 the sequence, in every signal. A batch that does not
    begin with its sequence, as canonical encoders write it, has the sequence found by a scan over its fields.
    """
    tag, at = _varint(payload, 0)
    if tag != (2 << 3 | 2):
        return None
    size, at = _varint(payload, at)
    end, sequence = min(at + size, len(payload)), 0
    while at < end:
        tag, at = _varint(payload, at)
        match tag & 7:
            case 0:
                value, at = _varint(payload, at)
                if tag >> 3 == 1:
                    return value if value < 2**63 else value - 2**64
            case 1:
                at += 8
            case 2:
                size, at = _varint(payload, at)
                at += size
            case 5:
                at += 4
            case _:
                raise InvalidArgumentError("A message of the stream is malformed.", reason="MALFORMED_REQUEST")
    return sequence


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(payload) and shift < 70:
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise InvalidArgumentError("A message of the stream is malformed.", reason="MALFORMED_REQUEST")
