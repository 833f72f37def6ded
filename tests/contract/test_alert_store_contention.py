"""Many replicas and people at the same rules at once: nothing is lost, told twice, or deadlocked."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from fakes.alert_world import World, open_world, simple_rule

from services.alerts.model import AlertState, Condition, EventKind, Source, WebhookTarget
from services.alerts.state import by_hand
from services.alerts.store.adapters.postgres import Postgres, open_pool, take_time
from services.alerts.store.adapters.postgres_events import append
from services.shared.errors import FailedPreconditionError, NotFoundError, UnavailableError


async def test_the_record_stays_whole_under_contention(postgres_dsn: str) -> None:
    chance = random.Random(7)
    async with open_world(postgres_dsn) as world:
        await world.add_channel("one")
        await world.add_channel("two")
        for number in range(6):
            duration = timedelta(seconds=10 * (number % 2))
            condition = Condition(Source.METRIC, f"m{number}", threshold=90, duration=duration)
            await world.add_rule(
                simple_rule(id=f"r{number}"),
                conditions=(condition,),
                group_by=("host",),
                channels=("one", "two"),
            )
        evaluators = [world.new_evaluator() for _ in range(2)]
        senders = [world.new_sender({WebhookTarget: world.sender_fake}) for _ in range(2)]

        async def person() -> None:
            for alert in await world.alerts.list("", 20, (AlertState.FIRING, AlertState.PENDING)):
                with suppress(FailedPreconditionError, NotFoundError):
                    if chance.random() < 0.5:
                        await world.alert_queries.resolve(alert.id, "kim", "")
                    else:
                        await world.alert_queries.acknowledge(alert.id, "kim", "")

        async def administrator() -> None:
            rule = f"r{chance.randrange(6)}"
            enabled = chance.random() < 0.7
            await world.rules.update(rule, "", lambda old: replace(old, enabled=enabled))

        for _ in range(12):
            for number in range(6):
                world.signals.set(f"m{number}", **{h: chance.choice([50.0, 95.0]) for h in "abcd"})
            world.clock.advance(10)
            await asyncio.gather(
                *(evaluator.run_once() for evaluator in evaluators),
                *(sender.run_once() for sender in senders),
                person(),
                administrator(),
            )
        await world.send(100)

        events = await world.all_events()
        assert len(events) > 100
        async with world.database.transaction() as connection:
            live = await connection.fetch("SELECT * FROM alerts ORDER BY id")
        await world.alerts.rebuild()
        async with world.database.transaction() as connection:
            assert await connection.fetch("SELECT * FROM alerts ORDER BY id") == live

        told = Counter((e.alert, e.actor) for e in events if e.kind is EventKind.NOTIFIED)
        for alert in {event.alert for event in events}:
            kinds = Counter(event.kind.name for event in events if event.alert == alert)
            assert kinds["FIRING"] <= 1
            assert kinds["RESOLVED"] + kinds["CANCELLED"] <= 1
            expected = kinds["FIRING"] * (1 + kinds["RESOLVED"])
            assert told[alert, "channels/one"] == told[alert, "channels/two"] == expected
        keys = [key for key, _ in world.sender_fake.sent]
        assert len(keys) == len(set(keys)) == sum(told.values())
        active = {row["id"] for row in live if row["state"] in (AlertState.FIRING, AlertState.PENDING)}
        async with world.database.transaction() as connection:
            remembered = await connection.fetch("SELECT alert_id FROM alert_groups WHERE alert_id <> ''")
        assert {row["alert_id"] for row in remembered} == active


async def test_an_event_never_becomes_visible_after_one_with_a_greater_number(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn) as world:
        world.signals.set("cpu", a=95, b=95)
        await world.add_rule(group_by=("host",))
        await world.evaluate()
        first, second = await world.alerts.list("", 2)
        before = await world.alerts.newest_event_number()

        async def acknowledge_other() -> None:
            await world.alert_queries.acknowledge(second.id, "lee", "")

        async with world.database.transaction() as connection:
            event = by_hand(first, EventKind.NOTIFIED, world.clock(), "channels/x", "")
            await append(connection, world.tenant, [event])
            other = asyncio.create_task(acknowledge_other())
            # It is either waiting for this transaction, or done: then it has overtaken.
            while not other.done() and not await waits_for_a_lock(world):
                pass
            assert not other.done()
            assert await world.alerts.events("", before, 10) == []
        await other
        kinds = [event.kind for event in await world.alerts.events("", before, 10)]
        assert kinds == [EventKind.NOTIFIED, EventKind.ACKNOWLEDGED]


async def waits_for_a_lock(world: World) -> bool:
    async with world.database.transaction() as connection:
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    return bool(count)


@pytest.mark.parametrize("amid", ["a transaction", "a statement"])
async def test_a_replica_that_stops_amid_a_transaction_gives_its_locks_back(postgres_dsn: str, amid: str) -> None:
    async with open_world(postgres_dsn) as world:
        await world.add_rule()
        stopped = Postgres(await open_pool(postgres_dsn, 1, command_timeout=0.5))
        changed = asyncio.Event()

        async def stand_still() -> None:
            async with stopped.transaction() as connection:
                await connection.execute("SELECT * FROM alert_rules FOR UPDATE")
                if amid == "a statement":
                    # PostgreSQL has its text and waits for its parameters: to it this is no idle transaction.
                    await connection.prepare("SELECT 1")
                # It says nothing; somebody else changes the rule nevertheless, and in time.
                await asyncio.wait_for(world.rules.delete("hot", ""), 8)
                changed.set()
                await connection.execute("SELECT 1")

        with pytest.raises(UnavailableError):
            await stand_still()
        assert changed.is_set()
        await stopped.close()


async def test_callers_of_connections_that_postgres_ends_are_told_to_come_again(postgres_dsn: str) -> None:
    database = Postgres(await open_pool(postgres_dsn, 8, 5.0))
    administrator = await asyncpg.connect(postgres_dsn)
    answers, unavailable, ended = asyncio.Queue[int](), 0, False

    async def caller() -> None:
        nonlocal unavailable
        while not ended:
            try:
                async with database.transaction() as connection:
                    answers.put_nowait(await connection.fetchval("SELECT 1"))
            except UnavailableError:
                unavailable += 1

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller())
            for _ in range(40):
                for _ in range(50):
                    assert await answers.get() == 1
                # As when PostgreSQL itself ends: each connection is told so, whatever it is doing.
                await administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid != pg_backend_pid()"
                )
            ended = True
        assert unavailable > 0
    finally:
        await administrator.close()
        await database.close()


async def test_a_transaction_that_needs_its_time_may_have_it(postgres_dsn: str) -> None:
    database = Postgres(await open_pool(postgres_dsn, 1, command_timeout=0.5))
    limits = []
    for needs in (False, True):
        async with database.transaction() as connection:
            if needs:
                await take_time(connection)
            limits.append(await connection.fetchval("SHOW transaction_timeout"))
    await database.close()
    assert limits == ["1s", "0"]
