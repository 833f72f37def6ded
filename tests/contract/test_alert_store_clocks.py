"""What the alert store promises where clocks are wrong: that of a replica does no harm, and nothing waits for the time
of PostgreSQL's if it was hours ahead and was put right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from airis.alerts.v1 import alerts_pb2 as pb
from fakes.alert_world import START, World, open_world
from google.protobuf.field_mask_pb2 import FieldMask

from services.alerts.config import AlertsConfig
from services.alerts.convert import timestamp
from services.alerts.evaluate import GroupKey
from services.alerts.model import Condition, Silence, Source, WebhookTarget
from services.alerts.notify.delivery import DeliveryError
from services.alerts.notify.http import HttpPoster
from services.alerts.notify.webhook import WebhookSender
from services.alerts.state import Group, Step
from services.alerts.store.adapters.postgres import postgres_time
from services.alerts.store.port import DueRule
from services.shared.errors import InvalidArgumentError

AHEAD = 9 * 3600.0
LEASE = timedelta(seconds=4)
NOTIFICATION_LEASE = 20.0

wrong_clocks = pytest.mark.parametrize("ahead", [AHEAD, 400.0, -400.0, -AHEAD])
"""A replica's own clock is so many seconds ahead, or behind."""


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with open_world(postgres_dsn) as opened:
        yield opened


async def is_recorded(world: World, due: DueRule) -> bool:
    """Whether a result of that evaluation counts: only then it is asked what follows from it."""
    asked = []

    def advance(groups: Mapping[GroupKey, Group]) -> Sequence[Step]:
        asked.append(groups)
        return ()

    await world.all_rules.record_evaluation(due, advance, lambda _: False)
    return bool(asked)


async def take_one(world: World, seconds: float) -> DueRule:
    (due,) = await world.take_due(seconds, 1, LEASE)
    return due


async def test_a_rule_is_evaluated_again_as_soon_as_the_clock_is_right(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 20)
    assert [await world.evaluate(), await world.evaluate(AHEAD)] == [1, 1]
    world.signals.set("cpu", 95)
    assert await world.evaluate(5 - AHEAD) == 1
    assert await world.kinds() == ["FIRING"]
    (alert,) = await world.alerts.list("", 1)
    assert alert.fire_time == START + timedelta(seconds=5)
    # From then on once per interval, as if nothing had been.
    assert [await world.evaluate(9.9), await world.evaluate(0.1)] == [0, 1]


async def test_a_rule_that_is_changed_afterwards_is_evaluated_too(world: World) -> None:
    await world.add_rule()
    world.signals.set("cpu", 20)
    await world.evaluate(AHEAD)
    world.clock.advance(5 - AHEAD)
    await world.rules.update("hot", "", lambda rule: replace(rule, group_by=("host",)))
    world.signals.set("cpu", a=95)
    assert await world.evaluate() == 1
    assert await world.kinds() == ["FIRING"]


async def test_a_rule_that_was_made_by_a_clock_ahead_is_evaluated_when_it_is_right(world: World) -> None:
    world.clock.advance(AHEAD)
    await world.add_rule()
    assert await world.evaluate(-AHEAD) == 1


async def test_an_evaluation_that_was_under_way_holds_up_its_rule_no_longer_than_an_interval(world: World) -> None:
    await world.add_rule()
    early = await take_one(world, AHEAD)
    due = await take_one(world, 5 - AHEAD)
    assert due.at == START + timedelta(seconds=5)
    assert await is_recorded(world, early)
    await is_recorded(world, due)
    assert await world.take_due(3.9, 1, LEASE) == []
    assert await is_recorded(world, await take_one(world, 6.1))


async def test_results_that_take_longer_than_an_interval_count_again(world: World) -> None:
    await world.add_rule()
    await world.evaluate(AHEAD)
    slow = await take_one(world, 5 - AHEAD)
    following = await take_one(world, 10)
    assert await is_recorded(world, slow)
    assert await is_recorded(world, following)


async def test_an_alert_that_pends_since_a_moment_ahead_fires_after_its_duration(world: World) -> None:
    await world.add_rule(conditions=(Condition(Source.METRIC, "cpu", threshold=90, duration=timedelta(seconds=20)),))
    world.signals.set("cpu", 95)
    await world.evaluate(AHEAD)
    await world.evaluate(5 - AHEAD)
    await world.evaluate(10)
    assert await world.kinds() == ["PENDING"]
    await world.evaluate(10)
    assert await world.kinds() == ["PENDING", "FIRING"]


async def test_a_clock_that_goes_back_by_less_than_a_minute_repeats_no_evaluation(world: World) -> None:
    await world.add_rule()
    evaluated = []
    for _ in range(24):
        for step in (50, -50):
            for due in await world.take_due(step, 1, timedelta(seconds=30)):
                assert await is_recorded(world, due)
                evaluated.append((due.at - START).total_seconds())
        world.clock.advance(5)
    assert evaluated == list(range(50, 170, 10))


async def test_a_rule_with_a_long_interval_is_not_taken_for_one_that_was_planned_wrongly(world: World) -> None:
    await world.add_rule(evaluation_interval=timedelta(days=7))
    assert [await world.evaluate(), await world.evaluate(60), await world.evaluate(86_400)] == [1, 0, 0]


async def test_a_notification_that_was_put_off_is_sent_after_a_lease(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate(AHEAD)
    world.sender_fake.failures = [DeliveryError("answered 503")]
    assert await world.send() == 1
    # Until then whoever may be sending it just now can say so.
    assert [await world.send(5 - AHEAD), await world.send(NOTIFICATION_LEASE - 0.1)] == [0, 0]
    assert await world.send(0.1) == 1
    assert world.sender_fake.events == ["FIRING"]
    assert await world.send(1000) == 0


async def test_a_notification_of_a_moment_ahead_is_sent_after_a_lease(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate(AHEAD)
    assert [await world.send(-AHEAD), await world.send(NOTIFICATION_LEASE)] == [0, 1]


async def test_a_notification_waits_for_as_long_as_it_may_be_put_off(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    limit = world.config.notification_backoff_limit
    world.sender_fake.failures = [DeliveryError("answered 429", retry_after=limit)]
    assert [await world.send(), await world.send(limit - 0.1), await world.send(0.1)] == [1, 0, 1]


async def test_what_is_finished_is_forgotten_although_the_clock_was_ahead_the_last_time(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, config=AlertsConfig(notification_retention=60)) as world:
        await world.add_channel()
        await world.add_rule(channels=("ops",))
        await world.send(AHEAD)
        world.signals.set("cpu", 95)
        await world.evaluate(-AHEAD)
        await world.send()
        world.signals.set("cpu", 20)
        await world.evaluate(10)
        await world.send()
        await world.send(3600)
        async with world.database.transaction() as connection:
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_evaluates_for_the_same_moments_as_the_others(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    await world.add_rule(conditions=(Condition(Source.METRIC, "cpu", threshold=90, duration=timedelta(seconds=20)),))
    world.signals.set("cpu", 95)
    for first, second in 2 * [(world, replica), (replica, world)]:
        assert [await first.evaluate(), await second.evaluate()] == [1, 0]
        assert [await second.evaluate(5), await first.evaluate()] == [0, 0]
        world.clock.advance(5)
    delay = timedelta(seconds=world.config.ingestion_delay)
    assert [(end - START + delay).total_seconds() for _, end in world.signals.asked] == [0, 10, 20, 30]
    assert await world.kinds() == ["PENDING", "FIRING"]
    (alert,) = await world.alerts.list("", 1)
    assert alert.fire_time == START + timedelta(seconds=20)


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_leaves_alone_what_another_evaluates(world: World, ahead: float) -> None:
    await world.add_rule()
    due = await take_one(world, 0)
    assert [await world.replica(ahead).evaluate(LEASE.total_seconds() - 0.1), await world.evaluate()] == [0, 0]
    assert await is_recorded(world, due)


@wrong_clocks
async def test_a_rule_that_a_replica_whose_clock_is_wrong_made_or_changed_is_due_at_once(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    await replica.add_rule(evaluation_interval=timedelta(days=7))
    assert (await take_one(world, 0)).at == START
    world.clock.advance(5)
    await replica.rules.update("hot", "", lambda rule: replace(rule, group_by=("host",)))
    assert (await take_one(world, 0)).at == START + timedelta(seconds=5)


@wrong_clocks
async def test_that_a_person_ended_an_alert_at_a_replica_whose_clock_is_wrong_is_told_at_once(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    await world.add_channel()
    await world.add_rule(channels=("ops",), group_by=("host",))
    world.signals.set("cpu", a=95, b=95)
    await world.evaluate()
    assert await world.send() == 2
    await replica.alert_queries.resolve((await world.alerts.list("", 1))[0].id, "kim", "rebooted")
    assert await world.send() == 1
    await replica.rules.delete("hot", "")
    assert await world.send() == 1
    assert world.sender_fake.events == ["FIRING", "FIRING", "RESOLVED", "RESOLVED"]


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_tries_again_when_it_is_time_and_so_do_the_others(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    limit = world.config.notification_backoff_limit
    for first, second in ((world, replica), (replica, world)):
        world.sender_fake.failures = [DeliveryError("answered 429", retry_after=limit)]
        assert [await first.send(), await second.send(limit - 0.1), await first.send()] == [1, 0, 0]
        world.clock.advance(0.1)
    assert await world.send() == 1
    assert world.sender_fake.events == ["FIRING"]


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_sends_nothing_that_another_sends(world: World, ahead: float) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    (entry,) = await world.take_notifications(0, 1, timedelta(seconds=NOTIFICATION_LEASE))
    assert [await world.replica(ahead).send(NOTIFICATION_LEASE - 0.1), await world.send()] == [0, 0]
    await world.outbox.sent(entry)
    assert await world.kinds() == ["FIRING", "NOTIFIED"]


async def test_the_clock_that_counts_is_that_of_postgres(postgres_dsn: str) -> None:
    async with open_world(postgres_dsn, ask_time=postgres_time) as world:
        async with world.database.transaction() as connection:
            began = await connection.fetchval("SELECT clock_timestamp()")
        right = (began - START).total_seconds()
        replicas = [world.replica(right + ahead) for ahead in (AHEAD, -AHEAD)]
        await replicas[0].add_rule(evaluation_interval=timedelta(hours=1))
        world.signals.set("cpu", 95)
        assert [await replica.evaluate() for replica in (*replicas, *replicas)] == [1, 0, 0, 0]
        async with world.database.transaction() as connection:
            ended = await connection.fetchval("SELECT clock_timestamp()")
        (alert,) = await world.alerts.list("", 1)
        assert alert.fire_time is not None
        assert began <= alert.fire_time <= ended


async def test_a_silence_holds_from_its_start_until_just_before_its_end(world: World) -> None:
    await world.add_silence(60)
    holds = []
    for moment in (-0.001, 0, 59.999, 60):
        world.clock.now = START + timedelta(seconds=moment)
        holds.append(bool(await world.silences.active()))
    assert holds == [False, True, True, False]


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_keeps_silent_as_long_as_the_others(world: World, ahead: float) -> None:
    replica = world.replica(ahead)
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    await world.add_silence(60)
    world.signals.set("cpu", 95)
    assert [await replica.evaluate(), await replica.send(59.9)] == [1, 0]
    assert (await replica.alert_queries.list("", 1)).items[0].silenced
    assert await replica.send(0.1) == 1


@wrong_clocks
async def test_a_replica_whose_clock_is_wrong_forgets_no_notification_too_soon(world: World, ahead: float) -> None:
    replica = world.replica(ahead)
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    for value in (95, 10):
        world.signals.set("cpu", value)
        await world.evaluate(10)
    assert await replica.send() == 2
    retention = timedelta(minutes=1)
    world.clock.advance(60)
    assert await replica.outbox.prune(retention) == 0
    world.clock.advance(1)
    assert await replica.outbox.prune(retention) == 2


@wrong_clocks
async def test_a_silence_without_a_start_begins_at_once_whatever_the_replicas_clock(world: World, ahead: float) -> None:
    replica = world.replica(ahead)
    message = pb.Silence(end_time=timestamp(START + timedelta(seconds=60)))
    created = await replica.silence_endpoint.create(replica.tenant, message, "quiet")
    assert created.start_time.ToDatetime(UTC) == START
    assert [silence.id for silence in await world.silences.active()] == ["quiet"]


@wrong_clocks
async def test_a_silence_whose_start_is_taken_away_begins_at_once_whatever_the_replicas_clock(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    later = START + timedelta(hours=1)
    await world.silences.create(Silence(id="quiet", start_time=later, end_time=later + timedelta(hours=1)))
    world.clock.advance(5)
    patch = pb.Silence(name="silences/quiet")
    request = pb.UpdateSilenceRequest(silence=patch, update_mask=FieldMask(paths=["start_time"]))
    updated = await replica.silence_endpoint.update(replica.tenant, patch, request)
    assert updated.start_time.ToDatetime(UTC) == START + timedelta(seconds=5)
    assert [silence.id for silence in await world.silences.active()] == ["quiet"]


@wrong_clocks
async def test_a_silence_that_would_end_before_it_begins_is_refused_whatever_the_replicas_clock(
    world: World, ahead: float
) -> None:
    replica = world.replica(ahead)
    over = pb.Silence(name="silences/quiet", end_time=timestamp(START))
    with pytest.raises(InvalidArgumentError) as creation:
        await replica.silence_endpoint.create(replica.tenant, over, "quiet")
    assert await world.silences.list("", 10) == []
    kept = await world.add_silence(60)
    request = pb.UpdateSilenceRequest(silence=over, update_mask=FieldMask(paths=["start_time", "end_time"]))
    with pytest.raises(InvalidArgumentError) as update:
        await replica.silence_endpoint.update(replica.tenant, over, request)
    assert await world.silences.get("quiet") == kept
    for refused in (creation, update):
        assert [violation.field for violation in refused.value.violations] == ["silence.end_time"]


class FakePoster(HttpPoster):
    """Keeps the headers of what it is told to post, and fails."""

    def __init__(self) -> None:
        self.headers: list[Mapping[str, str]] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.headers.append(headers)
        raise DeliveryError("answered 503")


@wrong_clocks
async def test_each_attempt_at_a_webhook_is_signed_with_its_time_whatever_the_replicas_clock(
    world: World, ahead: float
) -> None:
    poster = FakePoster()
    sender = world.replica(ahead).new_sender({WebhookTarget: WebhookSender(poster)})
    await world.add_channel(secret="s3cret")
    await world.add_rule(channels=("ops",))
    world.signals.set("cpu", 95)
    await world.evaluate()
    assert await sender.run_once() == 1
    world.clock.advance(60)
    assert await sender.run_once() == 1
    start = int(START.timestamp())
    assert [int(headers["X-Airis-Timestamp"]) - start for headers in poster.headers] == [0, 60]
