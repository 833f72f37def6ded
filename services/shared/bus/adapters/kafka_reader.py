"""Reads a worker's partitions ahead, within bounds, from wherever each of them stands.

The group is not aiokafka's business here (see `kafka_membership`): its consumer only fetches what it is told to.
Records that were read stay when partitions come and go; only what went is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from services.shared.bus.adapters import kafka_boundary, kafka_headers
from services.shared.bus.adapters.kafka_client import FAILURES, describe, options, stop
from services.shared.bus.adapters.kafka_offsets import Committed, GroupOffsets
from services.shared.bus.adapters.kafka_partition import Partition, Record
from services.shared.bus.adapters.kafka_topics import MAX_MESSAGE_BYTES
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import InsertLimits
from services.shared.errors import AirisError

logger = structlog.get_logger(__name__)

_POLL_MS = 200
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
# A partition that could not be read: how long until it is tried again, and how long it counts as unreadable and
# partitions are read one by one; longer, so that it does not count as readable while it is tried.
_RETRY_SECONDS = 5.0
_WARY_SECONDS = 15.0
_PARTITION_FETCH_BYTES = 8 * 1024 * 1024


class Reader:
    """Fills the partitions' buffers while its task runs; comes back from every failure by itself.

    Args:
        config: Where Kafka is.
        signal: "metrics".
        offsets: What is committed.
        limits: When records become an insert.
        arrived: Called when a partition has got records.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: KafkaConfig,
        signal: str,
        offsets: GroupOffsets,
        limits: InsertLimits,
        arrived: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._topic = config.topic(signal)
        self._offsets = offsets
        self._limits = limits
        self._arrived = arrived
        self._clock = clock
        self._wanted: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._paused: set[TopicPartition] = set()
        self._failure = ""
        self._wary_until = float("-inf")
        self._unreadable: dict[int, tuple[float, str]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self.partitions: dict[int, Partition] = {}

    def start(self) -> None:
        """Begins to read."""
        self._task = asyncio.create_task(self._run(), name=f"reader of {self._topic}")

    async def close(self) -> None:
        """Stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    def change(self, came: frozenset[int], went: frozenset[int]) -> None:
        """Takes on partitions and lets go of others, those at once."""
        for number in went:
            if (partition := self.partitions.pop(number, None)) is not None:
                partition.is_lost = True
            self._unreadable.pop(number, None)
        self._wanted = (self._wanted | came) - went
        self._changed.set()

    @property
    def buffered_bytes(self) -> int:
        """Payload bytes that were read and are not committed."""
        return sum(partition.buffered_bytes for partition in self.partitions.values())

    @property
    def fault(self) -> str:
        """What keeps it from reading some or all of the partitions, as it was met last; empty if nothing does."""
        now = self._clock()
        for number, (since, reason) in self._unreadable.items():
            if now - since < _WARY_SECONDS:
                return f"partition {number}: {reason}"
        return self._failure

    @property
    def lag(self) -> int:
        """Batches of this worker's partitions that are not committed, as far as was heard."""
        consumer = self._consumer
        if consumer is None:
            return 0
        behind = 0
        for number, partition in self.partitions.items():
            place = TopicPartition(self._topic, number)
            end = consumer.highwater(place) if place in consumer.assignment() else None
            behind += max(0, (end or partition.next_offset) - partition.first)
        return behind

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                if self._consumer is None:
                    await self._connect()
                if self._changed.is_set():
                    await self._assign()
                if self.partitions:
                    await self._read()
                else:
                    self._failure = ""
                    await self._changed.wait()
                delay = _FIRST_DELAY
                self._failure = ""
            except OffsetOutOfRangeError as error:
                await self._relocate(error)
            except (*FAILURES, AirisError) as error:
                self._failure = describe(error)
                logger.warning("batches_not_read", topic=self._topic, error=self._failure, retry_in=round(delay, 2))
                await self._start_over(delay)
                delay = min(delay * 2, _LONGEST_DELAY)
            except Exception as error:
                # A fault in what reads must not end the work of this process.
                self._failure = describe(error)
                logger.exception("reader_failed", topic=self._topic)
                await self._start_over(_LONGEST_DELAY)

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **options(self._config),
            enable_auto_commit=False,
            auto_offset_reset="none",
            # A larger batch comes all the same, alone: nobody needs to have room for one of each partition.
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            fetch_max_bytes=MAX_MESSAGE_BYTES,
        )
        try:
            await consumer.start()
        except BaseException:
            await stop(consumer, self._config.request_timeout)
            raise
        self._consumer = consumer
        self._changed.set()

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop(consumer, self._config.request_timeout)

    async def _start_over(self, delay: float) -> None:
        await self._disconnect()
        await asyncio.sleep(delay)

    async def _assign(self) -> None:
        self._changed.clear()
        new = self._wanted - self.partitions.keys()
        committed = await self._offsets.committed(new)
        unknown = new - committed.keys()
        beginnings = await self._offsets.beginnings(unknown) if unknown else {}
        if self._changed.is_set():
            # One of them may have been somebody else's meanwhile: what was read of it is out of date.
            return
        for number in new:
            found = committed.get(number)
            first = found.offset if found else beginnings[number]
            boundary = self._boundary(number, found) if found else None
            self.partitions[number] = Partition(number, first, boundary, self._limits)
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - `_run` connects first
        places = {TopicPartition(self._topic, number): its for number, its in self.partitions.items()}
        self._paused.clear()
        if not places:
            consumer.unsubscribe()
            return
        consumer.assign(list(places))
        for place, partition in places.items():
            consumer.seek(place, partition.next_offset)

    def _boundary(self, number: int, found: Committed) -> int | None:
        try:
            return kafka_boundary.decode(found.offset, found.metadata)
        except kafka_boundary.UnknownBoundaryError as error:
            logger.error("boundary_unreadable", topic=self._topic, partition=number, error=str(error))
            return None

    async def _read(self) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - `_run` connects first
        self._hold_back(consumer)
        if self._clock() < self._wary_until:
            await self._read_each(consumer)
            return
        try:
            found = await consumer.getmany(timeout_ms=_POLL_MS)
        except OffsetOutOfRangeError:
            raise
        except Exception:
            # It does not say whose batches they were, and drops what it had of others.
            self._wary_until = self._clock() + _WARY_SECONDS
            raise
        self._take(found)

    async def _read_each(self, consumer: AIOKafkaConsumer) -> None:
        """Reads partitions one by one, so that one that cannot be read does not keep the others waiting."""
        has_news = False
        for place in consumer.assignment():
            try:
                found = await consumer.getmany(place)
            except OffsetOutOfRangeError:
                raise
            except Exception as error:
                now, reason = self._clock(), describe(error)
                self._wary_until = now + _WARY_SECONDS
                self._unreadable[place.partition] = now, reason
                logger.warning(
                    "partition_not_read",
                    topic=self._topic,
                    partition=place.partition,
                    error=reason,
                    retry_in=_RETRY_SECONDS,
                )
            else:
                has_news = bool(found) or has_news
                self._take(found)
        if not has_news:
            await asyncio.sleep(_POLL_MS / 1000)

    def _take(self, found: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]) -> None:
        for place, records in found.items():
            partition = self.partitions.get(place.partition)
            if partition is None:
                continue
            self._unreadable.pop(place.partition, None)
            for record in self._parse(records):
                partition.offer(record)
        if found:
            self._arrived()

    def _hold_back(self, consumer: AIOKafkaConsumer) -> None:
        """Backpressure: a partition that has its share of what may wait is paused, and all that may be once they have
        as much together. So is, for a while, one that cannot be read."""
        limit, now = self._config.max_buffered_bytes, self._clock()
        share = limit // len(self.partitions)
        is_full = sum(partition.memory for partition in self.partitions.values()) >= limit
        for number, partition in self.partitions.items():
            place = TopicPartition(self._topic, number)
            unreadable_since, _ = self._unreadable.get(number, (float("-inf"), ""))
            may_wait = partition.may_wait(partition.memory >= share, is_full)
            if may_wait or now - unreadable_since < _RETRY_SECONDS:
                if place not in self._paused:
                    self._paused.add(place)
                    consumer.pause(place)
            elif place in self._paused:
                self._paused.discard(place)
                # What was fetched before the pause was dropped unread.
                consumer.seek(place, partition.next_offset)
                consumer.resume(place)

    def _parse(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[Record]:
        now = self._clock()
        parsed = []
        for record in records:
            header, fault = None, ""
            try:
                header = kafka_headers.decode(record.headers)
            except kafka_headers.UnreadableError as error:
                fault = str(error)
            value = record.value if record.value is not None else b""
            parsed.append(Record(record.offset, record.key, record.headers, value, header, fault, now))
        return parsed

    async def _relocate(self, error: OffsetOutOfRangeError) -> None:
        """The topic does not have the batches that come next: they were kept for too short a time, or were lost."""
        numbers = {place.partition for place in error.args[0]} & self.partitions.keys()
        try:
            beginnings, ends = await self._offsets.beginnings(numbers), await self._offsets.ends(numbers)
        except AirisError as failure:
            await self._start_over(_FIRST_DELAY)
            logger.warning("batches_not_read", topic=self._topic, error=failure.message)
            return
        for number in numbers & self.partitions.keys():
            partition = self.partitions[number]
            logger.error(
                "batches_lost",
                topic=self._topic,
                partition=number,
                wanted=partition.next_offset,
                oldest=beginnings[number],
                end=ends[number],
            )
            if partition.next_offset < beginnings[number]:
                partition.pass_over(beginnings[number])
            else:
                # Behind the end: the brokers have forgotten what they had acknowledged.
                self.partitions[number] = Partition(number, ends[number], None, self._limits)
                partition.is_lost = True
        self._changed.set()
        self._arrived()
