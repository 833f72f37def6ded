"""The bus that several processes share: a topic of Kafka for each signal.

The data path: `kafka_publisher` writes records (headers by `kafka_headers`); `kafka_membership` says which partitions
are this worker's, `kafka_reader` reads them ahead into `kafka_partition`s, `kafka_consumer` makes inserts of them,
whose boundaries and commits go to the group's offsets (`kafka_offsets`); `kafka_progress` tells processes that only
serve what is stored. What cannot be read goes to `kafka_dead_letters`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Generic, Literal

from services.shared.bus.adapters.kafka_client import closed
from services.shared.bus.adapters.kafka_consumer import KafkaConsumer
from services.shared.bus.adapters.kafka_offsets import GroupOffsets
from services.shared.bus.adapters.kafka_progress import GroupProgress
from services.shared.bus.adapters.kafka_publisher import KafkaPublisher
from services.shared.bus.adapters.kafka_topics import ensure_topics
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Batch, ColumnsT, Header, Insert, InsertLimits, Position, place


class KafkaBus(Generic[ColumnsT]):
    """Implements `port.Bus`. Opened once, closed once; an `open` that failed may be repeated.

    Args:
        config: Where Kafka is.
        signal: "metrics": names the topic and the group.
        decode: Turns a header and wire bytes into columns.
        role: Which sides this process uses: "serve" publishes, "work" consumes.
        limits: When batches become an insert.
        trace_context: The W3C trace context of what is done now; empty if there is none.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: KafkaConfig,
        signal: str,
        decode: Callable[[Header, bytes], ColumnsT],
        *,
        role: Literal["all", "serve", "work"] = "all",
        limits: InsertLimits | None = None,
        trace_context: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._signal = signal
        self._decode = decode
        self._role = role
        self._limits = limits or InsertLimits()
        self._trace_context = trace_context
        self._clock = clock
        self._offsets = GroupOffsets(config, signal)
        self._progress = GroupProgress(self._offsets, clock)
        self._publisher: KafkaPublisher[ColumnsT] | None = None
        self._consumer: KafkaConsumer[ColumnsT] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Makes the topics where they are missing, and connects.

        Raises:
            UnavailableError: Kafka does not answer, or its topics cannot be used.
        """
        await ensure_topics(self._config, self._signal)
        try:
            await self._offsets.open()
            if self._role != "work":
                publisher: KafkaPublisher[ColumnsT] = KafkaPublisher(
                    self._config, self._signal, self._offsets, self._trace_context
                )
                await publisher.open()
                self._publisher = publisher
        except BaseException:
            await self._offsets.close()
            raise
        if self._role != "serve":
            self._consumer = KafkaConsumer(
                self._config,
                self._signal,
                self._offsets,
                self._decode,
                self._limits,
                self._progress.note,
                self._clock,
            )
            self._consumer.start()

    async def close(self) -> None:
        """Refuses new batches, waits for the outcome of those under way, and leaves the group."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._publisher is not None:
            await self._publisher.close()
        await self._progress.close()
        if self._consumer is not None:
            await self._consumer.close()
        await self._offsets.close()

    async def check(self) -> None:
        """Raises `UnavailableError` with the reason if batches cannot be published or read now."""
        if self._is_closed:
            raise closed()
        await self._offsets.check()
        if self._consumer is not None:
            self._consumer.check()

    async def publish(self, batch: Batch[ColumnsT]) -> Position:
        """See `port.Publisher.publish`. With the role "work", refused as by a bus that is closed."""
        if self._publisher is None:
            raise closed()
        return await self._publisher.publish(batch)

    def check_room(self, size: int) -> None:
        """See `port.Publisher.check_room`."""
        if self._publisher is None:
            raise closed()
        self._publisher.check_room(size)

    def note_settled(self, tenant: str, producer_id: str, sequence: int) -> None:
        """See `port.Publisher.note_settled`."""
        if self._publisher is not None:
            self._publisher.note_settled(tenant, producer_id, sequence)

    async def next_insert(self) -> Insert[ColumnsT]:
        """See `port.Consumer.next_insert`."""
        return await self._consuming().next_insert()

    async def commit(self, insert: Insert[ColumnsT]) -> None:
        """See `port.Consumer.commit`."""
        await self._consuming().commit(insert)

    async def set_aside(self, position: Position, batch: Batch[ColumnsT], error: Exception) -> None:
        """See `port.Consumer.set_aside`: into the topic of dead letters."""
        await self._consuming().set_aside(position, batch, error)

    async def committed(self) -> tuple[Position, ...]:
        """See `port.Progress.committed`."""
        return await self._progress.committed()

    async def wait_committed(self, position: Position) -> None:
        """See `port.Progress.wait_committed`."""
        await self._progress.wait_committed(position)

    async def wait_progress(self, seen: tuple[Position, ...]) -> None:
        """See `port.Progress.wait_progress`."""
        await self._progress.wait_progress(seen)

    async def wait_settled(self, header: Header) -> None:
        """See `port.Progress.wait_settled`: waits for what its partition holds once nothing is under way to it.

        Raises:
            UnavailableError: It cannot be told now.
        """
        if self._publisher is None:
            raise closed()
        await self._publisher.wait_known(header)
        partition = self._publisher.partition_of(header)
        numbers = range(self._offsets.partitions) if partition is None else [partition]
        ends, beginnings = await self._offsets.ends(numbers), await self._offsets.beginnings(numbers)
        for number, end in ends.items():
            # Where nothing is kept any more, nothing is left to commit.
            if end > beginnings[number]:
                await self._progress.wait_committed(place(number, end))

    def uncommitted(self) -> Sequence[tuple[Position, Header]]:
        """Nothing: several processes publish, and the worker drops what the store knows."""
        return ()

    @property
    def lag(self) -> int:
        """Batches of this worker's partitions that are not committed; 0 for a process that does not work."""
        return self._consumer.lag if self._consumer is not None else 0

    @property
    def buffered_bytes(self) -> int:
        """Payload bytes that this worker has read ahead."""
        return self._consumer.buffered_bytes if self._consumer is not None else 0

    @property
    def in_flight_bytes(self) -> int:
        """Published bytes without an answer."""
        return self._publisher.in_flight_bytes if self._publisher is not None else 0

    @property
    def dead_letters(self) -> int:
        """Batches that this worker could not read."""
        return self._consumer.dead_letters if self._consumer is not None else 0

    @property
    def owned(self) -> frozenset[int]:
        """This worker's partitions."""
        return self._consumer.owned if self._consumer is not None else frozenset()

    def _consuming(self) -> KafkaConsumer[ColumnsT]:
        if self._consumer is None:
            raise closed()
        return self._consumer
