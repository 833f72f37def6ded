"""The reader of the Kafka bus on a consumer of these tests: how much it reads ahead, of one partition and of many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from services.shared.bus.adapters import kafka_boundary, kafka_headers, kafka_reader
from services.shared.bus.adapters.kafka_offsets import Committed
from services.shared.bus.adapters.kafka_reader import Reader
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Header, InsertLimits

CONFIG = KafkaConfig(max_buffered_bytes=1 << 20)
# No insert is ever full.
LIMITS = InsertLimits(max_items=10**9, max_bytes=1 << 40, max_age=1e9, max_batches=10**9)
SENT = Header("default", "airis.test.v1.Batch", 1, 1, "request")
HEADERS = tuple(kafka_headers.encode(SENT, "airis-test", "e", ""))


class Record:
    """A small one, as it comes from a broker."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.key = b"default\0request"
        self.headers = HEADERS
        self.value = b"x"


class Consumer:
    """Has so many records in each partition, and gives some of each that is not paused at a time."""

    def __init__(self, count: int, step: int = 5) -> None:
        self.count = count
        self.step = step
        self.places: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.has_nothing_to_give = asyncio.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assign(self, places: list[TopicPartition]) -> None:
        self.places = dict.fromkeys(places, 0)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.places[place] = offset

    def pause(self, place: TopicPartition) -> None:
        self.paused.add(place)

    def resume(self, place: TopicPartition) -> None:
        self.paused.discard(place)

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        found = {}
        for place, at in self.places.items():
            end = min(self.count, at + self.step)
            if place not in self.paused and at < end:
                found[place] = [Record(offset) for offset in range(at, end)]
                self.places[place] = end
        if not found:
            self.has_nothing_to_give.set()
        await asyncio.sleep(0)
        return found


class Offsets:
    """What is committed of each partition: nothing but the boundaries that were given."""

    def __init__(self, boundaries: dict[int, int]) -> None:
        self._boundaries = boundaries

    async def committed(self, partitions: Collection[int]) -> dict[int, Committed]:
        return {
            number: Committed(0, kafka_boundary.encode(last))
            for number, last in self._boundaries.items()
            if number in partitions
        }

    async def beginnings(self, partitions: Collection[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)


@asynccontextmanager
async def reading(
    consumer: Consumer,
    partitions: int,
    monkeypatch: pytest.MonkeyPatch,
    boundaries: dict[int, int] | None = None,
    before: Sequence[Consumer] = (),
) -> AsyncIterator[Reader]:
    """The reader, once there is nothing more to read for it."""
    made = iter([*before, consumer])
    monkeypatch.setattr(kafka_reader, "AIOKafkaConsumer", lambda **_: next(made))
    offsets: Any = Offsets(boundaries or {})
    reader = Reader(CONFIG, "test", offsets, LIMITS, lambda: None)
    reader.change(frozenset(range(partitions)), frozenset())
    reader.start()
    try:
        async with asyncio.timeout(30):
            await consumer.has_nothing_to_give.wait()
        yield reader
    finally:
        await reader.close()


@pytest.mark.parametrize("partitions", [1, 16])
async def test_what_waits_takes_the_memory_that_it_may_however_many_and_small_its_parts_are(
    partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(2_000)
    async with reading(consumer, partitions, monkeypatch) as reader:
        read = reader.buffered_bytes
        # A record takes some 3 KB; what comes in one go may come on top.
        assert 200 <= read <= 600 + consumer.step * partitions
        assert len(consumer.paused) == partitions
        # Once they are stored, it goes on.
        consumer.has_nothing_to_give.clear()
        for partition in reader.partitions.values():
            partition.commit(partition.next_offset - 1)
        async with asyncio.timeout(30):
            await consumer.has_nothing_to_give.wait()
        assert 200 <= reader.buffered_bytes <= 600 + consumer.step * partitions


async def test_an_insert_that_is_to_be_repeated_is_read_whatever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(2_000)
    async with reading(consumer, 4, monkeypatch, {1: 1_500}) as reader:
        assert reader.partitions[1].is_whole()
        assert reader.partitions[1].next_offset <= 1_501 + consumer.step
        assert all(reader.partitions[number].next_offset < 400 for number in (0, 2, 3))


class Connection:
    """Knows whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class LostConsumer(Consumer):
    """Its broker went away, and it ends as aiokafka's does then: with the cancellation of a fetch of its own."""

    def __init__(self) -> None:
        super().__init__(0)
        self._client = Connection()

    def assign(self, places: list[TopicPartition]) -> None:
        raise KafkaConnectionError("gone")

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(3600))
        fetch.cancel()
        await fetch


async def test_a_reader_whose_broker_went_away_reads_on_though_a_fetch_was_about_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost, consumer = LostConsumer(), Consumer(100)
    async with reading(consumer, 2, monkeypatch, before=[lost]) as reader:
        assert [partition.next_offset for partition in reader.partitions.values()] == [100, 100]
    assert lost._client.is_closed
