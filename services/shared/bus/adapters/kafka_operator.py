"""What an operator does beside the services: look at dead letters, replay them, look how far the workers are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from services.shared.bus.adapters import kafka_headers
from services.shared.bus.adapters.kafka_client import FAILURES, options, stop, unavailable
from services.shared.bus.adapters.kafka_dead_letters import DeadLetter
from services.shared.bus.adapters.kafka_offsets import GroupOffsets
from services.shared.bus.adapters.kafka_topics import DEAD_LETTER_BYTES
from services.shared.bus.config import KafkaConfig
from services.shared.errors import FailedPreconditionError

_POLL_MS = 500
_FETCH_BYTES = 8 * 1024 * 1024
_REPLAYED = "dlq-replayed-at"


@dataclass(frozen=True, slots=True)
class Found:
    """A dead letter as it stands.

    Attributes:
        letter: The letter.
        written_at: Milliseconds since 1970 at which it was first written.
        replayed: How often it was replayed.
    """

    letter: DeadLetter
    written_at: int
    replayed: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the workers are in a partition.

    Attributes:
        partition: Which one.
        committed: The first offset that is not stored.
        end: The offset that the next batch gets.
        metadata: What was said with it: the boundary of the insert under way.
    """

    partition: int
    committed: int
    end: int
    metadata: str

    @property
    def batches(self) -> int:
        """How many are not stored."""
        return max(0, self.end - self.committed)


class KafkaOperator:
    """Every method connects, does its work, and lets go.

    Args:
        config: Where Kafka is.
        signal: "metrics".
    """

    def __init__(self, config: KafkaConfig, signal: str) -> None:
        self._config = config
        self._signal = signal
        self._topic = config.dead_letter_topic(signal)

    async def dead_letters(self) -> list[Found]:
        """Those that there are, the oldest first; one that was written again counts once.

        Raises:
            UnavailableError: Kafka cannot be asked.
        """
        found: dict[str, Found] = {}
        try:
            async for name, letter, moment in self._read():
                before = found.get(name)
                if letter is not None:
                    found[name] = before or Found(letter, moment, 0)
                elif before is not None:
                    found[name] = Found(before.letter, before.written_at, before.replayed + 1)
        except FAILURES as error:
            raise unavailable(f"cannot tell what is in {self._topic}", error) from error
        return list(found.values())

    async def replay(self, found: Found, again: bool = False) -> bool:
        """Publishes a dead letter where it was, and notes that.

        It comes as a request of its own, with its id or, where it had none, under the letter's name: so it is stored
        once, however often it is replayed within a day, since the worker drops repetitions.

        Args:
            found: The letter.
            again: Also if it was replayed before.

        Returns:
            Whether it was published.

        Raises:
            FailedPreconditionError: The letter does not have the payload.
            UnavailableError: It is not known whether it was published.
        """
        letter = found.letter
        if found.replayed and not again:
            return False
        if letter.payload is None:
            raise FailedPreconditionError(
                f"{letter.name} was too large to be kept: it is in {letter.topic} as long as that keeps it."
            )
        if letter.topic != self._config.topic(self._signal):
            raise FailedPreconditionError(f"{letter.name} is not of {self._config.topic(self._signal)}.")
        try:
            async with self._producer() as producer:
                key, headers = _as_request(letter)
                await producer.send_and_wait(letter.topic, letter.payload, key=key, headers=headers)
                moment = str(time.time_ns()).encode()
                await producer.send_and_wait(self._topic, None, key=letter.name.encode(), headers=[(_REPLAYED, moment)])
        except FAILURES as error:
            raise unavailable(f"did not say whether it took {letter.name}", error) from error
        return True

    async def lag(self) -> list[Lag]:
        """How far the workers are, for each partition.

        Raises:
            UnavailableError: Kafka cannot be asked.
        """
        offsets = GroupOffsets(self._config, self._signal)
        await offsets.open()
        try:
            partitions = range(offsets.partitions)
            committed, ends = await offsets.committed(partitions), await offsets.ends(partitions)
            beginnings = await offsets.beginnings(partitions)
        finally:
            await offsets.close()
        lags = []
        for partition in partitions:
            known = committed.get(partition)
            first = max(known.offset if known else 0, beginnings[partition])
            lags.append(Lag(partition, first, ends[partition], known.metadata if known else ""))
        return lags

    async def _read(self) -> AsyncIterator[tuple[str, DeadLetter | None, int]]:
        consumer = AIOKafkaConsumer(
            **options(self._config),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        try:
            await consumer.start()
            place = TopicPartition(self._topic, 0)
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, ()):
                    name = (record.key or b"").decode(errors="replace")
                    if record.value is None:
                        yield name, None, record.timestamp
                        continue
                    try:
                        letter = DeadLetter.decode(record.headers, record.value)
                    except ValueError as error:
                        reason = f"not a dead letter: {error}"
                        letter = DeadLetter(
                            self._topic, 0, record.offset, record.key, record.headers, record.value, reason
                        )
                        name = letter.name
                    yield name, letter, record.timestamp
        finally:
            await stop(consumer, self._config.request_timeout)

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            **options(self._config), enable_idempotence=True, acks="all", max_request_size=DEAD_LETTER_BYTES
        )
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()


def _as_request(letter: DeadLetter) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    """The key and the headers under which a letter is published again.

    Later batches of its stream are stored by then: with its own sequence it would count as one of those before them.
    """
    try:
        header = kafka_headers.decode(letter.headers)
    except kafka_headers.UnreadableError:
        # What is not a batch has nothing to go by.
        return letter.key, list(letter.headers)
    request_id = header.request_id or letter.name
    replaced = ("producer-id", "sequence", "request-id")
    headers = [each for each in letter.headers if each[0] not in replaced]
    headers.append(("request-id", request_id.encode()))
    return kafka_headers.key_of(replace(header, request_id=request_id)), headers
