"""Kafka's publishing side: an idempotent producer, and the order of each sender's batches.

The worker drops a stream's batch whose sequence is not above the highest before it. So a batch must never be taken
when an earlier one of its sender was refused: per partition batches are queued one after the other, and after a
refusal a sender's later batches are refused until that one comes again.

A producer that lost a batch has a gap in its own sequence numbers, which the broker refuses from then on, rightly:
it is replaced once everything that was handed to it has an outcome. The broker sees no gap before the first batch that
it has of a producer in a partition: until that one is taken, no other follows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, Generic

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from services.shared.bus.adapters import kafka_headers
from services.shared.bus.adapters.kafka_client import (
    FAILURES,
    RETRY_SECONDS,
    backlog_full,
    closed,
    describe,
    disconnect,
    options,
    refusal,
    unavailable,
)
from services.shared.bus.adapters.kafka_offsets import GroupOffsets
from services.shared.bus.adapters.kafka_topics import MAX_MESSAGE_BYTES, message_limit
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Batch, ColumnsT, Header, Position, place
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError

logger = structlog.get_logger(__name__)

_BATCH_BYTES = 1024 * 1024
_MOST_SENDERS = 100_000
_RENEW_DELAY = 0.5
# Less than `producer.id.expiration.ms`, a day unless set: brokers forget silent producers.
_KNOWN_SECONDS = 600.0
# Of a record, and a batch of one, beside its headers, key and payload.
_RECORD_BYTES = 256


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key, the same as in Kafka's own clients."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class KafkaPublisher(Generic[ColumnsT]):
    """Takes batches. Opened once, closed once.

    Args:
        config: Where Kafka is.
        signal: "metrics".
        offsets: Knows the partitions.
        trace_context: The W3C trace context of what is done now; empty if there is none.
        event_id: Makes the id of an event.
    """

    def __init__(
        self,
        config: KafkaConfig,
        signal: str,
        offsets: GroupOffsets,
        trace_context: Callable[[], str],
        event_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._config = config
        self._topic = config.topic(signal)
        self._service = f"airis-{signal}"
        self._offsets = offsets
        self._trace_context = trace_context
        self._event_id = event_id
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refused: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._settled: OrderedDict[tuple[str, str], int] = OrderedDict()
        # By sender, what its publisher gave up and Kafka may take yet: no more of them than are in flight.
        self._unknown: dict[tuple[str, str], set[asyncio.Future[Any]]] = {}
        self._producer: AIOKafkaProducer | None = None
        self._known: dict[int, float] = {}
        self._has_producer = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._closing = False
        self._most_bytes = MAX_MESSAGE_BYTES
        self.in_flight_bytes = 0

    async def open(self) -> None:
        """Connects. Raises `UnavailableError` if Kafka does not answer."""
        try:
            async with asyncio.timeout(self._config.request_timeout):
                self._producer = await self._make()
        except FAILURES as error:
            raise unavailable("cannot be reached", error) from error
        self._has_producer.set()

    async def close(self) -> None:
        """Refuses new batches, waits for the outcome of those under way as long as a publish may take, and stops."""
        self._closing = True
        if self._under_way:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.publish_timeout):
                    await self._idle.wait()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer, self._config.request_timeout)

    def check_room(self, size: int) -> None:
        """See `port.Publisher.check_room`."""
        self._check_open()
        if size > self._most_bytes:
            raise InvalidArgumentError(
                f"The batch takes {size} bytes, and Kafka's topic allows {self._most_bytes}: send smaller batches.",
                reason="SIZE_LIMIT_EXCEEDED",
            )
        if self.in_flight_bytes and self.in_flight_bytes + size > self._config.max_in_flight_bytes:
            raise backlog_full()

    async def publish(self, batch: Batch[ColumnsT]) -> Position:
        """See `port.Publisher.publish`. Cancelled before it is handed to the producer, the batch is not taken."""
        self._check_open()
        header = batch.header
        sender = _sender_of(header)
        self._refuse_overtaking(sender, header)
        if sender is not None and self._refused.get(sender) == header.sequence:
            # Those behind it may follow, as long as it is not refused again.
            del self._refused[sender]
        self._under_way += 1
        try:
            position = await self._publish(batch, sender)
        except InvalidArgumentError:
            # For good: the sender goes on behind it.
            raise
        except BaseException:
            if sender is not None:
                self._note_refusal(sender, header.sequence)
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        return position

    def _check_open(self) -> None:
        if self._closing or not (self._producer or self._renewing):
            raise closed()

    def note_settled(self, tenant: str, producer_id: str, sequence: int) -> None:
        """See `port.Publisher.note_settled`."""
        sender = (tenant, producer_id)
        # Also for what fails later on: its outcome may not be known yet.
        _remember(self._settled, sender, sequence)
        if self._refused.get(sender, sequence + 1) <= sequence:
            del self._refused[sender]

    async def wait_known(self, header: Header) -> None:
        """Returns when it is known what became of each batch of a stream that has ended.

        Kafka may take a batch long after its publisher has given up: as long as a partition has too few replicas, it is
        sent again and again.
        """
        sender = _sender_of(header)
        if sender is not None and (unknown := self._unknown.get(sender)):
            await asyncio.wait(set(unknown))

    def partition_of(self, header: Header) -> int | None:
        """Where a sender's batches are; None if they may be anywhere."""
        key = kafka_headers.key_of(header)
        return partition_for(key, self._partitions()) if key is not None else None

    def _partitions(self) -> int:
        count = self._offsets.partitions
        if not count:
            raise UnavailableError(f"Kafka does not have the topic {self._topic} any more.", retry_after=RETRY_SECONDS)
        return count

    async def _publish(self, batch: Batch[ColumnsT], sender: tuple[str, str] | None) -> Position:
        headers = kafka_headers.encode(batch.header, self._service, self._event_id(), self._trace_context())
        key = kafka_headers.key_of(batch.header)
        size = len(batch.payload) + kafka_headers.size_of(headers) + len(key or b"") + _RECORD_BYTES
        self.check_room(size)
        partitions = self._partitions()
        partition = partition_for(key, partitions) if key is not None else random.randrange(partitions)  # noqa: S311
        sent = _Sent(self, size)
        try:
            async with asyncio.timeout(self._config.publish_timeout):
                async with self._turns[partition]:
                    producer = await self._usable()
                    if partition not in await producer.partitions_for(self._topic):
                        # The topic has got more of them since the producer looked.
                        await producer.client.force_metadata_update()
                    # Others that waited here may have been refused since.
                    self._refuse_overtaking(sender, batch.header)
                    sent.future = await producer.send(
                        self._topic, batch.payload, key=key, partition=partition, headers=headers
                    )
                    if not self._is_known(partition):
                        await asyncio.shield(sent.future)
                found = await asyncio.shield(sent.future)
                if producer is self._producer:
                    self._known[partition] = asyncio.get_running_loop().time()
        except KafkaError as error:
            logger.warning("batch_not_published", topic=self._topic, partition=partition, error=describe(error))
            self._replace(producer)
            raise refusal(error) from error
        except (TimeoutError, OSError) as error:
            raise UnavailableError(
                "Kafka did not answer in time: it is not known whether the batch was taken. Send it again with the "
                "same id.",
                retry_after=RETRY_SECONDS,
            ) from error
        finally:
            sent.release_when_known()
            if sender is not None and sent.future is not None and not sent.future.done():
                self._note_unknown(sender, sent.future)
        if found.offset < 0:
            # The broker knew the batch from an earlier attempt, and not any more where it is: not behind the end.
            return place(partition, (await self._offsets.ends([partition]))[partition])
        return place(partition, found.offset + 1)

    def _is_known(self, partition: int) -> bool:
        """Whether the broker remembers the producer there: of one that it does not, it takes any batch as the first."""
        return asyncio.get_running_loop().time() - self._known.get(partition, -_KNOWN_SECONDS) < _KNOWN_SECONDS

    def _refuse_overtaking(self, sender: tuple[str, str] | None, header: Header) -> None:
        refused = self._refused.get(sender) if sender is not None else None
        if refused is not None and header.sequence > refused:
            raise ResourceExhaustedError(
                f"Sequence {refused} was not taken: send on from it.",
                reason="BACKLOG_FULL",
                retry_after=0.1,
                metadata={"from_sequence": str(refused)},
            )

    def _note_refusal(self, sender: tuple[str, str], sequence: int) -> None:
        if sequence > self._settled.get(sender, 0):
            _remember(self._refused, sender, min(sequence, self._refused.get(sender, sequence)))

    def _note_unknown(self, sender: tuple[str, str], future: asyncio.Future[Any]) -> None:
        unknown = self._unknown.setdefault(sender, set())
        unknown.add(future)

        def forget(known: asyncio.Future[Any]) -> None:
            unknown.discard(known)
            if not unknown:
                del self._unknown[sender]

        future.add_done_callback(forget)

    async def _usable(self) -> AIOKafkaProducer:
        while True:
            if self._closing:
                raise closed()
            if self._producer is not None:
                return self._producer
            await self._has_producer.wait()

    def _replace(self, producer: AIOKafkaProducer) -> None:
        if self._producer is not producer or self._closing:
            return
        self._producer = None
        self._known.clear()
        self._has_producer.clear()
        self._renewing = asyncio.create_task(self._renew(producer), name="new producer")

    async def _renew(self, old: AIOKafkaProducer) -> None:
        # Whatever goes wrong: without a producer nothing is taken.
        try:
            await _stop(old, self._config.request_timeout)
        except Exception as error:
            logger.warning("producer_not_stopped", topic=self._topic, error=describe(error))
        while True:
            try:
                async with asyncio.timeout(self._config.request_timeout):
                    self._producer = await self._make()
            except Exception as error:
                logger.warning("producer_not_replaced", topic=self._topic, error=describe(error))
                await asyncio.sleep(_RENEW_DELAY)
            else:
                break
        logger.info("producer_replaced", topic=self._topic)
        self._renewing = None
        self._has_producer.set()

    async def _make(self) -> AIOKafkaProducer:
        # Asked again with each producer: one that was told that a batch is too large is replaced.
        self._most_bytes = await message_limit(self._config, self._topic)
        compression = None if self._config.compression == "none" else self._config.compression
        producer = AIOKafkaProducer(
            **options(self._config),
            enable_idempotence=True,
            acks="all",
            linger_ms=self._config.linger * 1000,
            max_batch_size=min(_BATCH_BYTES, self._most_bytes),
            max_request_size=MAX_MESSAGE_BYTES,
            compression_type=compression,
        )
        try:
            await producer.start()
            await producer.partitions_for(self._topic)
        except BaseException:
            await _stop(producer, self._config.request_timeout)
            raise
        return producer


class _Sent:
    """Bytes that count as in flight until the outcome is known, however long the publisher waits for it."""

    def __init__(self, publisher: KafkaPublisher[Any], size: int) -> None:
        self._publisher = publisher
        self._size = size
        self.future: asyncio.Future[Any] | None = None
        publisher.in_flight_bytes += size

    def release_when_known(self) -> None:
        """Lets go of them, once."""
        if self.future is None:
            self._publisher.in_flight_bytes -= self._size
        elif self.future.done():
            self._release(self.future)
        else:
            self.future.add_done_callback(self._release)

    def _release(self, future: asyncio.Future[Any]) -> None:
        self._publisher.in_flight_bytes -= self._size
        if not future.cancelled():
            # Marks a failure as seen: its publisher may have gone away.
            future.exception()


def _sender_of(header: Header) -> tuple[str, str] | None:
    """Whose stream a batch is of, if it is of one."""
    return (header.tenant, header.producer_id) if header.producer_id and not header.request_id else None


def _remember(sequences: OrderedDict[tuple[str, str], int], sender: tuple[str, str], sequence: int) -> None:
    sequences[sender] = sequence
    sequences.move_to_end(sender)
    if len(sequences) > _MOST_SENDERS:
        sequences.popitem(last=False)


async def _stop(producer: AIOKafkaProducer, timeout: float) -> None:
    """Ends a producer, whether or not it can still deliver; what it could not has failed then."""
    try:
        async with asyncio.timeout(timeout):
            await producer.stop()
            return
    except Exception as error:
        logger.warning("producer_not_flushed", error=describe(error))
    # `stop` waits for deliveries for ever, and is no way out once it was interrupted: its parts are.
    await producer._sender.close()
    producer._message_accumulator.fail_all(KafkaError("the producer was stopped"))
    await disconnect(producer.client)
