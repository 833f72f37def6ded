"""Messages that no worker can read, and where they end up."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

# With them it would be known as a repetition, and dropped unread.
_IDS = ("request-id", "producer-id", "sequence", "rejected")


async def put(address: str, topic: str) -> int:
    """Writes into each partition a record without headers, and one with a real record's and rubbish behind them.

    Returns:
        How many.
    """
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
    await producer.start()
    try:
        partitions = sorted(await producer.partitions_for(topic))
        headers = await _real_headers(address, topic)
        for partition in partitions:
            await producer.send_and_wait(topic, b"\xff\xfe no message", partition=partition)
            await producer.send_and_wait(topic, b"\xff\xfe no payload", partition=partition, headers=headers)
    finally:
        await producer.stop()
    return 2 * len(partitions)


async def count(address: str, topic: str) -> int:
    """How many records a topic has."""
    async with _consumer(address) as consumer:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        ends, beginnings = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
        return sum(ends[place] - beginnings[place] for place in places)


async def _real_headers(address: str, topic: str) -> list[tuple[str, bytes]]:
    async with _consumer(address) as consumer, asyncio.timeout(20):
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()])
        await consumer.seek_to_beginning()
        async for record in consumer:
            if record.headers:
                return [(name, value) for name, value in record.headers if name not in _IDS]
    raise AssertionError(f"{topic} is empty")


class _consumer:  # noqa: N801 (used as a function)
    def __init__(self, address: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)

    async def __aenter__(self) -> AIOKafkaConsumer:
        await self._consumer.start()
        await self._consumer._client.force_metadata_update()
        return self._consumer

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()
