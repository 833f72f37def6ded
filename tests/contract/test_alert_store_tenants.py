"""What the ports of the alert store promise to many tenants: apart from each other, and each in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from fakes.alert_world import World, open_world

from services.shared.errors import NotFoundError

LEASE = timedelta(seconds=4)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with open_world(postgres_dsn) as opened:
        yield opened


async def test_tenants_keep_the_same_names_apart(world: World) -> None:
    other = world.of("other")
    for each, number in ((world, 1), (other, 2)):
        await each.add_channel(url=f"http://127.0.0.1:{number}/")
        await each.add_silence(60, name=f"quiet-{number}")
        await each.add_rule(labels={"number": str(number)}, channels=("ops",))
    world.signals.set("cpu", 95)
    assert await world.evaluate() == 2
    assert sorted(world.signals.tenants) == ["default", "other"]
    world.clock.advance(1)
    await other.rules.delete("hot", "")
    assert (await world.rules.get("hot")).labels == {"number": "1"}
    assert await world.kinds() == ["FIRING"]
    assert await other.kinds() == ["FIRING", "RESOLVED"]
    assert [silence.id for silence in await other.silences.active()] == ["quiet-2"]
    with pytest.raises(NotFoundError):
        await other.alerts.get((await world.alerts.list("", 1))[0].id)
    assert await other.alerts.rebuild() == 1
    assert len(await world.alerts.list("", 10)) == 1
    assert await world.alerts.newest_event_number() < await other.alerts.newest_event_number()


async def test_a_tenant_with_many_due_rules_makes_nobody_wait_for_all_of_them(world: World) -> None:
    for number in range(30):
        await world.of("big").add_rule(id=f"rule-{number:02}")
    world.clock.advance(1)
    for tenant in ("small-1", "small-2"):
        for number in range(2):
            await world.of(tenant).add_rule(id=f"rule-{number:02}")
    taken = []
    # One free hand at a time: what was taken before must be remembered for the turns to go round.
    for _ in range(6):
        taken += [due.tenant for due in await world.take_due(0, 1, LEASE)]
    assert taken == ["big", "small-1", "small-2", "big", "small-1", "small-2"]
    rest = await world.take_due(0, 100, LEASE)
    assert [due.tenant for due in rest] == ["big"] * 28


async def test_a_tenant_with_many_notifications_makes_nobody_wait_for_all_of_them(world: World) -> None:
    world.signals.set("cpu", **{f"h{number}": 95.0 for number in range(20)})
    for tenant in ("big", "small"):
        await world.of(tenant).add_channel()
    await world.of("big").add_rule(channels=("ops",), group_by=("host",))
    await world.evaluate()
    world.signals.set("cpu", 95)
    await world.of("small").add_rule(channels=("ops",))
    await world.evaluate(1)
    lease = timedelta(seconds=60)
    taken = [await world.take_notifications(0, 2, lease) for _ in range(2)]
    assert [sorted(entry.tenant for entry in entries) for entries in taken] == [["big", "small"], ["big", "big"]]


async def test_a_silence_holds_back_the_notifications_of_its_own_tenant_only(world: World) -> None:
    other = world.of("other")
    world.signals.set("cpu", 95)
    for each in (world, other):
        await each.add_channel()
        await each.add_rule(channels=("ops",))
    await other.add_silence(60)
    await world.evaluate()
    assert await world.outbox.holding() == ["other"]
    assert await world.send() == 1
    assert await world.kinds() == ["FIRING", "NOTIFIED"]
    assert await other.kinds() == ["FIRING"]
    assert await world.send(60) == 1
    assert await world.outbox.holding() == []


async def test_news_of_events_wakes_their_tenant_only(world: World) -> None:
    other = world.of("other")
    await other.add_rule()
    await world.add_rule()
    world.signals.set("cpu", 95)
    with world.signal.subscribe("default") as news, world.signal.subscribe("other") as others:
        async with asyncio.timeout(20):
            await world.evaluate()
            (mine,), (theirs,) = await world.alerts.list("", 1), await other.alerts.list("", 1)
            await asyncio.gather(news.wait(), others.wait())
            news.clear()
            others.clear()
            await other.alert_queries.acknowledge(theirs.id, "kim", "")
            await others.wait()
            assert not news.is_set()
            await world.alert_queries.acknowledge(mine.id, "kim", "")
            await news.wait()
