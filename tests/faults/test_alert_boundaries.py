"""A replica of the alert service dies or stands still at every step from a rule to its notification: each rule is
evaluated for each of its moments, each alert fires once, and each notification arrives once, or again under the same
key if its sender was gone before anybody knew that it had been sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from datetime import UTC, datetime
from pathlib import Path

import grpc
import psutil
import pytest
from airis.alerts.v1 import alerts_pb2 as pb
from alert_replicas import INTERVAL, Replica, Replicas, gaps, open_replicas, until
from faults.armed import alert_points
from faults.armed_services import ArmedService, judged
from faults.history import History, Outcome, Stored
from faults.matrix import MATRIX

from deploy.servers import Server

pytestmark = [pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(1200), pytest.mark.asyncio]

PROFILE = "three replicas"
HOSTS = 3
# Whoever dies before it has a rule tells nobody of it; later, some notifications may be on their way.
_TELLS_NOBODY = ("before create", "before commit of create", "after create")
# Nothing else asks Redis.
_TELLING = ("notify", "record notification")
_STILL = ", stands still"
# Gone, standing still, or asked in vain.
_NEXT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ALREADY_EXISTS)
# A point may be passed by the others: so many rules are made until one has it passed by the victim.
_MOST_RULES = 15


class Rules:
    """Rules, whose notifications are batches of one: "rule-3-0" is that of an alert of rule-3."""

    def __init__(self, replicas: Replicas) -> None:
        self.history = History()
        self.names: list[str] = []
        self._replicas = replicas

    async def add(self, first: int) -> str:
        """Asks one replica for another rule, and then the others if that one is gone; gives its name."""
        name = f"rule-{len(self.names)}"
        self.names.append(name)
        notifications = [f"{name}-{number}" for number in range(HOSTS)]
        for each in notifications:
            self.history.begin(each, 1)
            if self.history.fault.removesuffix(_STILL) not in _TELLS_NOBODY:
                self.history.repeat(each)
        count = len(self._replicas.all)
        for number in [(first + turn) % count for turn in range(count)]:
            try:
                await self._replicas.add_rules(name, hosts=HOSTS, replica=number)
            except grpc.aio.AioRpcError as error:
                # The next replica is asked; one that knows the rule already was asked in vain for the same.
                if error.code() not in _NEXT:
                    raise
            else:
                break
        else:
            # The one that took it may be gone: the others must know it.
            request = pb.GetAlertRuleRequest(name=f"alertRules/{name}")
            await self._replicas.call("GetAlertRule", request, (first + 1) % count)
        for each in notifications:
            self.history.settle(each, Outcome.ACKNOWLEDGED)
        return name

    async def told(self) -> dict[str, Stored]:
        """What the webhook has heard, by notification. One key is one notification, however often it came."""
        outbox = await self._replicas.query(
            "SELECT outbox.key, alerts.labels->>'host' AS host FROM outbox JOIN alerts ON alerts.id = outbox.alert_id"
        )
        heard: dict[str, Stored] = {}
        for row in outbox:
            before, times = heard.get(row["host"], Stored(0, 0)), self._replicas.receiver.keys[row["key"]]
            heard[row["host"]] = Stored(before.items + times, before.distinct + (times > 0))
        return heard


async def reach(
    replicas: Replicas, rules: Rules, number: int, point: str, count: int, sent: signal.Signals
) -> list[str]:
    """A replica dies or stands still at a point; gives the rules that were made until it did."""
    victim: Replica = replicas.all[number]
    assert isinstance(victim.process, ArmedService)
    victim.process.arm(point, count, sent)
    made = []
    for _ in range(_MOST_RULES):
        made.append(await rules.add(number))
        with contextlib.suppress(TimeoutError):
            await until(lambda: is_gone(victim), within=INTERVAL.total_seconds())
            return made
    raise AssertionError(f"replica {number} did not get to {point} {count} times")


async def die_at(replicas: Replicas, rules: Rules, number: int, point: str, count: int) -> None:
    """A replica dies at a point, and is started again once the others have told what there was to tell."""
    rules.history.fault = point
    made = await reach(replicas, rules, number, point, count, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    for name in made:
        await replicas.until_told(name, HOSTS)
    MATRIX.recovered(PROFILE, point, {"alerts": asyncio.get_running_loop().time() - began})
    await replicas.all[number].start()


async def stand_still_at(
    replicas: Replicas, rules: Rules, number: int, point: str, count: int, server: Server | None = None
) -> None:
    """A replica stands still at a point until all rules were evaluated without it, and then goes on.

    Args:
        server: Is killed meanwhile, and started again.
    """
    victim: Replica = replicas.all[number]
    rules.history.fault = point + _STILL + (f", {server.name} killed" if server else "")
    made = await reach(replicas, rules, number, point, count, signal.SIGSTOP)
    began = asyncio.get_running_loop().time()
    try:
        if server is not None:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        for name in made:
            await replicas.until_told(name, HOSTS)
        # Twice the lease: what the replica had taken is taken by the others.
        await replicas.until_evaluated(datetime.now(UTC) + INTERVAL, *rules.names)
    finally:
        victim.send_signal(signal.SIGCONT)
    MATRIX.recovered(PROFILE, rules.history.fault, {"alerts": asyncio.get_running_loop().time() - began})
    victim.signals.asked.clear()
    await victim.until_asking()


async def is_gone(victim: Replica) -> bool:
    """Whether it has died by its own hand, or stands still."""
    process = victim.process.process
    assert process is not None
    code = process.poll()
    assert code in (None, -signal.SIGKILL), victim.process.log()
    return code is not None or psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


async def judge(replicas: Replicas, rules: Rules) -> dict[str, list[datetime]]:
    """Finds that everything was told as it should be; gives the moments for which each rule was evaluated."""
    found = await replicas.until_evaluated(datetime.now(UTC) + 2 * INTERVAL, *rules.names)
    assert judged(PROFILE, "alerts", rules.history, await rules.told()) == []
    assert set((await replicas.notified()).values()) == {1}
    return {rule: found[rule] for rule in rules.names}


async def test_killed_at_every_boundary(tmp_path: Path, chance: random.Random) -> None:
    async with open_replicas(tmp_path, kind=ArmedService) as replicas:
        rules = Rules(replicas)
        for point in chance.sample(alert_points(), len(alert_points())):
            await die_at(replicas, rules, chance.randrange(len(replicas.all)), point, chance.randint(1, 2))
        found = await judge(replicas, rules)
        assert {rule: gaps(moments) for rule, moments in found.items()} == {rule: [] for rule in found}


async def test_it_stands_still_at_every_boundary(tmp_path: Path, chance: random.Random) -> None:
    async with open_replicas(tmp_path, kind=ArmedService) as replicas:
        rules = Rules(replicas)
        for point in chance.sample(alert_points(), len(alert_points())):
            await stand_still_at(replicas, rules, chance.randrange(len(replicas.all)), point, chance.randint(1, 2))
        found = await judge(replicas, rules)
        assert {rule: gaps(moments) for rule, moments in found.items()} == {rule: [] for rule in found}


async def test_a_server_dies_while_it_stands_still_at_some_boundaries(tmp_path: Path, chance: random.Random) -> None:
    async with open_replicas(tmp_path, kind=ArmedService) as replicas:
        rules = Rules(replicas)
        for point in chance.sample(alert_points(), 6):
            server = (
                chance.choice((replicas.postgres, replicas.redis)) if point.endswith(_TELLING) else replicas.postgres
            )
            victim = chance.randrange(len(replicas.all))
            await stand_still_at(replicas, rules, victim, point, chance.randint(1, 2), server)
        found = await judge(replicas, rules)
        # What was missed while PostgreSQL was away is not made up for, and nothing is evaluated twice.
        steps = {rule: [after - before for before, after in itertools.pairwise(found[rule])] for rule in found}
        wrong = {rule: [step for step in each if step < INTERVAL or step % INTERVAL] for rule, each in steps.items()}
        assert wrong == {rule: [] for rule in found}
