"""One partition as its worker sees it: what was read ahead, and where the next insert ends. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from services.shared.bus.adapters.kafka_headers import Headers, size_of
from services.shared.bus.port import Header, InsertLimits

# Measured: what the objects of a record, of each of its headers and of each index in them take beside their bytes.
_RECORD_BYTES = 512
_HEADER_BYTES = 160
_INDEX_BYTES = 40


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the topic.

    Attributes:
        offset: Its place in the partition.
        key: Its key.
        headers: Its headers as they are.
        payload: Its value.
        header: What the headers say; None if they cannot be read.
        fault: Then why.
        arrived: Monotonic seconds.
    """

    offset: int
    key: bytes | None
    headers: Headers
    payload: bytes
    header: Header | None
    fault: str
    arrived: float

    @property
    def items(self) -> int:
        """What counts against the limits of an insert."""
        return self.header.item_count if self.header is not None else 0

    @property
    def memory(self) -> int:
        """About the bytes that it takes while it waits: of a small one, many times its payload."""
        indices = len(self.header.rejected) if self.header is not None else 0
        objects = _RECORD_BYTES + _HEADER_BYTES * len(self.headers) + _INDEX_BYTES * indices
        return len(self.payload) + len(self.key or b"") + size_of(self.headers) + objects


class Partition:
    """What is read and not committed of a partition that is this worker's.

    Args:
        number: Which one.
        first: The first offset that is not stored.
        boundary: The last offset of an insert that was begun; None if none was.
        limits: When records become an insert.

    Attributes:
        first: Where the next insert, or the one under way, begins.
        boundary: Where it ends, once that is recorded.
        next_offset: The offset to read next.
        buffered_bytes: Payload bytes that wait here.
        memory: About the bytes that they take here with all that belongs to them.
        is_lost: Whether the partition went to another worker: nothing may be committed any more.
        served: When it last gave an insert; grows.
    """

    def __init__(self, number: int, first: int, boundary: int | None, limits: InsertLimits) -> None:
        self.number = number
        self.first = self.next_offset = first
        self.boundary = boundary
        self.buffered_bytes = self.memory = 0
        self.is_lost = False
        self.served = 0
        self._limits = limits
        self._records: deque[Record] = deque()
        self._joined = self._items = self._bytes = 0
        self._is_complete = False

    def offer(self, record: Record) -> None:
        """Takes what was read; records come in order, and offsets may have gaps."""
        if record.offset < self.next_offset:
            return
        self._records.append(record)
        self.next_offset = record.offset + 1
        self.buffered_bytes += len(record.payload)
        self.memory += record.memory
        self._join()

    def pass_over(self, offset: int) -> None:
        """Goes on at an offset: what was before it is not kept any more."""
        if offset > self.next_offset:
            self.next_offset = offset
            if not self._records and self.boundary is None:
                self.first = offset

    def is_whole(self) -> bool:
        """Whether more records would not change the next insert."""
        if self.boundary is not None:
            return self.next_offset > self.boundary
        return self._is_complete

    def may_wait(self, has_share: bool, is_full: bool) -> bool:
        """Whether it need not be read on now.

        Never within an insert that is to be repeated: it is there once all of it is read. Any other becomes ready as
        it is when its time has come.

        Args:
            has_share: Whether it has read as much as is meant for one partition.
            is_full: Whether all partitions together have read as much as may wait.
        """
        return (has_share and self.is_whole()) or (is_full and (self.boundary is None or self.is_whole()))

    def ready_at(self) -> float | None:
        """When its next insert is ready, in monotonic seconds: 0 if it is; None if more must be read first."""
        if self.is_whole():
            return 0.0
        if self.boundary is not None or not self._records:
            return None
        return self._records[0].arrived + self._limits.max_age

    def last(self) -> int:
        """The last offset of the next insert, which is ready."""
        if self.boundary is not None:
            return self.boundary
        return self._records[self._joined - 1].offset

    def records(self, last: int) -> list[Record]:
        """The records of the insert that ends with an offset."""
        return [record for record in self._records if record.offset <= last]

    def commit(self, last: int) -> None:
        """Lets go of what is stored."""
        while self._records and self._records[0].offset <= last:
            record = self._records.popleft()
            self.buffered_bytes -= len(record.payload)
            self.memory -= record.memory
        self.first = last + 1
        self.next_offset = max(self.next_offset, self.first)
        self.boundary = None
        self._joined = self._items = self._bytes = 0
        self._is_complete = False
        self._join()

    def _join(self) -> None:
        limits = self._limits
        for record in self._unjoined():
            items, size = self._items + record.items, self._bytes + len(record.payload)
            is_full = items > limits.max_items or size > limits.max_bytes or self._joined >= limits.max_batches
            if self._joined and is_full:
                self._is_complete = True
                return
            self._joined, self._items, self._bytes = self._joined + 1, items, size
        self._is_complete = self._is_complete or (
            self._joined >= limits.max_batches
            or (self._joined > 0 and (self._items >= limits.max_items or self._bytes >= limits.max_bytes))
        )

    def _unjoined(self) -> Iterator[Record]:
        for place in range(0 if self._is_complete else len(self._records) - self._joined, 0, -1):
            yield self._records[-place]
