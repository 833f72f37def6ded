"""What the ports of the alert store promise, kept by PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
from fakes.alert_world import START, World, open_world, simple_rule

from services.alerts.model import (
    AlertState,
    Channel,
    Condition,
    EmailTarget,
    EscalationPolicy,
    EscalationStep,
    EventKind,
    Severity,
    Source,
    WebhookTarget,
)
from services.alerts.store.adapters.postgres import Postgres, migrate, open_pool
from services.shared.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)

LEASE = timedelta(seconds=4)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with open_world(postgres_dsn) as opened:
        yield opened


async def test_several_replicas_migrate_an_empty_database_at_once(postgres_dsn: str) -> None:
    databases = [Postgres(await open_pool(postgres_dsn, 2, 10)) for _ in range(4)]
    await asyncio.gather(*(migrate(database) for database in databases))
    await migrate(databases[0])
    async with databases[0].transaction() as connection:
        assert await connection.fetchval("SELECT count(*) FROM alert_migrations") == 3
    for database in databases:
        await database.close()


async def test_data_of_a_newer_version_is_refused_in_one_sentence(world: World) -> None:
    async with world.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO alert_migrations (number, name, checksum) VALUES (9999, '9999_x.sql', '')"
        )
    with pytest.raises(FailedPreconditionError, match="newer version"):
        await migrate(world.database)


async def test_an_applied_migration_that_was_edited_is_refused(world: World) -> None:
    async with world.database.transaction() as connection:
        await connection.execute("UPDATE alert_migrations SET checksum = 'other'")
    with pytest.raises(FailedPreconditionError, match="changed afterwards"):
        await migrate(world.database)


async def test_a_store_that_is_gone_is_unavailable(postgres_dsn: str) -> None:
    with pytest.raises(UnavailableError):
        await open_pool(postgres_dsn + "-nowhere", 2, 10)
    with pytest.raises(FailedPreconditionError, match=r"postgres\.dsn"):
        await open_pool(postgres_dsn.replace("/test_", "/none_"), 2, 10)


async def test_a_resource_comes_back_as_it_was_stored(world: World) -> None:
    await world.add_channel(secret="s3cret")
    rule = simple_rule(
        description="많이 뜨겁다",
        conditions=(
            Condition(Source.METRIC, "cpu", filter='host = "a"', threshold=0.1, window=timedelta(milliseconds=1500)),
            Condition(Source.LOGS, "level = ERROR", duration=timedelta(days=7)),
        ),
        channels=("ops",),
        group_by=("host", "service"),
        labels={"team": "pay"},
        severity=Severity.CRITICAL,
    )
    stored = await world.add_rule(rule)
    assert stored == await world.rules.get("hot")
    assert replace(stored, etag="", create_time=None, update_time=None) == rule
    assert stored.create_time == stored.update_time == START
    assert (await world.channels.get("ops")).webhook == WebhookTarget("http://127.0.0.1:9/hook", "s3cret")


async def test_a_taken_id_is_refused(world: World) -> None:
    await world.add_rule()
    with pytest.raises(AlreadyExistsError) as caught:
        await world.add_rule()
    assert caught.value.resource == ("alertRule", "alertRules/hot")


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    for call in (
        world.rules.get("none"),
        world.rules.update("none", "", lambda rule: rule),
        world.rules.delete("none", ""),
        world.alerts.get("none"),
        world.alerts.record_by_hand("none", EventKind.RESOLVED, "", "", lambda _: False),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_an_update_changes_the_etag_and_an_old_etag_is_refused(world: World) -> None:
    first = await world.add_rule()
    at = world.clock.advance(5)
    second = await world.rules.update("hot", first.etag, lambda rule: replace(rule, display_name="New"))
    assert second.display_name == "New"
    assert second.etag != first.etag
    assert (second.create_time, second.update_time) == (START, at)
    for attempt in (
        world.rules.update("hot", first.etag, lambda rule: rule),
        world.rules.delete("hot", first.etag),
    ):
        with pytest.raises(AbortedError):
            await attempt
    await world.rules.delete("hot", second.etag)
    with pytest.raises(NotFoundError):
        await world.rules.get("hot")


async def test_concurrent_updates_lose_nothing(world: World) -> None:
    await world.add_rule()

    async def add(number: int) -> None:
        await world.rules.update("hot", "", lambda rule: replace(rule, labels={**rule.labels, str(number): ""}))

    await asyncio.gather(*(add(number) for number in range(20)))
    assert set((await world.rules.get("hot")).labels) == {str(number) for number in range(20)}


async def test_of_two_updates_with_one_etag_one_wins(world: World) -> None:
    rule = await world.add_rule()
    results = await asyncio.gather(
        *(world.rules.update("hot", rule.etag, lambda rule: rule) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, AbortedError) for result in results) == 4


async def test_a_missing_channel_is_refused_and_nothing_is_written(world: World) -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        await world.add_rule(channels=("nobody",))
    assert caught.value.resource == ("channel", "channels/nobody")
    with pytest.raises(NotFoundError):
        await world.rules.get("hot")
    policy = EscalationPolicy(id="p", steps=(EscalationStep(("nobody",)),))
    with pytest.raises(FailedPreconditionError):
        await world.policies.create(policy)


async def test_a_channel_in_use_is_not_deleted(world: World) -> None:
    await world.add_channel()
    await world.add_rule(channels=("ops",))
    with pytest.raises(FailedPreconditionError, match="in use"):
        await world.channels.delete("ops", "")
    await world.rules.update("hot", "", lambda rule: replace(rule, channels=()))
    await world.channels.delete("ops", "")


async def test_policies_are_kept_with_their_steps(world: World) -> None:
    await world.channels.create(Channel(id="mail", email=EmailTarget(("a@example.com",))))
    policy = EscalationPolicy(id="p", steps=(EscalationStep(("mail",), timedelta(minutes=5)),), repeat_count=2)
    stored = await world.policies.create(policy)
    assert (await world.policies.get("p")) == stored
    assert stored.steps == policy.steps


async def test_a_text_that_postgresql_cannot_keep_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(InvalidArgumentError, match=r"U\+0000"):
        await world.add_rule(display_name="a\0b")


async def test_paging_visits_everything_once_while_others_come_and_go(world: World) -> None:
    names = [f"rule-{number:03}" for number in range(0, 100, 2)]
    for name in names:
        await world.add_rule(id=name)
    seen: list[str] = []
    cursor = ""
    while True:
        page = await world.rule_queries.list(7, cursor)
        seen += [rule.id for rule in page.items]
        number = 2 * len(seen) + 1
        await world.add_rule(id=f"rule-{number:03}-new")
        if page.cursor is None:
            break
        cursor = page.cursor
    assert [name for name in seen if not name.endswith("-new")] == names
    assert len(seen) == len(set(seen))


async def test_two_evaluators_share_the_rules_each_once_per_interval(world: World) -> None:
    for number in range(40):
        await world.add_rule(
            id=f"rule-{number}", conditions=(Condition(Source.METRIC, f"metric-{number}", threshold=1),)
        )
    evaluators = [world.new_evaluator() for _ in range(2)]
    for interval in range(1, 4):
        counts = await asyncio.gather(*(evaluator.run_once() for evaluator in evaluators))
        assert sum(counts) == 40
        subjects = [subject for subject, _ in world.signals.asked]
        assert all(subjects.count(f"metric-{number}") == interval for number in range(40))
        world.clock.advance(9.9)
        assert await evaluators[0].run_once() == 0
        world.clock.advance(0.1)


async def test_a_rule_is_evaluated_for_multiples_of_its_interval_and_missed_ones_are_left_out(
    world: World,
) -> None:
    await world.add_rule()
    await world.evaluate()
    await world.evaluate(10.4)
    await world.evaluate(35)
    await world.evaluate(4.6)
    delay = timedelta(seconds=world.config.ingestion_delay)
    ends = [(end - START + delay).total_seconds() for _, end in world.signals.asked]
    assert ends == [0, 10, 40, 50]


async def test_a_disabled_rule_is_not_taken(world: World) -> None:
    await world.add_rule(enabled=False)
    assert await world.evaluate() == 0
    await world.rules.update("hot", "", lambda rule: replace(rule, enabled=True))
    assert await world.evaluate() == 1


async def test_a_result_that_comes_after_its_rule_was_changed_is_dropped(world: World) -> None:
    await world.add_rule()
    (due,) = await world.take_due(0, 1, LEASE)
    await world.rules.update("hot", "", lambda rule: replace(rule, display_name="Other"))
    written = await world.rules.record_evaluation(due, lambda groups: pytest.fail("not asked"), lambda _: False)
    assert written == ()


async def test_a_result_that_comes_after_a_newer_one_is_dropped(world: World) -> None:
    await world.add_rule()
    (old,) = await world.take_due(0, 1, LEASE)
    (new,) = await world.take_due(10, 1, LEASE)
    await world.rules.record_evaluation(new, lambda groups: (), lambda _: False)
    assert await world.rules.record_evaluation(old, lambda groups: pytest.fail("not asked"), lambda _: False) == ()


async def test_an_evaluation_whose_taker_died_is_given_out_again_for_the_same_moment(world: World) -> None:
    await world.add_rule()
    (first,) = await world.take_due(0, 1, LEASE)
    assert await world.take_due(3.9, 1, LEASE) == []
    (again,) = await world.take_due(0.1, 1, LEASE)
    assert again.at == first.at == START
    await world.rules.record_evaluation(again, lambda groups: (), lambda _: False)
    # Whoever was only slow has nothing to say any more, and the moments go on as if nothing had been.
    assert await world.rules.record_evaluation(first, lambda groups: pytest.fail("not asked"), lambda _: False) == ()
    assert await world.take_due(5.9, 1, LEASE) == []
    (following,) = await world.take_due(0.1, 1, LEASE)
    assert following.at == START + timedelta(seconds=10)


async def test_an_evaluation_that_failed_is_over(world: World) -> None:
    await world.add_rule()
    (due,) = await world.take_due(0, 1, LEASE)
    await world.rules.record_failure(due, "no answer")
    assert await world.take_due(9.9, 1, LEASE) == []
    assert len(await world.take_due(0.1, 1, LEASE)) == 1


async def test_a_moment_whose_taker_died_is_not_made_up_for_after_the_next_has_come(world: World) -> None:
    await world.add_rule()
    (lost,) = await world.take_due(0, 1, timedelta(seconds=30))
    (due,) = await world.take_due(25, 1, timedelta(seconds=30))
    assert due.at == START + timedelta(seconds=20)
    await world.rules.record_failure(lost, "late")
    assert await world.take_due(4, 1, LEASE) == []
    (following,) = await world.take_due(1, 1, LEASE)
    assert following.at == START + timedelta(seconds=30)


async def test_events_cannot_be_changed_or_removed(world: World) -> None:
    world.signals.set("cpu", 95)
    await world.add_rule()
    await world.evaluate()
    for statement in ("UPDATE alert_events SET actor = 'x'", "DELETE FROM alert_events", "TRUNCATE alert_events"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            async with world.database.transaction() as connection:
                await connection.execute(statement)
    assert await world.kinds() == ["FIRING"]


async def test_events_become_visible_in_the_order_of_their_numbers(world: World) -> None:
    for number in range(30):
        await world.add_rule(id=f"rule-{number}", conditions=(Condition(Source.METRIC, "cpu", threshold=90),))
    world.signals.set("cpu", 95)
    seen: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while not (done.is_set() and len(seen) >= 30):
            events = await world.alerts.events("", seen[-1] if seen else 0, 5)
            seen.extend(event.number for event in events)

    async def evaluate() -> None:
        await asyncio.gather(*(world.new_evaluator().run_once() for _ in range(3)))
        done.set()

    await asyncio.gather(read(), evaluate())
    assert len(seen) == 30


async def test_alerts_are_listed_newest_first_and_by_state(world: World) -> None:
    world.signals.set("cpu", a=95, b=95, c=95)
    await world.add_rule(group_by=("host",))
    await world.evaluate()
    world.signals.set("cpu", a=95, b=10, c=95)
    await world.evaluate(10)
    everything = await world.alerts.list("", 10)
    active = await world.alerts.list("", 10, (AlertState.FIRING, AlertState.PENDING))
    assert [alert.id for alert in everything] == sorted((alert.id for alert in everything), reverse=True)
    assert {alert.labels["host"] for alert in active} == {"a", "c"}
    assert {alert.labels["host"] for alert in await world.alerts.list("", 10, (AlertState.RESOLVED,))} == {"b"}
    assert [alert.id for alert in await world.alerts.list(everything[0].id, 1)] == [everything[1].id]


async def test_the_projection_is_rebuilt_from_the_events(world: World) -> None:
    await world.add_channel()
    world.signals.set("cpu", a=95, b=95, c=95)
    condition = Condition(Source.METRIC, "cpu", threshold=90, duration=timedelta(seconds=20))
    await world.add_rule(group_by=("host",), channels=("ops",), conditions=(condition,))
    await world.evaluate()
    world.signals.set("cpu", a=95, b=95, c=10)
    for _ in range(3):
        await world.evaluate(10)
        await world.send()
    first, second = (await world.alerts.list("", 10, (AlertState.FIRING,)))[:2]
    await world.alert_queries.acknowledge(first.id, "kim", "mine")
    await world.alert_queries.resolve(second.id, "kim", "done")
    async with world.database.transaction() as connection:
        live = await connection.fetch("SELECT * FROM alerts ORDER BY id")
        await connection.execute("DELETE FROM alerts")
    assert await world.alerts.rebuild() == 3
    async with world.database.transaction() as connection:
        assert await connection.fetch("SELECT * FROM alerts ORDER BY id") == live
    assert {row["state"] for row in live} == {AlertState.FIRING, AlertState.RESOLVED, AlertState.INACTIVE}


async def test_an_outbox_entry_goes_to_one_sender_and_comes_back_after_its_lease(world: World) -> None:
    await world.add_channel()
    world.signals.set("cpu", a=95, b=95, c=95, d=95)
    await world.add_rule(group_by=("host",), channels=("ops",))
    await world.evaluate()
    lease = timedelta(seconds=20)
    taken = await asyncio.gather(*(world.take_notifications(0, 3, lease) for _ in range(4)))
    keys = [entry.key for entries in taken for entry in entries]
    assert len(keys) == len(set(keys)) == 4
    assert await world.take_notifications(19, 10, lease) == []
    again = await world.take_notifications(1, 10, lease)
    assert {(entry.key, entry.attempts) for entry in again} == {(key, 2) for key in keys}


async def test_who_lost_the_lease_cannot_give_up_what_another_sends(world: World) -> None:
    await world.add_channel()
    world.signals.set("cpu", a=95, b=95)
    await world.add_rule(group_by=("host",), channels=("ops",))
    await world.evaluate()
    lease = timedelta(seconds=20)
    stale = await world.take_notifications(0, 10, lease)
    newest = {entry.key: entry for entry in await world.take_notifications(20, 10, lease)}
    for entry in stale:
        world.clock.advance(1)
        await world.outbox.failed(entry, "late")
    assert await world.kinds() == ["FIRING"] * 2
    world.clock.advance(1)
    await world.outbox.sent(newest[stale[0].key])
    # What was sent is sent, whoever holds the lease.
    world.clock.advance(1)
    await world.outbox.sent(stale[1])
    world.clock.advance(1)
    await world.outbox.failed(newest[stale[1].key], "refused as a repeat")
    assert await world.kinds() == ["FIRING", "FIRING", "NOTIFIED", "NOTIFIED"]
    assert await world.take_notifications(60, 10, lease) == []


async def test_that_an_alert_ended_is_not_told_before_that_it_began(world: World) -> None:
    await world.add_channel()
    world.signals.set("cpu", 95)
    await world.add_rule(channels=("ops",))
    await world.evaluate()
    (began,) = await world.take_notifications(0, 10, timedelta(seconds=60))
    world.signals.set("cpu", 10)
    await world.evaluate(10)
    assert await world.take_notifications(0, 10, timedelta(seconds=60)) == []
    await world.outbox.sent(began)
    (ended,) = await world.take_notifications(0, 10, timedelta(seconds=60))
    assert ended.payload["event"] == "RESOLVED"


async def test_finished_notifications_of_ended_alerts_are_forgotten(world: World) -> None:
    await world.add_channel()
    world.signals.set("cpu", a=95, b=95)
    await world.add_rule(channels=("ops",), group_by=("host",))
    await world.evaluate()
    world.signals.set("cpu", a=95, b=1)
    await world.evaluate(10)
    await world.send()
    retention = timedelta(minutes=1)
    world.clock.advance(60)
    assert await world.outbox.prune(retention) == 0
    world.clock.advance(1)
    assert await world.outbox.prune(retention) == 2
