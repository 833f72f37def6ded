"""Kafka's consuming side: joins batches into inserts, records their boundaries, commits.

The boundary of an insert is committed, as the metadata of its first offset, before the insert is handed out: whoever
has the partition next repeats exactly that insert, with the same token. A partition that went to another worker takes
its insert with it: the broker refuses commits of an earlier generation, and what this worker still writes, the store
knows by its token.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import structlog

from services.shared.bus.adapters import kafka_boundary
from services.shared.bus.adapters.kafka_client import closed
from services.shared.bus.adapters.kafka_dead_letters import DeadLetter, DeadLetterWriter
from services.shared.bus.adapters.kafka_membership import Membership
from services.shared.bus.adapters.kafka_offsets import GroupOffsets, SupersededError
from services.shared.bus.adapters.kafka_partition import Partition, Record
from services.shared.bus.adapters.kafka_reader import Reader
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import (
    Batch,
    ColumnsT,
    Header,
    Insert,
    InsertLimits,
    Position,
    partition_of,
    place,
)
from services.shared.errors import FailedPreconditionError, UnavailableError

logger = structlog.get_logger(__name__)

# While nothing is ready and nothing arrives: how often it is looked whether the partition is still there.
_LOOK_SECONDS = 1.0


class _LostError(Exception):
    """The partition went to another worker."""


@dataclass(frozen=True, slots=True)
class _UnderWay(Generic[ColumnsT]):
    insert: Insert[ColumnsT]
    partition: Partition
    last: int
    records: dict[Position, Record]


class KafkaConsumer(Generic[ColumnsT]):
    """Hands out one insert after the other, to one worker. Opened once, closed once.

    Args:
        config: Where Kafka is.
        signal: "metrics".
        offsets: Reads and writes what is committed.
        decode: Turns a header and wire bytes into columns.
        limits: When batches become an insert.
        committed: Told of each commit: partition and the first offset that is not stored.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: KafkaConfig,
        signal: str,
        offsets: GroupOffsets,
        decode: Callable[[Header, bytes], ColumnsT],
        limits: InsertLimits,
        committed: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = config.topic(signal)
        self._offsets = offsets
        self._decode = decode
        self._committed = committed
        self._clock = clock
        self._news = asyncio.Event()
        self._reader = Reader(config, signal, offsets, limits, self._news.set, clock)
        self._membership = Membership(config, signal, self._change)
        self._dead_letters = DeadLetterWriter(config, config.dead_letter_topic(signal))
        self._turn = asyncio.Lock()
        self._closing = False
        self._served = 0
        self._under_way: _UnderWay[ColumnsT] | None = None
        self._newest: dict[int, int] = {}

    def start(self) -> None:
        """Joins the group and begins to read."""
        self._reader.start()
        self._membership.start()

    async def close(self) -> None:
        """Wakes who waits, and leaves the group."""
        self._closing = True
        self._news.set()
        await self._membership.close()
        await self._reader.close()
        await self._dead_letters.close()

    async def next_insert(self) -> Insert[ColumnsT]:
        """See `port.Consumer.next_insert`."""
        async with self._turn:
            while True:
                self._refuse_unless_open()
                if self._under_way is not None:
                    if not self._under_way.partition.is_lost:
                        return self._under_way.insert
                    self._under_way = None
                partition = await self._next_ready()
                try:
                    await self._begin(partition)
                except _LostError:
                    continue

    async def commit(self, insert: Insert[ColumnsT]) -> None:
        """See `port.Consumer.commit`. A repetition changes nothing, and neither does that of an insert whose
        partition went to another worker, who repeats it.

        Raises:
            FailedPreconditionError: It is not the insert under way.
            UnavailableError: It is not known whether it is committed; the insert is still under way.
        """
        self._refuse_unless_open()
        under_way = self._under_way
        if under_way is None or under_way.insert.token != insert.token:
            if insert.last <= self._newest.get(partition_of(insert.last), -1):
                return
            raise FailedPreconditionError(f"Insert {insert.token} is not under way: commit what next_insert returned.")
        try:
            await self._store(under_way.partition, under_way.last)
        except _LostError:
            logger.warning("insert_fenced", token=insert.token)
        self._newest[under_way.partition.number] = int(insert.last)
        if self._under_way is under_way:
            self._under_way = None

    async def set_aside(self, position: Position, batch: Batch[ColumnsT], error: Exception) -> None:
        """See `port.Consumer.set_aside`."""
        under_way = self._under_way
        record = under_way.records.get(position) if under_way is not None else None
        if under_way is None or record is None:
            raise FailedPreconditionError(f"Batch {position} is not under way.")
        await self._bury(under_way.partition, record, str(error) or type(error).__name__)

    def check(self) -> None:
        """Raises `UnavailableError` if this worker is not a member of its group, or cannot read what is there."""
        if self._membership.member.generation < 0:
            raise UnavailableError("This worker is not in its group yet, or not any more: it joins by itself.")
        if fault := self._reader.fault:
            raise UnavailableError(f"Batches of {self._topic} cannot be read: {fault}.")

    @property
    def lag(self) -> int:
        """Batches of this worker's partitions that are not committed."""
        return self._reader.lag

    @property
    def buffered_bytes(self) -> int:
        """Payload bytes that were read and are not committed."""
        return self._reader.buffered_bytes

    @property
    def dead_letters(self) -> int:
        """Batches that this worker could not read."""
        return self._dead_letters.count

    @property
    def owned(self) -> frozenset[int]:
        """This worker's partitions."""
        return self._membership.owned

    def _change(self, came: frozenset[int], went: frozenset[int]) -> None:
        self._reader.change(came, went)
        self._news.set()

    async def _next_ready(self) -> Partition:
        while True:
            self._refuse_unless_open()
            self._news.clear()
            now = self._clock()
            ready, soonest = [], now + _LOOK_SECONDS
            for partition in self._reader.partitions.values():
                at = partition.ready_at()
                if at is not None and at <= now:
                    ready.append(partition)
                elif at is not None:
                    soonest = min(soonest, at)
            if ready:
                # Each in its turn, so that a busy one does not keep the others waiting.
                return min(ready, key=lambda each: each.served)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(soonest - now):
                    await self._news.wait()

    async def _begin(self, partition: Partition) -> None:
        last = partition.last()
        is_repeated = partition.boundary is not None
        if partition.boundary is None:
            await self._record(partition, partition.first, last)
            partition.boundary = last
        self._served += 1
        partition.served = self._served
        records = partition.records(last)
        batches: list[tuple[Position, Batch[ColumnsT]]] = []
        by_position = {}
        for record in records:
            if record.header is None:
                await self._bury(partition, record, record.fault)
                continue
            position = place(partition.number, record.offset + 1)
            batches.append((position, Batch(record.header, record.payload, self._decode)))
            by_position[position] = record
        if partition.is_lost:
            raise _LostError
        if not batches:
            await self._store(partition, last)
            return
        token = f"{self._topic}:{partition.number}:{partition.first}-{last}"
        insert = Insert(token, place(partition.number, last + 1), tuple(batches), is_repeated)
        self._under_way = _UnderWay(insert, partition, last, by_position)

    async def _store(self, partition: Partition, last: int) -> None:
        await self._record(partition, last + 1, None)
        partition.commit(last)
        self._committed(partition.number, last + 1)
        self._news.set()

    async def _record(self, partition: Partition, offset: int, last: int | None) -> None:
        while True:
            # Who commits and whether the partition is still here are looked at together, without a wait in between.
            member = self._membership.member
            if partition.is_lost:
                raise _LostError
            self._refuse_unless_open()
            try:
                await self._offsets.commit(member, partition.number, offset, kafka_boundary.encode(last))
            except SupersededError:
                # The group changes: it says whether the partition stays.
                await self._membership.wait_news(member)
            else:
                return

    async def _bury(self, partition: Partition, record: Record, reason: str) -> None:
        await self._dead_letters.write(
            DeadLetter(self._topic, partition.number, record.offset, record.key, record.headers, record.payload, reason)
        )

    def _refuse_unless_open(self) -> None:
        if self._closing:
            raise closed()
