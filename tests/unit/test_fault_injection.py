"""Faults come when asked for, as often as asked for, and the same again for the same seed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from fakes.clock import FakeClock

from resilience.deadline import within
from resilience.errors import DeadlineExceededError, InjectedFaultError
from resilience.events import Event
from resilience.faults import FaultInjection


class World:
    """A policy whose delays pass on a fake clock."""

    def __init__(self, mode: str, **arguments: Any) -> None:
        self.mode = mode
        self.clock = FakeClock()
        self.runs = 0
        self.events: list[Event] = []
        self.faults = FaultInjection(
            "test", **{"random": Random(7), "sleep": self.clock.sleep, "sleep_sync": self.clock.advance, **arguments}
        )
        self.faults.events.subscribe(self.events.append)

    def operation(self) -> str:
        self.runs += 1
        return "answer"

    async def later(self) -> str:
        return self.operation()

    async def run(self) -> str:
        if self.mode == "async":
            return await self.faults.run(self.later)
        return self.faults.run_sync(self.operation)

    async def ends(self, calls: int) -> list[str]:
        found = []
        for _ in range(calls):
            try:
                found.append(await self.run())
            except InjectedFaultError:
                found.append("fault")
        return found


@pytest.fixture(params=["async", "blocking"])
def world(request: pytest.FixtureRequest) -> Callable[..., World]:
    return lambda **arguments: World(request.param, **arguments)


async def test_without_rates_nothing_is_changed(world: Callable[..., World]) -> None:
    it = world(delay=5.0)
    began_at = it.clock()
    assert await it.ends(50) == ["answer"] * 50
    assert (it.runs, it.events, it.clock()) == (50, [], began_at)


async def test_a_rate_of_one_fails_every_call_before_it_runs(world: Callable[..., World]) -> None:
    it = world(error_rate=1.0)
    assert await it.ends(50) == ["fault"] * 50
    assert (it.runs, it.faults.snapshot().errors) == (0, 50)


async def test_the_share_of_faults_is_what_was_asked_for(world: Callable[..., World]) -> None:
    it = world(error_rate=0.3)
    assert (await it.ends(2_000)).count("fault") == pytest.approx(600, abs=80)


async def test_the_same_seed_gives_the_same_faults_whatever_the_other_rates(world: Callable[..., World]) -> None:
    first = await world(error_rate=0.3).ends(200)
    assert await world(error_rate=0.3, delay_rate=0.5, delay=1.0).ends(200) == first
    assert await world(error_rate=0.3, random=Random(8)).ends(200) != first


async def test_the_error_is_the_tests_own(world: Callable[..., World]) -> None:
    with pytest.raises(ConnectionResetError):
        await world(error_rate=1.0, error=ConnectionResetError).run()


async def test_a_delay_passes_before_the_operation_runs(world: Callable[..., World]) -> None:
    it = world(delay_rate=1.0, delay=2.0)
    began_at = it.clock()
    assert await it.run() == "answer"
    assert it.clock() - began_at == 2.0
    assert [(event.kind, event.attributes["seconds"]) for event in it.events] == [("delay", 2.0)]


async def test_a_delay_ends_with_the_deadline(world: Callable[..., World]) -> None:
    it = world(delay_rate=1.0, delay=100.0)
    began_at = it.clock()
    with within(3.0, it.clock), pytest.raises(DeadlineExceededError):
        await it.run()
    assert (it.clock() - began_at, it.runs) == (3.0, 0)


async def test_a_lost_answer_is_of_an_operation_that_ran(world: Callable[..., World]) -> None:
    it = world(lost_rate=1.0)
    assert await it.ends(3) == ["fault"] * 3
    snapshot = it.faults.snapshot()
    assert (it.runs, snapshot.lost, snapshot.errors) == (3, 3, 0)


async def test_an_outage_begins_and_ends(world: Callable[..., World]) -> None:
    it = world()
    assert await it.run() == "answer"
    it.faults.change(error_rate=1.0)
    assert await it.ends(2) == ["fault"] * 2
    it.faults.change(error_rate=0.0)
    assert await it.run() == "answer"


async def test_a_wrong_change_changes_nothing(world: Callable[..., World]) -> None:
    it = world()
    with pytest.raises(ValueError, match="delay_rate of test"):
        it.faults.change(error_rate=1.0, delay_rate=2.0)
    assert await it.run() == "answer"


async def test_a_cancelled_call_ends_in_its_delay() -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    it = World("async", delay_rate=1.0, delay=1.0, sleep=sleep)
    task = asyncio.create_task(it.run())
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert it.runs == 0


def test_threads_share_one_sequence_of_faults() -> None:
    def ends(faults: FaultInjection, calls: int, into: list[str]) -> None:
        for _ in range(calls):
            try:
                into.append(faults.run_sync(lambda: "answer"))
            except InjectedFaultError:
                into.append("fault")

    alone: list[str] = []
    ends(FaultInjection("test", error_rate=0.3, random=Random(7)), 800, alone)
    shared = FaultInjection("test", error_rate=0.3, random=Random(7))
    together: list[str] = []
    threads = [threading.Thread(target=ends, args=(shared, 100, together)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(together) == Counter(alone)
    assert (shared.snapshot().calls, shared.snapshot().errors) == (800, alone.count("fault"))


@pytest.mark.parametrize("wrong", [{"error_rate": 1.5}, {"lost_rate": -0.1}, {"delay_rate": 2.0}, {"delay": -1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="test"):
        World("async", **wrong)
