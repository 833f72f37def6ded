"""A repeated request is recognized while its id is remembered, and never before the bus has the batch."""

from __future__ import annotations

import asyncio

import pytest

from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import COMMITTED, RecentIds
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError

HOUR = 3600 * 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * HOUR

    def __call__(self) -> int:
        return self.now


class Log:
    """Publishes under growing positions; `gate` holds publishes back, `failures` lets the next ones fail."""

    def __init__(self) -> None:
        self.published = 0
        self.failures = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self) -> Position:
        self.begun.set()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("The bus is closed.")
        self.published += 1
        return Position(self.published)


def unary(request_id: str, tenant: str = "default") -> Header:
    return Header(tenant, "m", 1_000 * HOUR, 1, request_id)


def stream(sequence: int, producer_id: str = "p") -> Header:
    return Header("default", "m", 1_000 * HOUR, 1, producer_id=producer_id, sequence=sequence)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.mark.parametrize("header", [unary("a"), stream(1)])
async def test_a_repetition_gets_the_position_of_the_first(clock: Clock, log: Log, header: Header) -> None:
    ids = RecentIds(clock=clock)
    assert await ids.publish_once(header, log.publish) == (1, False)
    assert await ids.publish_once(header, log.publish) == (1, True)


@pytest.mark.parametrize("header", [unary(""), stream(0)])
async def test_a_batch_without_an_id_is_always_published(clock: Clock, log: Log, header: Header) -> None:
    ids = RecentIds(clock=clock)
    assert [await ids.publish_once(header, log.publish) for _ in range(2)] == [(1, False), (2, False)]


async def test_the_same_id_of_another_tenant_is_another_request(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    await ids.publish_once(unary("a", "one"), log.publish)
    assert await ids.publish_once(unary("a", "two"), log.publish) == (2, False)


@pytest.mark.parametrize("header", [unary("a"), stream(1)])
async def test_a_repetition_waits_for_the_publish_under_way(clock: Clock, log: Log, header: Header) -> None:
    ids = RecentIds(clock=clock)
    log.gate.clear()
    calls = [asyncio.create_task(ids.publish_once(header, log.publish)) for _ in range(3)]
    await log.begun.wait()
    assert not any(call.done() for call in calls)
    log.gate.set()
    assert await asyncio.gather(*calls) == [(1, False), (1, True), (1, True)]


@pytest.mark.parametrize("header", [unary("a"), stream(1)])
async def test_when_the_publish_under_way_fails_the_next_caller_publishes(
    clock: Clock, log: Log, header: Header
) -> None:
    ids = RecentIds(clock=clock)
    log.gate.clear()
    log.failures = 1
    calls = [asyncio.create_task(ids.publish_once(header, log.publish)) for _ in range(3)]
    await log.begun.wait()
    log.gate.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, UnavailableError)
    assert sorted(others) == [(1, False), (1, True)]  # type: ignore[type-var]
    assert log.published == 1


async def test_a_publish_goes_on_when_its_caller_goes_away(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    log.gate.clear()
    call = asyncio.create_task(ids.publish_once(unary("a"), log.publish))
    await log.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    log.gate.set()
    assert await ids.publish_once(unary("a"), log.publish) == (1, True)


async def test_ids_of_the_store_count_as_committed_and_those_of_the_bus_have_their_position(
    clock: Clock, log: Log
) -> None:
    ids = RecentIds(clock=clock)
    ids.load_requests([("default", "old", clock.now - 25 * HOUR), ("default", "a", clock.now - HOUR)])
    ids.load_requests([("default", "b", clock.now)])
    ids.load_producers([("default", "p", 7, clock.now - HOUR)])
    ids.load_headers([(Position(5), unary("b")), (Position(6), stream(8))])
    assert await ids.publish_once(unary("a"), log.publish) == (COMMITTED, True)
    assert await ids.publish_once(unary("b"), log.publish) == (5, True)
    assert await ids.publish_once(stream(7), log.publish) == (6, True)
    assert ids.highest_sequence("default", "p") == 8
    assert await ids.publish_once(unary("old"), log.publish) == (1, False)


@pytest.mark.parametrize("header", [unary("a"), stream(1)])
async def test_an_id_is_forgotten_after_a_day(clock: Clock, log: Log, header: Header) -> None:
    ids = RecentIds(clock=clock)
    await ids.publish_once(header, log.publish)
    clock.now += 24 * HOUR
    assert (await ids.publish_once(header, log.publish))[1]
    clock.now += 1
    assert await ids.publish_once(header, log.publish) == (2, False)


async def test_the_newest_ids_are_kept_and_memory_is_bounded(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock, max_ids=160)
    for number in range(1_000):
        await ids.publish_once(unary(f"r{number}"), log.publish)
        assert len(ids) <= 170
    for number in range(840, 1_000):
        assert await ids.publish_once(unary(f"r{number}"), log.publish) == (number + 1, True)
    assert await ids.publish_once(unary("r0"), log.publish) == (1_001, False)


async def test_the_producer_that_was_silent_longest_is_forgotten_first(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock, max_producers=2)
    for name in "abc":
        await ids.publish_once(stream(1, name), log.publish)
    assert [ids.highest_sequence("default", name) for name in "abc"] == [0, 1, 1]


async def test_a_lower_sequence_that_comes_later_is_no_repetition(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    assert await ids.publish_once(stream(2), log.publish) == (1, False)
    assert ids.highest_sequence("default", "p") == 0
    assert await ids.publish_once(stream(1), log.publish) == (2, False)
    assert ids.highest_sequence("default", "p") == 2


async def test_a_lower_sequence_under_way_is_not_settled_by_a_higher_one(clock: Clock, log: Log) -> None:
    ids, slow = RecentIds(clock=clock), Log()
    slow.gate.clear()
    lower = asyncio.create_task(ids.publish_once(stream(1), slow.publish))
    await slow.begun.wait()
    await ids.publish_once(stream(2), log.publish)
    assert ids.highest_sequence("default", "p") == 0
    repeated = asyncio.create_task(ids.publish_once(stream(1), log.publish))
    slow.gate.set()
    assert await lower == (1, False)
    assert (await repeated)[1]
    assert ids.highest_sequence("default", "p") == 2
    assert log.published == 1


@pytest.mark.parametrize("settle", [True, False])
async def test_no_sequence_overtakes_a_refused_one(clock: Clock, log: Log, settle: bool) -> None:
    ids = RecentIds(clock=clock)
    await ids.publish_once(stream(1), log.publish)
    log.failures = 1
    with pytest.raises(UnavailableError):
        await ids.publish_once(stream(2), log.publish)
    with pytest.raises(ResourceExhaustedError) as refused:
        await ids.publish_once(stream(3), log.publish)
    assert refused.value.metadata == {"from_sequence": "2"}
    assert ids.highest_sequence("default", "p") == 1
    if settle:
        ids.settle(stream(2))
    else:
        assert not (await ids.publish_once(stream(2), log.publish))[1]
    await ids.publish_once(stream(3), log.publish)
    assert ids.highest_sequence("default", "p") == 3


async def test_gaps_of_a_producer_are_bounded(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    for sequence in range(2, 3_000, 2):
        await ids.publish_once(stream(sequence), log.publish)
    assert ids.highest_sequence("default", "p") > 0
    assert not (await ids.publish_once(stream(2_997), log.publish))[1]


@pytest.mark.parametrize("is_known_late", [False, True], ids=["refused before", "failed after"])
async def test_what_another_instance_took_is_not_waited_for(clock: Clock, log: Log, is_known_late: bool) -> None:
    ids = RecentIds(clock=clock)
    await ids.publish_once(stream(1), log.publish)
    log.failures = 1
    log.gate.clear()
    failing = asyncio.create_task(ids.publish_once(stream(2), log.publish))
    await asyncio.sleep(0)
    if is_known_late:
        ids.load_producers([("default", "p", 5, clock.now)])
    log.gate.set()
    with pytest.raises(UnavailableError):
        await failing
    if not is_known_late:
        ids.load_producers([("default", "p", 5, clock.now)])
    assert await ids.publish_once(stream(6), log.publish) == (2, False)


async def test_what_another_instance_took_before_a_refused_one_does_not_stand_for_it(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    log.failures = 1
    with pytest.raises(UnavailableError):
        await ids.publish_once(stream(7), log.publish)
    ids.load_producers([("default", "p", 6, clock.now)])
    with pytest.raises(ResourceExhaustedError):
        await ids.publish_once(stream(8), log.publish)


async def test_a_sequence_that_began_together_with_one_that_is_refused_does_not_overtake_it(
    clock: Clock, log: Log
) -> None:
    ids = RecentIds(clock=clock)
    log.failures = 1
    begun = (ids.publish_once(stream(sequence), log.publish) for sequence in (1, 2))
    first, second = await asyncio.gather(*begun, return_exceptions=True)
    assert isinstance(first, UnavailableError)
    assert isinstance(second, ResourceExhaustedError)
    assert second.metadata == {"from_sequence": "1"}
    assert log.published == 0
    await ids.publish_once(stream(1), log.publish)
    await ids.publish_once(stream(2), log.publish)
    assert ids.highest_sequence("default", "p") == 2


async def test_no_sequence_overtakes_one_that_could_not_be_looked_at(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    ids.refused(stream(1))
    ids.refused(unary("a"))
    with pytest.raises(ResourceExhaustedError):
        await ids.publish_once(stream(2), log.publish)
    await ids.publish_once(stream(1), log.publish)
    await ids.publish_once(stream(2), log.publish)


async def test_what_was_refused_while_an_earlier_one_was_repeated_is_not_overtaken_either(
    clock: Clock, log: Log
) -> None:
    ids = RecentIds(clock=clock)
    log.failures = 1
    with pytest.raises(UnavailableError):
        await ids.publish_once(stream(1), log.publish)
    with pytest.raises(ResourceExhaustedError):
        await ids.publish_once(stream(2), log.publish)
    ids.settle(stream(1))
    with pytest.raises(ResourceExhaustedError) as refused:
        await ids.publish_once(stream(3), log.publish)
    assert refused.value.metadata == {"from_sequence": "2"}
    for sequence in (2, 3):
        await ids.publish_once(stream(sequence), log.publish)
    assert ids.highest_sequence("default", "p") == 3


async def test_those_behind_a_refused_one_follow_as_soon_as_it_is_published_again(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)
    log.failures = 1
    with pytest.raises(UnavailableError):
        await ids.publish_once(stream(1), log.publish)
    log.gate.clear()
    log.begun.clear()
    first = asyncio.create_task(ids.publish_once(stream(1), log.publish))
    await log.begun.wait()
    second = asyncio.create_task(ids.publish_once(stream(2), log.publish))
    await asyncio.sleep(0)
    log.gate.set()
    assert not (await first)[1]
    assert not (await second)[1]


async def test_a_batch_that_is_refused_for_good_keeps_nobody_behind_it(clock: Clock, log: Log) -> None:
    ids = RecentIds(clock=clock)

    async def too_large() -> Position:
        raise InvalidArgumentError("The batch is too large.")

    with pytest.raises(InvalidArgumentError):
        await ids.publish_once(stream(1), too_large)
    await ids.publish_once(stream(2), log.publish)
