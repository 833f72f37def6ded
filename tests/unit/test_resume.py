"""Where a producer goes on: what the server says when a stream opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.shared.bus import intake as intake_module
from services.shared.bus.adapters import kafka, kafka_publisher
from services.shared.bus.adapters.journal import Journal
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.adapters.kafka_offsets import Committed
from services.shared.bus.config import KafkaConfig
from services.shared.bus.intake import Intake, Origin
from services.shared.bus.port import Batch, Bus, Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import UnavailableError


class KeptIds:
    """Ids as a store keeps them that several processes share."""

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.asked = 0

    async def known_requests(self, headers: Sequence[Header]) -> set[tuple[str, str]]:
        return set()

    async def highest_sequences(self, producers: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        self.asked += 1
        return dict.fromkeys(producers, self.highest) if self.highest else {}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal[bytes]]:
    opened: Journal[bytes] = Journal(tmp_path / "journal", lambda header, payload: payload)
    await opened.open()
    yield opened
    await opened.close()


def intake(bus: Bus[bytes], stored: KeptIds | None) -> Intake[bytes]:
    return Intake(bus, RecentIds(clock=lambda: 1), lambda header, payload: payload, lambda: 1, stored)


async def take(taken: Intake[bytes], sequence: int) -> None:
    await taken.take(Origin("t", "airis.test.Batch", producer_id="p", sequence=sequence), 1, b"x", b"x", 1, {})


async def test_a_sender_that_does_not_know_is_told_what_the_store_has(journal: Journal[bytes]) -> None:
    assert await intake(journal, KeptIds(7)).resume_after("t", "p", None) == 7
    assert await intake(journal, KeptIds(0)).resume_after("t", "p", None) == 0


async def test_a_sender_that_knows_does_not_wait_for_the_store(journal: Journal[bytes]) -> None:
    stored = KeptIds(7)
    taken = intake(journal, stored)
    await take(taken, 8)
    assert await taken.resume_after("t", "p", 5) == 5
    assert await taken.resume_after("t", "p", 7) == 8
    assert stored.asked == 0


async def test_it_is_told_only_once_all_that_was_acknowledged_is_stored(
    journal: Journal[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_RESUME_SECONDS", 0.05)
    taken = intake(journal, KeptIds(0))
    await take(taken, 1)
    with pytest.raises(UnavailableError, match="settled_through") as error:
        await taken.resume_after("t", "p", None)
    assert error.value.retry_after
    monkeypatch.setattr(intake_module, "_RESUME_SECONDS", 10.0)
    asked = asyncio.create_task(taken.resume_after("t", "p", None))
    await journal.commit(await journal.next_insert())
    assert await asked == 1


async def test_one_process_that_knows_all_asks_nobody(journal: Journal[bytes]) -> None:
    taken = intake(journal, None)
    await take(taken, 1)
    assert await taken.resume_after("t", "p", None) == 1
    assert await taken.resume_after("t", "other", None) == 0


class SlowJournal(Journal[bytes]):
    """Publishes once it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda header, payload: payload)
        self.may_publish = asyncio.Event()

    async def publish(self, batch: Batch[bytes]) -> Position:
        await self.may_publish.wait()
        return await super().publish(batch)


async def test_what_an_earlier_stream_began_is_settled_before_a_new_one_numbers_its_batches(tmp_path: Path) -> None:
    journal = SlowJournal(tmp_path / "journal")
    await journal.open()
    taken = intake(journal, None)
    # The sender goes away amid it, and comes back with other data that would have the same number.
    former = asyncio.create_task(take(taken, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    former.cancel()
    resumed = asyncio.create_task(taken.resume_after("t", "p", None))
    await asyncio.wait([former])
    assert not resumed.done()
    journal.may_publish.set()
    assert await resumed == 1
    await journal.close()


class Broker:
    """Stands in for Kafka, its producer and its group's offsets: one partition, that takes batches once it is let."""

    partitions = 1

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Any]] = []
        self.end = 0
        self.is_let = False

    async def _nothing(self) -> None:
        pass

    open = start = stop = close = _nothing

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[Any]:
        sent = asyncio.get_running_loop().create_future()
        self.waiting.append(sent)
        if self.is_let:
            self.let()
        return sent

    def let(self) -> None:
        self.is_let = True
        for sent in self.waiting:
            sent.set_result(SimpleNamespace(offset=self.end))
            self.end += 1
        self.waiting.clear()

    async def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        return {0: self.end}

    async def beginnings(self, partitions: Sequence[int]) -> dict[int, int]:
        return {0: 0}

    async def committed(self, partitions: Sequence[int]) -> dict[int, Committed]:
        return {0: Committed(self.end, "")}


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()

    async def nothing(*_: object) -> None:
        pass

    async def limit(*_: object) -> int:
        return 1000

    monkeypatch.setattr(kafka, "ensure_topics", nothing)
    monkeypatch.setattr(kafka, "GroupOffsets", lambda *_: broker)
    monkeypatch.setattr(kafka_publisher, "AIOKafkaProducer", lambda **_: broker)
    monkeypatch.setattr(kafka_publisher, "message_limit", limit)
    return broker


async def test_what_kafka_may_take_yet_is_settled_before_a_new_stream_numbers_its_batches(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus: KafkaBus[bytes] = KafkaBus(
        KafkaConfig(publish_timeout=0.1), "test", lambda header, payload: payload, role="serve"
    )
    await bus.open()
    stored = KeptIds(0)
    taken = intake(bus, stored)
    with pytest.raises(UnavailableError, match="not known whether the batch was taken"):
        await take(taken, 1)
    # The sender comes back with other data, that would have the same number.
    monkeypatch.setattr(intake_module, "_RESUME_SECONDS", 0.05)
    with pytest.raises(UnavailableError, match="settled_through"):
        await taken.resume_after("t", "p", None)
    # Nobody else waits for it.
    assert await taken.resume_after("t", "other", None) == 0
    monkeypatch.setattr(intake_module, "_RESUME_SECONDS", 10.0)
    broker.let()
    stored.highest = 1
    assert await taken.resume_after("t", "p", None) == 1
    await take(taken, 2)
    assert broker.end == 2
    assert bus._publisher is not None
    assert not bus._publisher._unknown
    await bus.close()
