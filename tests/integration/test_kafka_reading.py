"""The Kafka bus on a real broker whose topic has, or lost, what nobody here put there, or took away."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from fakes.token_store import TokenStore

from deploy.servers import Server
from services.shared.bus.adapters import kafka_headers
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.adapters.kafka_operator import KafkaOperator
from services.shared.bus.config import KafkaConfig
from services.shared.bus.drain import drain
from services.shared.bus.port import Batch, Header, InsertLimits, partition_of
from services.shared.errors import UnavailableError

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

LIMITS = InsertLimits(max_items=50, max_bytes=100_000, max_age=0.02)
SENT = Header("default", "airis.test.v1.Batch", 1_700_000_000_000_000_000, 10, producer_id="p", sequence=5)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


def batch(name: str = "") -> Batch[bytes]:
    return Batch(Header("default", "airis.test.v1.Batch", 1_700_000_000_000_000_000, 10, name), b"wire", decode)


@pytest.fixture
def config(kafka: Server) -> KafkaConfig:
    return KafkaConfig(
        bootstrap_servers=kafka.address, topic_prefix=f"it-{uuid.uuid4().hex}", partitions=2, session_timeout=6
    )


@pytest.fixture
async def admin(config: KafkaConfig) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=config.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def opened(config: KafkaConfig, **options: object) -> AsyncIterator[KafkaBus[bytes]]:
    bus: KafkaBus[bytes] = KafkaBus(config, "test", decode, limits=LIMITS, **options)  # type: ignore[arg-type]
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def working(bus: KafkaBus[bytes], store: TokenStore) -> AsyncIterator[None]:
    worker = asyncio.create_task(drain(bus, store.write, None))
    try:
        yield
        assert not worker.done()
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def until(reached: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            answer = reached()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


async def refused(bus: KafkaBus[bytes]) -> str:
    """Why the bus is not ready; empty if it is."""
    try:
        await bus.check()
    except UnavailableError as error:
        return error.message
    return ""


async def compression_of(admin: AIOKafkaAdminClient, topic: str) -> list[tuple[object, ...]]:
    wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"compression.type": ""})
    (response,) = await admin.describe_configs([wanted])
    return [entry for resource in response.resources for entry in resource[4]]


async def test_topics_leave_batches_as_they_were_compressed(config: KafkaConfig, admin: AIOKafkaAdminClient) -> None:
    async with opened(config, role="serve"):
        for topic in (config.topic("test"), config.dead_letter_topic("test")):
            ((name, value, _, source, *_),) = await compression_of(admin, topic)
            assert (name, value) == ("compression.type", "producer")
            # The topic's own, rather than the broker's (4) or the default (5), which may be another tomorrow.
            assert source == 1


async def compress(admin: AIOKafkaAdminClient, topic: str, codec: str) -> None:
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"compression.type": codec})])

    async def is_set() -> bool:
        return (await compression_of(admin, topic))[0][1] == codec

    await until(is_set)


async def test_a_partition_that_cannot_be_read_is_told_and_keeps_no_other_waiting(
    config: KafkaConfig, admin: AIOKafkaAdminClient
) -> None:
    topic, store = config.topic("test"), TokenStore()
    async with opened(config, role="serve") as serving:
        # What no library here can unpack.
        await compress(admin, topic, "zstd")
        poisoned = partition_of(await serving.publish(batch("unreadable")))
        await compress(admin, topic, "producer")
        where = {name: partition_of(await serving.publish(batch(name))) for name in map(str, range(20))}
        behind = {name for name, partition in where.items() if partition == poisoned}
        others = where.keys() - behind
        assert behind
        assert others
        async with opened(config, role="work") as worker, working(worker, store):
            await until(lambda: store.stored.keys() >= others)

            async def tells() -> bool:
                return f"partition {poisoned}: UnsupportedCodec" in await refused(worker)

            await until(tells)
            await until(lambda: worker.lag == 1 + len(behind))
            # They are stored also while it is known.
            late = {f"late {n}" for n in range(20)}
            where = {name: partition_of(await serving.publish(batch(name))) for name in sorted(late)}
            late = {name for name in late if where[name] != poisoned}
            await until(lambda: store.stored.keys() >= late)
            assert not store.stored.keys() & behind
            await until(tells)
            # An operator takes it away.
            await admin.delete_records({TopicPartition(topic, poisoned): RecordsToDelete(1)})
            await until(lambda: store.stored.keys() >= behind)

            async def is_ready() -> bool:
                return not await refused(worker)

            await until(is_ready)
    assert set(store.stored.values()) == {1}


async def test_records_whose_headers_no_store_has_room_for_become_dead_letters(config: KafkaConfig) -> None:
    store = TokenStore()
    headers = kafka_headers.encode(SENT, "airis-test", "e", "")
    foreign = AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers)
    async with opened(config) as bus, working(bus, store):
        await foreign.start()
        try:
            for value in (b"9" * 25, None):
                its = [(name, value if name == "sequence" else given) for name, given in headers]
                await foreign.send_and_wait(config.topic("test"), b"wire", headers=its, partition=0)
        finally:
            await foreign.stop()
        await bus.publish(batch("good"))
        async with asyncio.timeout(60):
            await bus.wait_settled(batch().header)
        assert store.stored == {"good": 1}
        letters = [each.letter for each in await KafkaOperator(config, "test").dead_letters()]
    assert [letter.partition for letter in letters] == [0, 0]
    assert all("malformed" in letter.reason for letter in letters)


async def test_a_topic_that_is_deleted_while_it_is_served_makes_batches_wait_with_their_senders(
    config: KafkaConfig, admin: AIOKafkaAdminClient
) -> None:
    async with opened(config, role="serve") as bus:
        await bus.publish(batch("before"))
        await admin.delete_topics([config.topic("test")])

        async def is_known() -> bool:
            await refused(bus)
            return bus._offsets.partitions == 0

        await until(is_known)
        for name in ("with a key", ""):
            with pytest.raises(UnavailableError, match="does not have the topic"):
                await bus.publish(batch(name))
        with pytest.raises(UnavailableError, match="does not have the topic"):
            await bus.wait_settled(batch("with a key").header)
