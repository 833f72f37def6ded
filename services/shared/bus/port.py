"""What a bus promises. Read by `ingest.py` (Publisher) and `worker.py` (Consumer) of every signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NewType, Protocol, TypeVar

ColumnsT = TypeVar("ColumnsT")

Position = NewType("Position", int)
"""Where a batch stands in the order of ingest: 1 or more, growing within its partition.

The partition is in the bits above `PARTITION_SHIFT`; what has one order has one partition, 0.
"""

PARTITION_SHIFT = 38
MAX_PARTITIONS = 128
"""Together 45 bits: a store may number the items of a batch in the 18 below them and stay positive in 64."""


def place(partition: int, number: int) -> Position:
    """The position of a partition's batch; its batches are numbered from 1 on."""
    return Position(partition << PARTITION_SHIFT | number)


def partition_of(position: Position) -> int:
    """Which partition a position is in."""
    return position >> PARTITION_SHIFT


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a batch beside its bytes.

    Attributes:
        tenant: Whose data it is.
        message_type: Full protobuf name of the payload's message.
        received_at: Nanoseconds since 1970 at which the service took it; replay takes this as now.
        item_count: Accepted items in the payload.
        request_id: The sender's id of a unary request; empty if it gave none.
        producer_id: The sender's name over its streams; empty for a unary request.
        sequence: The batch's number within the producer; 0 for a unary request.
        rejected: Ascending indices of payload items that were refused and must not be stored.
    """

    tenant: str
    message_type: str
    received_at: int
    item_count: int
    request_id: str = ""
    producer_id: str = ""
    sequence: int = 0
    rejected: tuple[int, ...] = ()


class Batch(Generic[ColumnsT]):
    """Accepted items: their wire bytes and, computed once when asked, their columns.

    A batch that is published carries the columns that the check has computed already; one that is replayed
    decodes them from its bytes.
    """

    __slots__ = ("_columns", "_decode", "header", "payload")

    def __init__(
        self,
        header: Header,
        payload: bytes,
        decode: Callable[[Header, bytes], ColumnsT],
        columns: ColumnsT | None = None,
    ) -> None:
        self.header = header
        self.payload = payload
        self._decode = decode
        self._columns = columns

    @property
    def is_decoded(self) -> bool:
        """Whether it has its columns."""
        return self._columns is not None

    def give(self, columns: ColumnsT) -> None:
        """Takes its columns from somebody who decoded it together with others."""
        self._columns = columns

    @property
    def columns(self) -> ColumnsT:
        """The accepted items as columns."""
        if self._columns is None:
            self._columns = self._decode(self.header, self.payload)
        return self._columns


@dataclass(frozen=True, slots=True)
class Insert(Generic[ColumnsT]):
    """Consecutive batches that go to the store as one.

    Attributes:
        token: The same for the same batches, also after a crash: the store's deduplication token.
        last: The position of the last batch.
        batches: The batches in order, with their positions.
        is_repeated: Whether a worker before this one, or before a restart, may have begun to store it.
    """

    token: str
    last: Position
    batches: Sequence[tuple[Position, Batch[ColumnsT]]]
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class InsertLimits:
    """When batches that have arrived become an insert: whatever is reached first.

    Attributes:
        max_items: Items, summed over `Header.item_count`.
        max_bytes: Bytes of payload.
        max_age: Seconds that the oldest waits for others.
        max_batches: Batches: each takes some 35 KB in columns, however small it is.
        interval: Seconds from the beginning of one insert to that of the next, unless somebody waits for it: an insert
            costs the store tens of milliseconds of CPU, however little is in it. The journal's only.
    """

    max_items: int = 100_000
    max_bytes: int = 32 * 1024 * 1024
    max_age: float = 0.05
    max_batches: int = 4_000
    interval: float = 0.4


class Publisher(Protocol[ColumnsT]):
    """Takes batches."""

    async def publish(self, batch: Batch[ColumnsT]) -> Position:
        """Returns when the batch would survive a power cut.

        Raises:
            ResourceExhaustedError: The bus is full (BACKLOG_FULL) or the disk is (DISK_FULL); the batch was
                not taken, and `retry_after` is set.
            UnavailableError: The bus is closed, or it is not known whether the batch was taken.
        """
        ...

    def check_room(self, size: int) -> None:
        """Raises what `publish` would raise now for any batch of so many bytes, or more.

        To be asked before a batch is decoded, which costs more than all else.
        """
        ...

    def note_settled(self, tenant: str, producer_id: str, sequence: int) -> None:
        """Says that a producer's batches up to a sequence are settled, wherever they were published.

        A bus that lets no batch overtake a refused one need not wait for the repetition of these.
        """
        ...


class Consumer(Protocol[ColumnsT]):
    """Hands batches on in the order of their positions, to one worker."""

    async def next_insert(self) -> Insert[ColumnsT]:
        """Waits for batches and joins them.

        The boundaries of the insert are durable before this returns: after a crash the same batches come
        again as the same inserts with the same tokens. One insert is under way at a time: until `commit` is
        called this gives the same one, unless another worker took it over; then it gives the next of what is this
        worker's. Cancellation is safe: nothing is lost, the insert is handed out again.
        """
        ...

    async def commit(self, insert: Insert[ColumnsT]) -> None:
        """Says that the store has the insert: it is not handed out again.

        An insert that another worker took over meanwhile is not this one's to commit: then nothing happens.
        """
        ...

    async def set_aside(self, position: Position, batch: Batch[ColumnsT], error: Exception) -> None:
        """Takes a batch of the insert under way that cannot be read, so that the insert is committed without it.

        Returns when the batch is kept where an operator finds it, or, where a bus has no such place, has been logged.

        Raises:
            UnavailableError: It is not known whether it is kept.
            Exception: The error itself, if only another program can be at fault and the bus has no place for the
                batch: then the worker must stop.
        """
        ...


class Progress(Protocol):
    """Says what the store has."""

    async def committed(self) -> tuple[Position, ...]:
        """For each partition the last committed position; number 0 if nothing is.

        Raises:
            UnavailableError: It cannot be told now.
        """
        ...

    async def wait_committed(self, position: Position) -> None:
        """Returns when everything of the position's partition up to it is committed."""
        ...

    async def wait_progress(self, seen: tuple[Position, ...]) -> None:
        """Returns when something behind `seen`, which `committed` gave, is committed."""
        ...

    async def wait_settled(self, header: Header) -> None:
        """Returns when everything that its sender had acknowledged before this call is committed.

        So is what was published here of its stream and got no answer, if it was taken.
        """
        ...


class Bus(Publisher[ColumnsT], Consumer[ColumnsT], Progress, Protocol[ColumnsT]):
    """All sides, and the bus's own life."""

    async def open(self) -> None:
        """Recovers what is there. Raises `UnavailableError` if it cannot be used."""
        ...

    async def check(self) -> None:
        """Raises `UnavailableError` with the reason if batches cannot be published now."""
        ...

    async def close(self) -> None:
        """Refuses new batches, finishes those under way, and lets go of files and connections."""
        ...

    def uncommitted(self) -> Sequence[tuple[Position, Header]]:
        """After `open`: the headers of batches that are durable but not committed, in order.

        Empty if several processes share the bus: then the worker drops what the store knows.
        """
        ...
