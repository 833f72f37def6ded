"""What every bus promises (`services/shared/bus/port.py`), whatever its technology."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.servers import Server
from services.shared.bus.adapters.journal import Journal
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Batch, Bus, Header, Insert, InsertLimits, Position, partition_of
from services.shared.errors import ResourceExhaustedError, UnavailableError

Columns = tuple[Header, bytes]
LIMITS = InsertLimits(max_items=30, max_bytes=10_000, max_age=0.01)
# What was published is read back over the network: it must be there before its age makes an insert of it.
REMOTE_LIMITS = replace(LIMITS, max_age=0.5)

ONE_PROCESS = "one process publishes and consumes, and remembers what it published"
BOUNDED = "what is not committed is bounded by its size"


@dataclass(frozen=True)
class Fixture:
    """Opens the same bus again and again.

    Attributes:
        open: Opens it; takes other limits than the fixture's.
        declined: The promises that it does not make.
    """

    open: Callable[..., AbstractAsyncContextManager[Bus[Columns]]]
    declined: frozenset[str] = frozenset()


def decode(header: Header, payload: bytes) -> Columns:
    return header, payload


def batch(name: str, items: int = 10, payload: bytes | None = None) -> Batch[Columns]:
    header = Header("default", "airis.test.Batch", 1_700_000_000_000_000_000, items, request_id=name)
    return Batch(header, name.encode() if payload is None else payload, decode)


def journal_fixture(directory: Path) -> Fixture:
    @asynccontextmanager
    async def open_journal(limits: InsertLimits = LIMITS, backlog_bytes: int = 1 << 30) -> AsyncIterator[Bus[Columns]]:
        journal = Journal(
            directory / "journal", decode, limits=limits, segment_bytes=2_000, max_backlog_bytes=backlog_bytes
        )
        await journal.open()
        try:
            yield journal
        finally:
            await journal.close()

    return Fixture(open_journal)


def kafka_fixture(kafka: Server, name: str) -> Fixture:
    # One partition has one order, which is what most tests look at.
    config = KafkaConfig(bootstrap_servers=kafka.address, topic_prefix=name, partitions=1, session_timeout=6)

    @asynccontextmanager
    async def open_kafka(limits: InsertLimits = REMOTE_LIMITS) -> AsyncIterator[Bus[Columns]]:
        bus = KafkaBus(config, "test", decode, limits=limits)
        await bus.open()
        try:
            yield bus
        finally:
            await bus.close()

    return Fixture(open_kafka, frozenset({ONE_PROCESS, BOUNDED}))


@pytest.fixture(params=["journal", pytest.param("kafka", marks=pytest.mark.servers)])
def buses(request: pytest.FixtureRequest, tmp_path: Path) -> Fixture:
    if request.param == "journal":
        made = journal_fixture(tmp_path)
    else:
        made = kafka_fixture(request.getfixturevalue("kafka"), f"contract-{uuid.uuid4().hex}")
    if (needed := request.node.get_closest_marker("promise")) and needed.args[0] in made.declined:
        request.applymarker(pytest.mark.xfail(strict=True, reason=f"declined: {needed.args[0]}"))
    return made


def content(insert: Insert[Columns]) -> tuple[str, Position, list[tuple[Position, Header, bytes]]]:
    return (
        insert.token,
        insert.last,
        [(position, each.header, each.payload) for position, each in insert.batches],
    )


async def drain(bus: Bus[Columns], last: Position) -> list[Insert[Columns]]:
    inserts = []
    while (await bus.committed())[partition_of(last)] < last:
        insert = await bus.next_insert()
        await bus.commit(insert)
        inserts.append(insert)
    return inserts


async def test_batches_come_out_once_in_the_order_of_their_positions(buses: Fixture) -> None:
    async with buses.open() as bus:
        positions = await asyncio.gather(*(bus.publish(batch(f"r{n}")) for n in range(50)))
        assert sorted(positions) == list(range(1, 51))
        inserts = await drain(bus, Position(50))
    got = [(position, each.header.request_id) for insert in inserts for position, each in insert.batches]
    assert got == sorted((position, f"r{n}") for n, position in enumerate(positions))


@pytest.mark.promise(ONE_PROCESS)
async def test_published_columns_reach_a_worker_of_the_same_process_without_decoding(buses: Fixture) -> None:
    async with buses.open() as bus:
        columns = (batch("other").header, b"computed by the check")
        await bus.publish(Batch(batch("a").header, b"wire", decode, columns))
        insert = await bus.next_insert()
        assert insert.batches[0][1].columns is columns


async def test_replayed_batches_have_the_same_header_and_decode_their_columns(buses: Fixture) -> None:
    header = replace(batch("id-é한").header, producer_id="p", sequence=2**62, rejected=(0, 3, 2**31), request_id="")
    async with buses.open() as bus:
        await bus.publish(Batch(header, b"\x00wire", decode, (header, b"computed")))
    async with buses.open() as bus:
        insert = await bus.next_insert()
        assert insert.batches[0][1].header == header
        assert insert.batches[0][1].columns == (header, b"\x00wire")


async def test_an_insert_ends_before_a_limit_is_exceeded(buses: Fixture) -> None:
    async with buses.open(InsertLimits(max_items=30, max_bytes=1_000, max_age=60)) as bus:
        for items, size in ((10, 1), (20, 1), (15, 1), (16, 1), (1, 600), (1, 500), (99, 2_000), (30, 1)):
            await bus.publish(batch("r", items, b"x" * size))
        inserts = await drain(bus, Position(8))
    assert [int(insert.last) for insert in inserts] == [2, 3, 5, 6, 7, 8]


async def test_an_insert_has_a_bounded_number_of_batches_however_small_they_are(buses: Fixture) -> None:
    async with buses.open(InsertLimits(max_batches=3, max_age=0.5)) as bus:
        for _ in range(7):
            await bus.publish(batch("r", 1, b"x"))
        inserts = await drain(bus, Position(7))
    assert [int(insert.last) for insert in inserts] == [3, 6, 7]


async def test_a_lone_batch_waits_no_longer_than_the_age_limit(buses: Fixture) -> None:
    async with buses.open() as bus, asyncio.timeout(5):
        waiting = asyncio.create_task(bus.next_insert())
        await bus.publish(batch("a", 1))
        assert (await waiting).last == 1


async def test_batches_that_arrive_while_one_waits_join_it(buses: Fixture) -> None:
    async with buses.open(InsertLimits(max_items=30, max_bytes=10_000, max_age=60)) as bus:
        waiting = asyncio.create_task(bus.next_insert())
        for name in "abc":
            await bus.publish(batch(name))
        assert [each.header.request_id for _, each in (await waiting).batches] == ["a", "b", "c"]


async def test_an_insert_that_is_not_committed_is_handed_out_again(buses: Fixture) -> None:
    async with buses.open() as bus:
        await bus.publish(batch("a"))
        first = await bus.next_insert()
        await bus.publish(batch("b"))
        assert content(await bus.next_insert()) == content(first)


async def test_an_insert_repeats_identically_after_reopening(buses: Fixture) -> None:
    async with buses.open() as bus:
        for name in "abcd":
            await bus.publish(batch(name))
        await bus.commit(await bus.next_insert())
        first = content(await bus.next_insert())
        assert first[1] == 4
        await bus.publish(batch("e"))
    async with buses.open(InsertLimits(max_items=1000)) as bus:
        again = await bus.next_insert()
        assert content(again) == first
        await bus.commit(again)
        following = await bus.next_insert()
        assert [position for position, _ in following.batches] == [5]
        assert following.token != first[0]


async def test_a_cancelled_wait_loses_nothing(buses: Fixture) -> None:
    async with buses.open(InsertLimits(max_items=20, max_bytes=10_000, max_age=60)) as bus:
        waiting = asyncio.create_task(bus.next_insert())
        await bus.publish(batch("a"))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await bus.publish(batch("b"))
        assert [position for position, _ in (await bus.next_insert()).batches] == [1, 2]


async def test_a_publisher_that_goes_away_does_not_break_the_others(buses: Fixture) -> None:
    async with buses.open() as bus:
        tasks = [asyncio.create_task(bus.publish(batch(f"r{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        taken = {result: f"r{n}" for n, result in enumerate(results) if isinstance(result, int)}
        assert set(taken.values()) >= {f"r{n}" for n in range(1, 20, 2)}
        inserts = await drain(bus, Position(max(taken)))
    durable = {position: each.header.request_id for insert in inserts for position, each in insert.batches}
    assert taken.items() <= durable.items()


async def test_waiters_return_when_their_position_is_committed(buses: Fixture) -> None:
    async with buses.open() as bus:
        await bus.wait_committed(Position(0))
        waiters = [asyncio.create_task(bus.wait_committed(Position(n))) for n in (1, 3, 4)]
        for name in "abcd":
            await bus.publish(batch(name))
        await bus.commit(await bus.next_insert())
        await asyncio.gather(*waiters[:2])
        assert not waiters[2].done()
        await bus.commit(await bus.next_insert())
        await waiters[2]


async def test_committing_twice_changes_nothing(buses: Fixture) -> None:
    async with buses.open() as bus:
        for name in "abcd":
            await bus.publish(batch(name))
        insert = await bus.next_insert()
        await bus.commit(insert)
        await bus.commit(insert)
        assert await bus.committed() == (3,)


@pytest.mark.promise(BOUNDED)
async def test_a_full_backlog_refuses_and_takes_again_after_a_commit(buses: Fixture) -> None:
    async with buses.open(backlog_bytes=3_000) as bus:
        published = Position(0)
        refused = None
        while refused is None:
            try:
                published = await bus.publish(batch("r", payload=b"x" * 600))
            except ResourceExhaustedError as error:
                refused = error
        assert refused.reason == "BACKLOG_FULL"
        assert refused.retry_after
        with pytest.raises(ResourceExhaustedError):
            bus.check_room(600)
        assert 0 < bus.backlog_bytes <= 3_000
        await drain(bus, published)
        assert bus.backlog_bytes == 0
        bus.check_room(600)
        assert await bus.publish(batch("again")) == published + 1


@pytest.mark.promise(ONE_PROCESS)
async def test_what_is_uncommitted_is_known_after_reopening(buses: Fixture) -> None:
    async with buses.open() as bus:
        for name in "abcde":
            await bus.publish(batch(name))
        await bus.commit(await bus.next_insert())
        size = getattr(bus, "backlog_bytes", 0)
    async with buses.open() as bus:
        assert [(position, header.request_id) for position, header in bus.uncommitted()] == [(4, "d"), (5, "e")]
        assert getattr(bus, "backlog_bytes", 0) == size
        assert await bus.committed() == (3,)
        await drain(bus, Position(5))
        assert not bus.uncommitted()


async def test_positions_are_never_used_again(buses: Fixture) -> None:
    for round_number in range(4):
        async with buses.open() as bus:
            position = await bus.publish(batch("r", payload=b"x" * 3_000))
            assert position == round_number + 1
            await drain(bus, position)


async def test_a_closed_bus_refuses_and_wakes_those_who_wait(buses: Fixture) -> None:
    # One batch alone is not an insert before the bus is closed.
    async with buses.open(InsertLimits(max_age=60)) as bus:
        waiting: list[Awaitable[object]] = [
            asyncio.create_task(bus.next_insert()),
            asyncio.create_task(bus.wait_committed(Position(9))),
        ]
        await asyncio.sleep(0)
        under_way = asyncio.create_task(bus.publish(batch("a")))
        await asyncio.sleep(0)
        await bus.close()
        assert await under_way == 1
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, UnavailableError)
        with pytest.raises(UnavailableError):
            await bus.publish(batch("b"))
    async with buses.open() as bus:
        assert [each.header.request_id for _, each in (await bus.next_insert()).batches] == ["a"]
