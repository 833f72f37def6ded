"""Several alert services on one PostgreSQL and Redis: each rule evaluated once, each notification sent once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from alert_replicas import INTERVAL, Replica, Replicas, gaps, open_replicas, until
from faults.keys import Keys
from service_process import ServiceProcess

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
RULES = tuple(f"busy-{number}" for number in range(8))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    async with open_replicas(tmp_path_factory.mktemp("replicas")) as opened:
        await opened.add_rules(*RULES)
        yield opened


def now() -> datetime:
    return datetime.now(UTC)


async def holder(replicas: Replicas) -> Replica:
    """The replica whose question is held."""
    waits = {asyncio.create_task(replica.signals.holding.wait()): replica for replica in replicas.all}
    done, pending = await asyncio.wait(waits, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    (first,) = done
    return waits[first]


async def test_each_rule_is_evaluated_once_per_interval_and_each_notification_sent_once(replicas: Replicas) -> None:
    await replicas.add_rules("calm", hosts=40)
    found = await replicas.until_evaluated(now() + 3 * INTERVAL, *RULES, "calm")
    assert {rule: gaps(moments) for rule, moments in found.items()} == {rule: [] for rule in (*RULES, "calm")}
    asked: Counter[tuple[str, datetime]] = sum((replica.signals.asked for replica in replicas.all), Counter())
    assert {key for key, times in asked.items() if times != 1} == set()
    await asyncio.gather(*(replica.until_asking() for replica in replicas.all))
    await replicas.until_told("calm", 40)
    assert set((await replicas.notified()).values()) == {1}
    assert list(replicas.receiver.keys.values()) == [1] * 40


async def test_what_a_killed_replica_was_evaluating_another_evaluates_for_the_same_moment(replicas: Replicas) -> None:
    for replica in replicas.all:
        replica.signals.held = {"killed"}
        replica.signals.holding.clear()
    await replicas.add_rules("killed", hosts=3)
    victim = await holder(replicas)
    victim.process.kill()
    for replica in replicas.all:
        replica.signals.held = set()
    found = await replicas.until_evaluated(now() + INTERVAL, *RULES, "killed")
    await victim.start()
    victim.signals.asked.clear()
    found = await replicas.until_evaluated(now() + 2 * INTERVAL, *RULES, "killed")
    assert {rule: gaps(found[rule]) for rule in (*RULES, "killed")} == {rule: [] for rule in (*RULES, "killed")}
    await victim.until_asking()
    await replicas.until_told("killed", 3)
    assert {key: count for key, count in replicas.receiver.keys.items() if count != 1} == {}
    assert set((await replicas.notified()).values()) == {1}


async def test_a_replica_that_stood_still_beyond_its_lease_writes_nothing_afterwards(replicas: Replicas) -> None:
    for replica in replicas.all:
        replica.signals.held = {"stopped"}
        replica.signals.holding.clear()
    await replicas.add_rules("stopped", hosts=3)
    victim = await holder(replicas)
    victim.send_signal(signal.SIGSTOP)
    try:
        for replica in replicas.all:
            replica.signals.held = set()
        await replicas.until_evaluated(now() + 2 * INTERVAL, *RULES, "stopped")
    finally:
        victim.signals.go.set()
        victim.send_signal(signal.SIGCONT)
    victim.signals.asked.clear()
    found = await replicas.until_evaluated(now() + 2 * INTERVAL, *RULES, "stopped")
    assert {rule: gaps(found[rule]) for rule in (*RULES, "stopped")} == {rule: [] for rule in (*RULES, "stopped")}
    assert await replicas.query("SELECT rule, error FROM evaluation_audit WHERE error <> ''") == []
    await victim.until_asking()
    await replicas.until_told("stopped", 3)
    assert set((await replicas.notified()).values()) == {1}


async def test_without_redis_alerts_go_on_and_it_is_used_again_when_it_is_back(replicas: Replicas) -> None:
    await asyncio.to_thread(replicas.redis.kill)
    await replicas.add_rules("unmarked", hosts=20)
    await replicas.until_told("unmarked", 20)
    assert [await replica.readiness() for replica in replicas.all] == [(200, "ready\n")] * 3
    await asyncio.to_thread(replicas.redis.start)
    await replicas.add_rules("marked", hosts=20)
    await replicas.until_told("marked", 20)
    found = await replicas.until_evaluated(now(), *RULES)
    assert {rule: gaps(found[rule]) for rule in RULES} == {rule: [] for rule in RULES}
    assert {key: count for key, count in replicas.receiver.keys.items() if count != 1} == {}


async def test_redis_cut_off_delays_notifications_and_loses_none(replicas: Replicas) -> None:
    replicas.redis_proxy.blackhole()
    await replicas.add_rules("cut-off", hosts=6)
    await replicas.until_told("cut-off", 6)
    assert [await replica.readiness() for replica in replicas.all] == [(200, "ready\n")] * 3
    assert replicas.redis_proxy.connections, "nobody asked Redis"
    replicas.redis_proxy.heal()
    found = await replicas.until_evaluated(now(), *RULES)
    assert {rule: gaps(found[rule]) for rule in RULES} == {rule: [] for rule in RULES}
    assert {key: count for key, count in replicas.receiver.keys.items() if count != 1} == {}


async def test_postgres_killed_and_back_is_found_again_and_nothing_is_evaluated_twice(replicas: Replicas) -> None:
    await asyncio.to_thread(replicas.postgres.kill)
    lost = now()

    async def say_so() -> bool:
        return all([(await replica.readiness())[0] == 503 for replica in replicas.all])

    await until(say_so)
    for replica in replicas.all:
        assert (await replica.readiness())[1] == "The alert store does not answer; try again shortly.\n"
    # One that starts meanwhile waits.
    restarted = replicas.all[0]
    restarted.process.kill()
    starting = asyncio.create_task(restarted.start())
    await until(lambda: asyncio.to_thread(lambda: "start_delayed" in restarted.process.log()))
    assert not starting.done()
    await asyncio.to_thread(replicas.postgres.start)
    back = now()
    await starting

    async def are_ready() -> bool:
        return [await replica.readiness() for replica in replicas.all] == [(200, "ready\n")] * 3

    await until(are_ready)
    for replica in replicas.all:
        replica.signals.asked.clear()
    await replicas.add_rules("after", hosts=20)
    found = await replicas.until_evaluated(now() + 2 * INTERVAL, *RULES, "after")
    for rule in RULES:
        for before, after in gaps(found[rule]):
            # Only what fell into the outage is missing, and moments keep their distance.
            assert lost - 2 * INTERVAL < before < after < back + 2 * INTERVAL
            assert (after - before) % INTERVAL == INTERVAL - INTERVAL
    assert all(len(moments) == len(set(moments)) for moments in found.values())
    await asyncio.gather(*(replica.until_asking() for replica in replicas.all))
    await replicas.until_told("after", 20)
    assert set((await replicas.notified()).values()) == {1}


@pytest.mark.parametrize(
    ("dsn", "redis", "ends_itself"),
    [
        ("postgresql://airis:s3cr3t@127.0.0.1:9/airis", "redis://:s3cr3t@127.0.0.1:9/0", False),
        ("postgresql://airis:s3cr3t#x@127.0.0.1:9/airis", "redis://:s3cr3t@127.0.0.1:9/0", True),
    ],
)
async def test_a_password_is_never_shown_and_a_wait_can_be_ended(
    dsn: str, redis: str, ends_itself: bool, tmp_path: Path
) -> None:
    service = ServiceProcess(
        "alerts",
        tmp_path,
        AIRIS_PROFILE="distributed",
        AIRIS_DISCOVERY__KIND="static",
        AIRIS_POSTGRES__DSN=dsn,
        AIRIS_REDIS__URL=redis,
        **Keys(tmp_path / "keys").settings,
    )
    with pytest.raises(AssertionError):
        await asyncio.to_thread(service.start, 60.0 if ends_itself else 1.0)
    assert service.process is not None
    if not ends_itself:
        await until(lambda: asyncio.to_thread(lambda: "start_delayed" in service.log()), 60.0)
    assert (service.process.poll() is not None) is ends_itself
    assert await asyncio.to_thread(service.stop) == (1 if ends_itself else 0)
    assert "s3cr3t" not in service.log()
    assert ("postgres.dsn" if ends_itself else "start_delayed") in service.log()
