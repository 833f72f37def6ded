"""The Kafka bus on a real broker: what several processes see of each other, and what cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from fakes.token_store import TokenStore

from deploy.servers import Server
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.adapters.kafka_operator import KafkaOperator
from services.shared.bus.config import KafkaConfig
from services.shared.bus.drain import drain
from services.shared.bus.intake import Intake, Origin
from services.shared.bus.port import Batch, Header, Insert, InsertLimits, Position, partition_of, place
from services.shared.bus.recent_ids import RecentIds
from services.shared.bus.repeats import Repeats
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError

pytestmark = pytest.mark.servers

LIMITS = InsertLimits(max_items=50, max_bytes=100_000, max_age=0.02)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def decode(header: Header, payload: bytes) -> bytes:
    if payload.startswith(b"poison"):
        raise ValueError("the payload is no batch")
    return payload


def batch(name: str = "", payload: bytes = b"wire", producer: str = "", sequence: int = 0) -> Batch[bytes]:
    header = Header("default", "airis.test.v1.Batch", 1_700_000_000_000_000_000, 10, name, producer, sequence)
    return Batch(header, payload, decode)


@pytest.fixture
def config(kafka: Server) -> KafkaConfig:
    return KafkaConfig(
        bootstrap_servers=kafka.address, topic_prefix=f"it-{uuid.uuid4().hex}", partitions=4, session_timeout=6
    )


@asynccontextmanager
async def opened(config: KafkaConfig, **options: object) -> AsyncIterator[KafkaBus[bytes]]:
    bus: KafkaBus[bytes] = KafkaBus(config, "test", decode, limits=LIMITS, trace_context=lambda: TRACE, **options)  # type: ignore[arg-type]
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def working(bus: KafkaBus[bytes], store: TokenStore, with_repeats: bool = True) -> AsyncIterator[None]:
    repeats = Repeats[bytes](store) if with_repeats else None
    worker = asyncio.create_task(drain(bus, store.write, repeats))
    try:
        yield
        assert not worker.done()
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def until(reached: Callable[[], bool | Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            answer = reached()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)


async def settle(bus: KafkaBus[bytes]) -> None:
    async with asyncio.timeout(30):
        await bus.wait_settled(batch().header)


async def raw_records(config: KafkaConfig, topic: str, count: int) -> list[object]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=config.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_record_is_a_cloud_event_with_the_headers_of_the_design(config: KafkaConfig) -> None:
    async with opened(config) as bus:
        position = await bus.publish(batch("id-é한"))
        (record,) = await raw_records(config, config.topic("test"), 1)
    headers = dict(record.headers)  # type: ignore[attr-defined]
    assert position == place(record.partition, record.offset + 1)  # type: ignore[attr-defined]
    assert record.value == b"wire"  # type: ignore[attr-defined]
    assert record.key == "default\0id-é한".encode()  # type: ignore[attr-defined]
    assert headers.pop("ce_id")
    assert headers == {
        "correlation-id": "id-é한".encode(),
        "service-name": b"airis-test",
        "message-type": b"airis.test.v1.Batch",
        "tenant": b"default",
        "traceparent": TRACE.encode(),
        "ce_specversion": b"1.0",
        "ce_type": b"airis.test.v1.Batch",
        "ce_source": b"/airis-test",
        "ce_time": b"2023-11-14T22:13:20.000000Z",
        "content-type": b"application/protobuf",
        "airis-version": b"1",
        "received-at": b"1700000000000000000",
        "item-count": b"10",
        "request-id": "id-é한".encode(),
    }


async def test_replicas_that_start_at_once_make_the_topics_together(config: KafkaConfig) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(
            *(stack.enter_async_context(opened(config, role="serve")) for _ in range(4)),
        )


async def test_batches_of_a_sender_are_in_one_partition_in_their_order(config: KafkaConfig) -> None:
    async with opened(config, role="serve") as bus:
        positions = await asyncio.gather(*(bus.publish(batch(producer="p", sequence=n)) for n in range(1, 300)))
        assert positions == sorted(positions)
        assert len({partition_of(position) for position in positions}) == 1
        again = await asyncio.gather(*(bus.publish(batch("one")) for _ in range(8)))
        assert len({partition_of(position) for position in again}) == 1
        anywhere = await asyncio.gather(*(bus.publish(batch()) for _ in range(64)))
        assert len({partition_of(position) for position in anywhere}) > 1


async def test_a_batch_that_is_too_large_is_refused_for_good(config: KafkaConfig) -> None:
    async with opened(config, role="serve") as bus:
        with pytest.raises(InvalidArgumentError) as caught:
            await bus.publish(batch("large", b"x" * (34 << 20)))
        assert caught.value.reason == "SIZE_LIMIT_EXCEEDED"
        assert await bus.publish(batch("small"))
        assert bus.in_flight_bytes == 0


async def refuses(bus: KafkaBus[bytes], size: int) -> bool:
    """Whether the broker goes by a lower limit, which takes a moment."""
    try:
        await bus.publish(batch("probe", b"x" * size))
    except (UnavailableError, InvalidArgumentError):
        return True
    return False


async def test_what_the_broker_refuses_leaves_no_gap_and_no_batch_overtakes_a_refused_one(
    config: KafkaConfig, kafka: Server
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    limits = {"max.message.bytes": "50000"}
    await admin.create_topics([NewTopic(config.topic("test"), 1, 1, topic_configs=limits)])
    with pytest.raises(InvalidArgumentError):
        async with opened(config, role="serve") as bus:
            await bus.publish(batch(payload=b"x" * 60_000))
    store = TokenStore()
    async with opened(config) as bus, working(bus, store):
        # The bus has asked for the limit; it hears of another when a batch is refused.
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, config.topic("test"), {"max.message.bytes": "20000"})]
        )
        await admin.close()
        async with opened(config, role="serve") as other:
            await until(lambda: refuses(other, 30_000))
        sizes = {n: 30_000 if n in (5, 9) else 10 for n in range(1, 20)}
        first = await asyncio.gather(
            *(bus.publish(batch(producer="p", sequence=n, payload=b"x" * size)) for n, size in sizes.items()),
            return_exceptions=True,
        )
        taken = [n for n, result in enumerate(first, 1) if isinstance(result, int)]
        assert taken == list(range(1, len(taken) + 1))
        assert len(taken) < 5
        assert await bus.publish(batch("another"))
        for n in range(len(taken) + 1, 20):
            if sizes[n] > 20_000:
                with pytest.raises(InvalidArgumentError):
                    await bus.publish(batch(producer="p", sequence=n, payload=b"x" * sizes[n]))
            else:
                await bus.publish(batch(producer="p", sequence=n))
        await settle(bus)
    stored = store.stored
    stored.pop("probe", None)
    assert stored == {"another": 1, **{f"p/{n}": 1 for n in sizes if n not in (5, 9)}}


async def test_no_batch_overtakes_one_that_is_refused_as_the_first_of_a_producer(
    config: KafkaConfig, kafka: Server
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    topic = config.topic("test")
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "50000"})])
    async with opened(config, role="serve") as bus, opened(config, role="serve") as other:
        lower = {"max.message.bytes": "20000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, lower)])
        await admin.close()

        await until(lambda: refuses(other, 45_000))
        # Together they are more than a request takes at once: the second comes by itself, and is small enough.
        sizes = {1: 45_000, 2: 6_000}
        results = await asyncio.gather(
            *(bus.publish(batch(producer="p", sequence=n, payload=b"x" * size)) for n, size in sizes.items()),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [UnavailableError, ResourceExhaustedError]


def intake(bus: KafkaBus[bytes]) -> Intake[bytes]:
    return Intake(bus, RecentIds(), decode, time.time_ns, TokenStore())


async def take(taken: Intake[bytes], sequence: int) -> None:
    await taken.take(Origin("default", "airis.test.v1.Batch", producer_id="p", sequence=sequence), 1, b"x", b"x", 1, {})


async def refuse(bus: KafkaBus[bytes], refused: Awaitable[object]) -> None:
    """Has a batch refused, because another one, of 1 MiB, is under way."""
    results = await asyncio.gather(bus.publish(batch("large", b"x" * (1 << 20))), refused, return_exceptions=True)
    assert isinstance(results[0], int)
    assert isinstance(results[1], ResourceExhaustedError)


async def test_a_stream_goes_on_where_it_was_refused_once_others_have_taken_that(config: KafkaConfig) -> None:
    config = config.model_copy(update={"max_in_flight_bytes": 1 << 20})
    async with opened(config, role="serve") as bus, opened(config, role="serve") as other_bus:
        one, other = intake(bus), intake(other_bus)
        await take(one, 1)
        await refuse(bus, take(one, 2))
        # Not before: the batch is nowhere.
        assert await one.resume_after("default", "p", 1) == 1
        with pytest.raises(ResourceExhaustedError):
            await take(one, 3)
        assert await other.resume_after("default", "p", 1) == 1
        for sequence in (2, 3, 4):
            await take(other, sequence)
        assert await one.resume_after("default", "p", 4) == 4
        await take(one, 5)


async def test_a_stream_goes_on_behind_a_batch_that_was_refused_and_then_rejected_whole(config: KafkaConfig) -> None:
    config = config.model_copy(update={"max_in_flight_bytes": 1 << 20})
    async with opened(config, role="serve") as bus:
        taken = intake(bus)
        await take(taken, 1)
        await refuse(bus, take(taken, 2))
        taken.settle(Origin("default", "airis.test.v1.Batch", producer_id="p", sequence=2))
        await take(taken, 3)


async def test_a_publish_that_fails_after_its_batch_was_settled_elsewhere_holds_nothing_up(config: KafkaConfig) -> None:
    async with opened(config, role="serve") as bus:
        failing = asyncio.create_task(bus.publish(batch(producer="p", sequence=2)))
        await asyncio.sleep(0)
        bus.note_settled("default", "p", 4)
        failing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await failing
        assert await bus.publish(batch(producer="p", sequence=5))


async def test_a_worker_goes_on_behind_batches_that_were_kept_for_too_short_a_time(
    config: KafkaConfig, kafka: Server
) -> None:
    config = config.model_copy(update={"partitions": 1})
    store = TokenStore()
    async with opened(config, role="serve") as serving:
        for n in range(10):
            await serving.publish(batch(f"r{n}"))
        async with opened(config, role="work") as worker:
            # Its boundary is recorded, and part of it will be gone.
            assert (await worker.next_insert()).last == 5
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.delete_records({TopicPartition(config.topic("test"), 0): RecordsToDelete(3)})
        await admin.close()
        async with opened(config, role="work") as worker, working(worker, store):
            await settle(serving)
    assert store.stored == {f"r{n}": 1 for n in range(3, 10)}


async def test_a_batch_of_32_mib_comes_through(config: KafkaConfig) -> None:
    async with opened(config) as bus:
        payload = bytes(range(256)) * (1 << 17)
        await bus.publish(batch("large", payload))
        async with asyncio.timeout(20):
            insert = await bus.next_insert()
        assert insert.batches[0][1].payload == payload
        await bus.commit(insert)


async def test_a_process_that_only_serves_learns_what_another_stores(config: KafkaConfig) -> None:
    store = TokenStore()
    async with opened(config, role="serve") as serving, opened(config, role="work") as worker:
        with pytest.raises(UnavailableError):
            await worker.publish(batch("x"))
        with pytest.raises(UnavailableError):
            await serving.next_insert()
        before = await serving.committed()
        assert before == tuple(place(partition, 0) for partition in range(4))
        position = await serving.publish(batch("a"))
        waiting = [
            asyncio.create_task(wait)
            for wait in (
                serving.wait_committed(position),
                serving.wait_progress(before),
                serving.wait_settled(batch("a").header),
            )
        ]
        await asyncio.sleep(0.3)
        assert not any(wait.done() for wait in waiting)
        async with working(worker, store):
            async with asyncio.timeout(20):
                await asyncio.gather(*waiting)
        assert store.stored == {"a": 1}
        assert position in await serving.committed()


async def test_ids_that_two_processes_publish_are_stored_once(config: KafkaConfig) -> None:
    store = TokenStore()
    async with opened(config) as first, opened(config, role="serve") as second, working(first, store):
        names = [f"r{n}" for n in range(200)]
        for bus in (first, second, first):
            await asyncio.gather(*(bus.publish(batch(name)) for name in names))
        for bus in (first, second):
            await asyncio.gather(*(bus.publish(batch(producer="p", sequence=n)) for n in range(1, 100)))
        await settle(second)
    assert store.stored == {**dict.fromkeys(names, 1), **{f"p/{n}": 1 for n in range(1, 100)}}


async def test_a_rebalance_in_the_middle_of_an_insert_doubles_and_loses_nothing(config: KafkaConfig) -> None:
    store = TokenStore()
    published: list[str] = []

    async def publish_on(bus: KafkaBus[bytes]) -> None:
        while True:
            names = [f"r{len(published) + n}" for n in range(20)]
            await asyncio.gather(*(bus.publish(batch(name)) for name in names))
            published.extend(names)

    async with opened(config, role="serve") as serving, opened(config, role="work") as stays:
        publishing = asyncio.create_task(publish_on(serving))
        await until(lambda: len(stays.owned) == 4)
        held = await stays.next_insert()
        kept_at_once: set[bool] = set()
        for _ in range(2):
            async with opened(config, role="work") as comes:
                await until(lambda comes=comes: len(comes.owned) == 2 and len(stays.owned) == 2)  # type: ignore[misc]
                # What stayed was not disturbed: the same insert is under way; what went is repeated by the other.
                kept = partition_of(held.last) in stays.owned
                kept_at_once.add(kept)
                await store.write([(each.header, b"") for _, each in held.batches], held.token)
                await stays.commit(held)
                repeated_before = len(store.repeated)
                async with working(comes, store, with_repeats=False), working(stays, store, with_repeats=False):
                    seen = len(published)
                    await until(lambda seen=seen: len(published) > seen + 200)  # type: ignore[misc]
                    assert kept or len(store.repeated) > repeated_before
                held = await stays.next_insert()
            await until(lambda: len(stays.owned) == 4)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await store.write([(each.header, b"") for _, each in held.batches], held.token)
        await stays.commit(held)
        async with working(stays, store, with_repeats=False):
            await settle(serving)
    counts = store.stored
    assert set(published) <= counts.keys()
    assert set(counts.values()) == {1}


async def test_partitions_that_stay_go_on_while_others_come_and_go(config: KafkaConfig) -> None:
    async with opened(config) as stays:
        await until(lambda: len(stays.owned) == 4)
        seen = [stays.owned]

        async def watch() -> None:
            while True:
                if stays.owned != seen[-1]:
                    seen.append(stays.owned)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        async with opened(config, role="work") as second:
            await until(lambda: len(second.owned) == 2)
            async with opened(config, role="work") as third:
                await until(lambda: bool(third.owned) and len(stays.owned | second.owned | third.owned) == 4)
            await until(lambda: len(stays.owned | second.owned) == 4)
        await until(lambda: len(stays.owned) == 4)
        watching.cancel()
    # It only ever gave up what was to move, and got the rest back: never all at once.
    for before, after in zip(seen, seen[1:], strict=False):
        assert before < after or after < before
        assert after


async def dead(config: KafkaConfig) -> dict[str, tuple[str, int]]:
    return {found.letter.reason: (found.letter.name, found.replayed) for found in await operator(config).dead_letters()}


def operator(config: KafkaConfig) -> KafkaOperator:
    return KafkaOperator(config, "test")


async def test_what_cannot_be_read_is_set_aside_and_can_be_replayed(config: KafkaConfig) -> None:
    config = config.model_copy(update={"partitions": 1})
    store = TokenStore()
    async with opened(config) as bus:
        foreign = AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers)
        await foreign.start()
        await bus.publish(batch("before"))
        await foreign.send_and_wait(config.topic("test"), b"not ours", key=b"k", headers=[("tenant", b"x")])
        await foreign.send_and_wait(config.topic("test"), None, key=b"tombstone")
        await foreign.stop()
        await bus.publish(batch("poisoned", b"poison"))
        await bus.publish(batch("after"))
        async with working(bus, store):
            await settle(bus)
        assert store.stored == {"before": 1, "after": 1}
        assert bus.dead_letters == 3
        found = await operator(config).dead_letters()
        topic = config.topic("test")
        assert [each.letter.name for each in found] == [f"{topic}:0:1", f"{topic}:0:2", f"{topic}:0:3"]
        assert "airis-version" in found[0].letter.reason
        assert found[0].letter.payload == b"not ours"
        assert found[0].letter.key == b"k"
        assert list(found[0].letter.headers) == [("tenant", b"x")]
        assert found[2].letter.reason == "the payload is no batch"

    # A program that can read it takes it from here, once.
    assert await operator(config).replay(found[2])
    (again,) = [each for each in await operator(config).dead_letters() if each.letter.name == found[2].letter.name]
    assert again.replayed == 1
    assert not await operator(config).replay(again)
    async with opened_reading_all(config) as newer, working(newer, store):
        await settle(newer)
        assert store.stored == {"before": 1, "poisoned": 1, "after": 1}
        assert await operator(config).replay(again, again=True)
        await settle(newer)
    assert store.stored == {"before": 1, "poisoned": 1, "after": 1}


async def test_letters_of_streams_and_without_an_id_are_stored_once_when_replayed(config: KafkaConfig) -> None:
    store = TokenStore()
    async with opened(config) as bus, working(bus, store):
        for sequence, payload in ((1, b"wire"), (2, b"poison"), (3, b"wire")):
            await bus.publish(batch(producer="p", sequence=sequence, payload=payload))
        await bus.publish(batch(payload=b"poison"))
        await settle(bus)
    assert store.stored == {"p/1": 1, "p/3": 1}
    letters = await operator(config).dead_letters()
    assert len(letters) == 2
    async with opened_reading_all(config) as newer, working(newer, store):
        for _ in range(2):
            # Twice from the same list, as two operators who do not know of each other.
            for each in letters:
                assert await operator(config).replay(each)
            await settle(newer)
            assert store.stored == {"p/1": 1, "p/3": 1, **{each.letter.name: 1 for each in letters}}
        # The stream itself goes on.
        await newer.publish(batch(producer="p", sequence=4))
        await settle(newer)
    assert store.stored["p/4"] == 1
    replayed = [header for its in store.inserts.values() for header in its if header.request_id]
    assert {(header.tenant, header.producer_id, header.sequence) for header in replayed} == {("default", "", 0)}


@asynccontextmanager
async def opened_reading_all(config: KafkaConfig) -> AsyncIterator[KafkaBus[bytes]]:
    bus: KafkaBus[bytes] = KafkaBus(config, "test", lambda header, payload: payload, limits=LIMITS)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


async def test_a_poison_message_that_is_met_again_after_a_crash_is_known(config: KafkaConfig) -> None:
    config = config.model_copy(update={"partitions": 1})
    async with opened(config, role="serve") as serving:
        foreign = AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers)
        await foreign.start()
        await foreign.send_and_wait(config.topic("test"), b"not ours")
        await foreign.stop()
        await serving.publish(batch("good"))
        for _ in range(2):
            async with opened(config, role="work") as worker:
                insert = await worker.next_insert()
                if worker.dead_letters == 0:
                    # The poison was alone: it is committed, and this is the insert behind it.
                    await worker.commit(insert)
        assert len(await operator(config).dead_letters()) == 1


async def test_lag_counts_what_is_not_committed(config: KafkaConfig) -> None:
    async with opened(config) as bus:
        await until(lambda: len(bus.owned) == 4)
        for n in range(12):
            await bus.publish(batch(f"r{n}"))
        await until(lambda: bus.lag == 12)
        await until(lambda: bus.buffered_bytes == 12 * len(b"wire"))
        assert sum(lag.batches for lag in await operator(config).lag()) == 12
        insert = await bus.next_insert()
        (busy,) = [lag for lag in await operator(config).lag() if lag.metadata]
        assert busy.partition == partition_of(insert.last)
        assert busy.metadata == f"v1 end={insert.last - place(busy.partition, 0) - 1}"
        store = TokenStore()
        async with working(bus, store):
            await settle(bus)
        await until(lambda: bus.lag == 0)
        assert bus.buffered_bytes == 0
        assert [lag.batches for lag in await operator(config).lag()] == [0, 0, 0, 0]


async def test_a_worker_reads_ahead_within_bounds(config: KafkaConfig) -> None:
    config = config.model_copy(update={"max_buffered_bytes": 2_000_000})
    store = TokenStore()
    async with opened(config, role="serve") as serving, opened(config, role="work") as worker:
        await asyncio.gather(*(serving.publish(batch(f"r{n}", b"x" * 50_000)) for n in range(400)))
        await until(lambda: worker.buffered_bytes > 1_000_000)
        highest = 0
        for _ in range(50):
            highest = max(highest, worker.buffered_bytes)
            await asyncio.sleep(0.01)
        # Of each partition what is fetched in one go may come on top of its share.
        assert highest <= 2_000_000 + 4 * (8 << 20)
        async with working(worker, store):
            await settle(serving)
    assert len(store.stored) == 400


async def test_inserts_of_a_busy_partition_do_not_keep_others_waiting(config: KafkaConfig) -> None:
    async with opened(config) as bus:
        await until(lambda: len(bus.owned) == 4)
        for n in range(60):
            await bus.publish(batch(producer="busy", sequence=n + 1))
        busy = partition_of(await bus.publish(batch(producer="busy", sequence=61)))
        name = next(name for name in map(str, range(99)) if bus_partition(bus, name) != busy)
        # So many make an insert at once: fewer would wait for more, and those of the busy one may be quicker than that.
        lone, *_ = [await bus.publish(batch(name)) for _ in range(5)]
        await until(lambda: bus.buffered_bytes == 66 * len(b"wire"))
        order: list[Insert[bytes]] = []
        while lone not in [position for insert in order for position, _ in insert.batches]:
            insert = await bus.next_insert()
            await bus.commit(insert)
            order.append(insert)
        assert len(order) <= 2


def bus_partition(bus: KafkaBus[bytes], name: str) -> int | None:
    assert bus._publisher is not None
    return bus._publisher.partition_of(replace(batch().header, request_id=name))


async def test_positions_of_a_topic_without_batches_wait_for_nothing(config: KafkaConfig) -> None:
    async with opened(config, role="serve") as bus, asyncio.timeout(10):
        await bus.wait_settled(batch("nobody").header)
        await bus.wait_committed(Position(0))
        await bus.check()
