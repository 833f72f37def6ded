"""The evaluator and the sender over a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes.alert_world import START, World, open_world, simple_rule

from services.alerts.config import AlertsConfig
from services.alerts.model import AlertState, Condition, NoData, Silence, Source
from services.alerts.notify.delivery import DeliveryError
from services.alerts.worker import retry_delay
from services.shared.errors import FailedPreconditionError, NotFoundError, UnavailableError


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with open_world(postgres_dsn) as opened:
        yield opened


async def test_a_rule_fires_and_resolves_and_each_is_told_once(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",), description="Look at it", labels={"team": "pay"})
    world.signals.set("cpu", 95)
    await world.evaluate()
    assert await world.send() == 1
    world.signals.set("cpu", 20)
    await world.evaluate(10)
    assert await world.send() == 1
    assert await world.send(1000) == 0
    assert world.sender_fake.events == ["FIRING", "RESOLVED"]
    assert await world.kinds() == ["FIRING", "NOTIFIED", "RESOLVED", "NOTIFIED"]
    alert = world.sender_fake.sent[1][1]["alert"]
    assert alert["startTime"] == alert["fireTime"] == "2026-11-21T12:00:00.000000Z"
    assert alert["resolveTime"] == "2026-11-21T12:00:10.000000Z"
    assert (alert["description"], alert["labels"], alert["value"]) == ("Look at it", {"team": "pay"}, 20)


async def test_each_group_has_an_alert_of_its_own(world: World) -> None:
    await world.add_rule(group_by=("host",))
    world.signals.set("cpu", a=95, b=20, c=99)
    await world.evaluate()
    world.signals.set("cpu", a=95, b=91, c=9)
    await world.evaluate(10)
    states = {alert.labels["host"]: alert.state for alert in await world.alerts.list("", 10)}
    assert states == {"a": AlertState.FIRING, "b": AlertState.FIRING, "c": AlertState.RESOLVED}


async def test_a_counted_group_that_vanishes_has_the_count_zero(world: World) -> None:
    errors = Condition(Source.LOGS, "level = ERROR", threshold=5)
    await world.add_rule(group_by=("host",), conditions=(errors,))
    world.signals.set("level = ERROR", a=9)
    await world.evaluate()
    world.signals.set("level = ERROR")
    await world.evaluate(10)
    assert await world.kinds() == ["FIRING", "RESOLVED"]


async def test_with_fire_a_group_that_vanishes_fires_although_it_was_well(world: World) -> None:
    await world.add_rule(group_by=("host",), no_data=NoData.FIRE)
    world.signals.set("cpu", a=20)
    await world.evaluate()
    world.signals.set("cpu")
    await world.evaluate(10)
    assert await world.kinds() == ["FIRING"]


async def test_an_alert_shows_the_newest_number_without_an_event(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.signals.set("cpu", 97)
    await world.evaluate(10)
    (alert,) = await world.alerts.list("", 1)
    assert alert.value == 97
    assert await world.kinds() == ["FIRING"]


async def test_pending_survives_a_restart_of_the_evaluator(world: World) -> None:
    condition = Condition(Source.METRIC, "cpu", threshold=90, duration=timedelta(seconds=20))
    await world.add_rule(conditions=(condition,))
    world.signals.set("cpu", 95)
    for _ in range(3):
        world.evaluator = world.new_evaluator()
        await world.evaluate()
        world.clock.advance(10)
    (alert,) = await world.alerts.list("", 1)
    assert (alert.state, alert.start_time, alert.fire_time) == (
        AlertState.FIRING,
        START,
        START + timedelta(seconds=20),
    )


async def test_a_signal_that_fails_resolves_nothing_and_is_told_on_the_rule(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.signals.answers["cpu"] = UnavailableError("Metrics answered UNAVAILABLE: no")
    await world.evaluate(10)
    assert "conditions[0]" in (await world.rules.get("hot")).last_error
    assert await world.kinds() == ["FIRING"]
    world.signals.set("cpu", 95)
    await world.evaluate(10)
    assert (await world.rules.get("hot")).last_error == ""
    assert await world.kinds() == ["FIRING"]


async def test_a_fault_in_one_rule_leaves_the_others_alone(world: World) -> None:
    await world.add_rule()
    await world.add_rule(simple_rule(id="other", conditions=(Condition(Source.METRIC, "memory", threshold=1),)))
    world.signals.answers["cpu"] = ZeroDivisionError()
    world.signals.set("memory", 2)
    assert await world.evaluate() == 2
    assert "log says why" in (await world.rules.get("hot")).last_error
    assert [event.rule for event in await world.all_events()] == ["other"]


async def test_too_many_groups_are_refused_and_said_on_the_rule(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, config=AlertsConfig(max_groups=2)) as world:
        await world.add_rule(group_by=("host",))
        world.signals.set("cpu", a=95, b=95, c=95)
        await world.evaluate()
        assert "3 groups" in (await world.rules.get("hot")).last_error
        assert await world.kinds() == []


async def test_groups_of_counts_that_never_come_back_are_not_remembered(world: World) -> None:
    errors = Condition(Source.LOGS, "level = ERROR", threshold=5)
    await world.add_rule(group_by=("host",), conditions=(errors,), no_data=NoData.FIRE)
    for number in range(3):
        world.signals.set("level = ERROR", **{f"new{number}": 1, f"bad{number}": 9})
        await world.evaluate(10)
    async with world.database.transaction() as connection:
        labels = await connection.fetch("SELECT labels FROM alert_groups")
    assert [row["labels"]["host"] for row in labels] == ["bad2"]


async def test_known_groups_and_new_ones_are_together_no_more_than_the_limit(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, config=AlertsConfig(max_groups=2)) as world:
        await world.add_rule(group_by=("host",))
        world.signals.set("cpu", a=95, b=95)
        await world.evaluate()
        world.signals.set("cpu", c=95)
        await world.evaluate(10)
        assert "3 groups" in (await world.rules.get("hot")).last_error
        assert await world.kinds() == ["FIRING", "FIRING"]
        # What ends makes room in the same evaluation.
        world.signals.set("cpu", a=20, c=95)
        await world.evaluate(10)
        assert (await world.rules.get("hot")).last_error == ""
        assert await world.kinds() == ["FIRING", "FIRING", "RESOLVED", "FIRING"]


async def test_silences_that_have_not_ended_are_limited_and_each_tenant_has_its_own(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, config=AlertsConfig(max_silences=2)) as world:
        await world.add_silence(60, name="first")
        await world.add_silence(600, name="second")
        with pytest.raises(FailedPreconditionError, match=r"2 silences that have not ended.*delete some"):
            await world.add_silence(60, name="third")
        with pytest.raises(NotFoundError):
            await world.silences.get("third")
        await world.of("other").add_silence(60)
        world.clock.advance(60)
        await world.add_silence(60, name="third")

        def prolonged(silence: Silence) -> Silence:
            return replace(silence, end_time=world.clock() + timedelta(hours=1))

        with pytest.raises(FailedPreconditionError):
            await world.silences.update("first", "", prolonged)
        await world.silences.update("second", "", prolonged)
        await world.silences.delete("third", "")
        await world.silences.update("first", "", prolonged)


async def test_silences_that_come_at_the_same_moment_are_no_more_than_the_limit(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, config=AlertsConfig(max_silences=3)) as world:
        done = await asyncio.gather(
            *(world.add_silence(60, name=f"quiet{number}") for number in range(8)), return_exceptions=True
        )
        assert sum(isinstance(each, FailedPreconditionError) for each in done) == 5
        assert len(await world.silences.list("", 10)) == 3


@pytest.mark.parametrize("change", ["deleted", "disabled", "asks something else"])
async def test_a_rule_that_no_longer_asks_ends_its_alerts_and_says_so(world: World, change: str) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.clock.advance(5)
    if change == "deleted":
        await world.rules.delete("hot", "")
    elif change == "disabled":
        await world.rules.update("hot", "", lambda rule: replace(rule, enabled=False))
    else:
        await world.rules.update("hot", "", lambda rule: replace(rule, group_by=("host",)))
    await world.send()
    assert world.sender_fake.events == ["FIRING", "RESOLVED"]
    assert "the rule was" in (await world.all_events())[1].comment


async def test_a_rule_whose_text_changes_keeps_its_alerts(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 95)
    await world.evaluate()
    await world.rules.update("hot", "", lambda rule: replace(rule, display_name="Hotter"))
    await world.evaluate(10)
    assert await world.kinds() == ["FIRING"]


async def test_an_alert_ended_by_hand_is_told_and_fires_again_only_after_a_break(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    (alert,) = await world.alerts.list("", 1)
    ended = await world.alert_queries.resolve(alert.id, "kim", "rebooted")
    assert (ended.state, ended.resolve_time) == (AlertState.RESOLVED, world.clock())
    await world.evaluate(10)
    world.signals.set("cpu", 20)
    await world.evaluate(10)
    world.signals.set("cpu", 95)
    await world.evaluate(10)
    await world.send()
    assert sorted(world.sender_fake.events) == ["FIRING", "FIRING", "RESOLVED"]
    with pytest.raises(FailedPreconditionError):
        await world.alert_queries.resolve(alert.id, "kim", "")
    with pytest.raises(FailedPreconditionError):
        await world.alert_queries.acknowledge(alert.id, "kim", "")


async def test_to_acknowledge_again_adds_no_event(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 95)
    await world.evaluate()
    (alert,) = await world.alerts.list("", 1)
    for _ in range(2):
        acknowledged = await world.alert_queries.acknowledge(alert.id, "kim", "mine")
    assert (acknowledged.acknowledged_by, acknowledged.state) == ("kim", AlertState.FIRING)
    assert await world.kinds() == ["FIRING", "ACKNOWLEDGED"]


async def test_a_silenced_alert_is_told_when_the_silence_ends_while_it_fires(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",), labels={"team": "pay"})
    await world.add_silence(60, "labels.team = pay AND severity >= MEDIUM")
    world.signals.set("cpu", 95)
    await world.evaluate()
    assert await world.send() == 0
    (alert,) = (await world.alert_queries.list("", 10)).items
    assert alert.silenced
    assert await world.send(59) == 0
    assert await world.send(1) == 1
    assert world.sender_fake.events == ["FIRING"]
    assert not (await world.alert_queries.get(alert.id)).silenced


async def test_an_alert_that_comes_and_goes_under_a_silence_is_never_told(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    await world.add_silence(60, 'rule = "alertRules/hot"')
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.signals.set("cpu", 20)
    await world.evaluate(10)
    assert await world.send(100) == 0


async def test_who_was_told_of_the_begin_is_told_of_the_end_after_the_silence(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    await world.send()
    await world.add_silence(60)
    world.signals.set("cpu", 20)
    await world.evaluate(10)
    assert await world.send() == 0
    assert await world.send(60) == 1
    assert world.sender_fake.events == ["FIRING", "RESOLVED"]


async def test_a_silence_that_does_not_match_holds_nothing_back(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    await world.add_silence(60, "severity = CRITICAL")
    world.signals.set("cpu", 95)
    await world.evaluate()
    assert await world.send() == 1


async def test_a_failed_attempt_is_repeated_later_with_the_same_key(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.sender_fake.failures = [DeliveryError("answered 503"), DeliveryError("answered 503")]
    assert await world.send() == 1
    assert await world.send(0.9) == 0
    assert await world.send(0.1) == 1
    assert await world.send(1.9) == 0
    assert await world.send(0.1) == 1
    assert world.sender_fake.events == ["FIRING"]
    assert await world.kinds() == ["FIRING", "NOTIFIED"]


async def test_after_its_last_attempt_a_notification_is_given_up_and_recorded(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.sender_fake.failures = [DeliveryError("answered 503") for _ in range(10)]
    for _ in range(5):
        await world.send(100)
    events = await world.all_events()
    assert [event.kind.name for event in events] == ["FIRING", "NOTIFICATION_FAILED"]
    assert (events[1].actor, events[1].comment) == ("channels/ops", "answered 503")
    assert len(world.sender_fake.failures) == 10 - world.config.notification_attempts


async def test_a_permanent_failure_is_not_repeated(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    world.sender_fake.failures = [DeliveryError("answered 404", permanent=True)]
    assert [await world.send(100), await world.send(100)] == [1, 0]
    assert (await world.kinds())[-1] == "NOTIFICATION_FAILED"


async def test_two_senders_send_each_notification_once(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",), group_by=("host",))
    world.signals.set("cpu", **{f"host{number}": 95.0 for number in range(30)})
    await world.evaluate()
    other = world.new_sender({type((await world.channels.get("ops")).target): world.sender_fake})
    await asyncio.gather(world.sender.run_once(), other.run_once())
    keys = [key for key, _ in world.sender_fake.sent]
    assert len(keys) == len(set(keys)) == 30


async def test_a_watch_gives_every_event_from_then_on_once_and_in_order(world: World) -> None:
    await world.add_rule(group_by=("host",))
    world.signals.set("cpu", before=95)
    await world.evaluate()
    world.signals.set("cpu", before=95, a=95, b=95)
    watch = await world.alert_queries.watch('kind = FIRING AND labels.host != "b"')
    async with aclosing(watch), asyncio.timeout(20):
        first = asyncio.ensure_future(anext(watch))
        await world.evaluate(10)
        assert (await first).labels == {"host": "a"}
        world.signals.set("cpu", before=95, a=95, b=95, c=95)
        await world.evaluate(10)
        assert (await anext(watch)).labels == {"host": "c"}


async def test_a_watch_ends_when_the_service_stops(world: World) -> None:
    watch = await world.alert_queries.watch("")
    async with aclosing(watch), asyncio.timeout(20):
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        world.alert_queries.close()
        await world.signal.stop()
        with pytest.raises(UnavailableError):
            await waiting


async def test_the_loops_work_until_they_are_stopped_and_finish_what_they_began(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    stop = asyncio.Event()
    watch = await world.alert_queries.watch("kind = NOTIFIED")
    async with aclosing(watch), asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(world.evaluator.run(stop))
        group.create_task(world.sender.run(stop))
        assert (await anext(watch)).actor == "channels/ops"
        stop.set()
    assert world.sender_fake.events == ["FIRING"]


def test_attempts_wait_longer_each_time_up_to_a_limit_and_as_long_as_the_receiver_asks() -> None:
    config = AlertsConfig(notification_backoff=1, notification_backoff_limit=30)
    assert [retry_delay(attempt, None, config, 1.0) for attempt in (1, 2, 3, 6, 1000)] == [1, 2, 4, 30, 30]
    assert retry_delay(1, None, config, 0.0) == 0.5
    assert retry_delay(1, 7.0, config, 1.0) == 7
    assert retry_delay(1, 7000.0, config, 1.0) == 30
