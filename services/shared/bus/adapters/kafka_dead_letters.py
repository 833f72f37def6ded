"""Dead letters: batches that cannot be read, kept with the reason in a topic of their own.

A letter is the record as it was, its headers included, with `dlq-…` headers added. Its key is where the record was,
so that a letter written again after a crash is known as the same. Once a letter is replayed, a record of the same key
without a value says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from services.shared.bus.adapters.kafka_client import FAILURES, options, unavailable
from services.shared.bus.adapters.kafka_headers import Headers
from services.shared.bus.adapters.kafka_topics import DEAD_LETTER_BYTES
from services.shared.bus.config import KafkaConfig

logger = structlog.get_logger(__name__)

_PREFIX = "dlq-"
_LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read.

    Attributes:
        topic: Where it was.
        partition: In which partition.
        offset: At which offset.
        key: Its key.
        headers: Its headers.
        payload: Its value; None if that was too large to be kept: it is in the topic as long as that keeps it.
        reason: Why it could not be read.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: Headers
    payload: bytes | None
    reason: str

    @property
    def name(self) -> str:
        """What tells it from others: "airis.metrics:0:17"."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    def encode(self) -> list[tuple[str, bytes]]:
        """The headers of the letter."""
        added = [
            (f"{_PREFIX}topic", self.topic.encode()),
            (f"{_PREFIX}partition", str(self.partition).encode()),
            (f"{_PREFIX}offset", str(self.offset).encode()),
            (f"{_PREFIX}reason", self.reason[:_LONGEST_REASON].encode()),
        ]
        if self.key is not None:
            added.append((f"{_PREFIX}key", self.key))
        if self.payload is None:
            added.append((f"{_PREFIX}without-payload", b"1"))
        own = [(name, value) for name, value in self.headers if not name.startswith(_PREFIX)]
        return [*own, *added]

    @classmethod
    def decode(cls, headers: Headers, payload: bytes) -> DeadLetter:
        """Reads what `encode` wrote.

        Raises:
            ValueError: Something else wrote it.
        """
        added = {name.removeprefix(_PREFIX): value for name, value in headers if name.startswith(_PREFIX)}
        try:
            return cls(
                topic=added["topic"].decode(),
                partition=int(added["partition"]),
                offset=int(added["offset"]),
                key=added.get("key"),
                headers=[(name, value) for name, value in headers if not name.startswith(_PREFIX)],
                payload=None if "without-payload" in added else payload,
                reason=added["reason"].decode(errors="replace"),
            )
        except KeyError as error:
            raise ValueError(f"the header dlq-{error.args[0]} is missing") from error


class DeadLetterWriter:
    """Writes dead letters. Connects when the first is written.

    Args:
        config: Where Kafka is.
        topic: The topic of dead letters.
    """

    def __init__(self, config: KafkaConfig, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._producer: Any = None
        self._written: set[str] = set()
        self.count = 0

    async def write(self, letter: DeadLetter) -> None:
        """Returns when the letter would survive the loss of a broker; again for the same one, at once.

        Raises:
            UnavailableError: It is not known whether it was written.
        """
        if letter.name in self._written:
            return
        try:
            async with asyncio.timeout(self._config.publish_timeout):
                if self._producer is None:
                    await self._connect()
                try:
                    await self._send(letter)
                except (MessageSizeTooLargeError, RecordListTooLargeError):
                    await self.close()
                    await self._connect()
                    await self._send(
                        DeadLetter(letter.topic, letter.partition, letter.offset, letter.key, (), None, letter.reason)
                    )
        except FAILURES as error:
            await self.close()
            raise unavailable("did not take a batch that cannot be read", error) from error
        if len(self._written) > 10_000:
            self._written.clear()
        self._written.add(letter.name)
        self.count += 1
        logger.error("batch_unreadable", batch=letter.name, dead_letters=self._topic, error=letter.reason)

    async def close(self) -> None:
        """Lets go of the connection."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await producer.stop()
        except FAILURES as error:
            logger.warning("dead_letters_not_closed", error=str(error))

    async def _connect(self) -> None:
        producer = AIOKafkaProducer(
            **options(self._config), enable_idempotence=True, acks="all", max_request_size=DEAD_LETTER_BYTES
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def _send(self, letter: DeadLetter) -> None:
        await self._producer.send_and_wait(
            self._topic, letter.payload or b"", key=letter.name.encode(), headers=letter.encode()
        )
