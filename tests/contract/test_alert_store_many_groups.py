"""A rule with very many groups asks PostgreSQL no more often than one with few, and loses nothing by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from fakes.alert_world import START, World, open_world, simple_rule

from services.alerts.evaluate import group_key
from services.alerts.message import idempotency_key
from services.alerts.model import AlertEvent, Condition, EventKind, Source
from services.alerts.store.adapters.postgres import Postgres, open_pool

CHANNELS = ("one", "two")
END = START + timedelta(seconds=10)
LEASE = timedelta(seconds=4)


class CountingPostgres(Postgres):
    """Counts how often its callers wait for an answer of PostgreSQL."""

    answers = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().transaction() as connection:
            # The driver's own count. What it logs leaves out the uses of a prepared statement.
            before = connection._protocol.queries_count
            yield connection
            self.answers += connection._protocol.queries_count - before


async def add_rule(world: World, name: str) -> None:
    condition = Condition(Source.METRIC, name, threshold=90)
    await world.add_rule(simple_rule(id=name), conditions=(condition,), group_by=("host", "side"), channels=CHANNELS)


def set_groups(world: World, rule: str, count: int, value: float) -> None:
    """Gives so many groups a number; each second one is on the dark side."""
    world.signals.answers[rule] = {
        group_key({"host": f"h{number:04}", "side": ("light", "dark")[number % 2]}): value for number in range(count)
    }


@pytest.mark.parametrize("ending", ["they are over", "the rule is deleted"])
async def test_a_thousand_alerts_wait_for_as_many_answers_as_two(postgres_dsn: str, ending: str) -> None:
    async with open_world(postgres_dsn) as opened:
        database = CountingPostgres(await open_pool(postgres_dsn, 1, 10), ask_time=opened.clock.of_postgres)
        world = replace(opened, database=database)
        for channel in CHANNELS:
            await world.add_channel(channel)

        async def answers(rule: str, groups: int) -> tuple[int, int]:
            await add_rule(world, rule)
            set_groups(world, rule, groups, 95)
            begun = database.answers
            await world.evaluate(10)
            fired = database.answers
            if ending == "the rule is deleted":
                await world.rules.delete(rule, "")
                return fired - begun, database.answers - fired
            set_groups(world, rule, groups, 20)
            await world.evaluate(10)
            resolved = database.answers
            await world.rules.delete(rule, "")
            return fired - begun, resolved - fired

        # The first time, the driver also asks about types.
        await answers("first", 2)
        assert await answers("many", 1000) == await answers("few", 2)
        expected = [[kind] * count for count in (2, 1000, 2) for kind in ("FIRING", "RESOLVED")]
        assert await world.kinds() == list(chain.from_iterable(expected))
        await database.close()


async def test_each_of_a_thousand_alerts_is_told_as_if_it_were_the_only_one(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn) as world:
        for channel in CHANNELS:
            await world.add_channel(channel)
        await add_rule(world, "many")
        await world.add_silence(60, 'labels.side = "dark"', "dark")
        set_groups(world, "many", 1000, 95)
        await world.evaluate()
        fired = await world.all_events()
        assert [event.labels["host"] for event in fired] == [f"h{number:04}" for number in range(1000)]
        told = [(event, channel) for event in fired for channel in CHANNELS]
        held = {event.alert for event in fired if event.labels["side"] == "dark"}
        assert await outbox(world) == [
            row(event, channel, "HELD" if event.alert in held else "PENDING") for event, channel in told
        ]

        [lost] = await world.take_notifications(0, 1, LEASE)
        await world.outbox.failed(lost, "gone")
        # That the dark ones fired was told to nobody; that one light one ended is held back.
        await world.silences.delete("dark", "")
        await world.add_silence(60, 'labels.host = "h0500"', "late")
        set_groups(world, "many", 1000, 20)
        await world.evaluate(10)
        resolved = [event for event in await world.all_events() if event.kind is EventKind.RESOLVED]
        assert [event.labels for event in resolved] == [event.labels for event in fired]
        assert await outbox(world) == [
            *(
                row(event, channel, "FAILED", START)
                if (event.alert, channel) == (lost.alert, lost.channel)
                else row(event, channel, "DROPPED", END)
                if event.alert in held
                else row(event, channel, "PENDING")
                for event, channel in told
            ),
            *(
                row(event, channel, "HELD" if event.labels["host"] == "h0500" else "PENDING")
                for event in resolved
                for channel in CHANNELS
                if event.alert not in held and (event.alert, channel) != (lost.alert, lost.channel)
            ),
        ]


def row(event: AlertEvent, channel: str, status: str, finish_time: datetime | None = None) -> tuple[Any, ...]:
    """What the outbox has of an event for a channel."""
    key = idempotency_key(event, channel)
    told = (key, event.kind.name, f"alerts/{event.alert}", event.labels)
    # What failed was tried once.
    next_attempt_at = event.event_time + LEASE if status == "FAILED" else event.event_time
    return key, event.number, event.alert, channel, event.kind, status, next_attempt_at, finish_time, told


async def outbox(world: World) -> Sequence[tuple[Any, ...]]:
    """All that the outbox has, in the order of events."""
    async with world.database.transaction() as connection:
        rows = await connection.fetch("SELECT * FROM outbox ORDER BY event_number, channel_id")
    columns = ("key", "event_number", "alert_id", "channel_id", "kind", "status", "next_attempt_at", "finish_time")
    return [
        (
            *(row[column] for column in columns),
            (
                row["payload"]["idempotencyKey"],
                row["payload"]["event"],
                row["payload"]["alert"]["name"],
                row["payload"]["alert"]["labels"],
            ),
        )
        for row in rows
    ]
