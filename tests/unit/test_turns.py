"""When the handler of a call begins: at once, or after what else has arrived was looked at."""

from __future__ import annotations

import asyncio

import pytest
from airis.metrics.v1 import metrics_pb2
from fakes.clock import FakeClock

from resilience import load
from resilience.contract import policies
from resilience.grpc.guard import Guard
from resilience.grpc.turns import Turns
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import OpenDoor

INGEST = "/airis.metrics.v1.MetricsService/IngestMetrics"


async def rounds(count: int = 5) -> None:
    """Has the event loop come round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def kept(clock: FakeClock, seconds: float) -> Turns:
    """Turns after a handler that kept the event loop for some seconds."""
    turns = Turns(clock)
    turns.arrived()
    await turns.begin()
    clock.advance(seconds)
    await rounds()
    return turns


async def test_a_handler_begins_at_once_where_none_keeps_the_loop() -> None:
    turns = await kept(FakeClock(10), 0.0001)
    with pytest.raises(StopIteration):
        turns.begin().send(None)


async def test_after_a_long_handler_the_next_waits_until_no_more_calls_arrive() -> None:
    clock = FakeClock(10)
    turns = await kept(clock, 0.02)
    turns.arrived()
    order = list[str]()

    async def handler(name: str) -> None:
        await turns.begin()
        order.append(name)

    waiting = [asyncio.create_task(handler(name)) for name in ("first", "second")]
    await rounds()
    assert order == []
    clock.advance(0.004)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert order == ["first", "second"]


async def test_calls_that_never_cease_hold_work_up_no_longer_than_work_held_them_up() -> None:
    clock = FakeClock(10)
    turns = await kept(clock, 0.02)
    begins = asyncio.create_task(turns.begin())
    await rounds()
    clock.advance(0.021)
    turns.arrived()
    async with asyncio.timeout(5):
        await begins


async def test_a_waiter_that_gives_up_holds_nobody_up() -> None:
    clock = FakeClock(10)
    turns = await kept(clock, 0.02)
    gone, stays = asyncio.create_task(turns.begin()), asyncio.create_task(turns.begin())
    await rounds()
    gone.cancel()
    clock.advance(0.1)
    async with asyncio.timeout(5):
        await stays


async def test_a_call_that_only_waits_is_no_load_and_ends_once() -> None:
    guard = Guard(policies([metrics_pb2.DESCRIPTOR]), OpenDoor(contract_permissions()).authenticate)
    rule = guard.rule(INGEST)
    entry = await guard.enter(rule, (), 5.0)
    assert guard.admission.snapshot().limit.in_flight == 1
    load.only_waits()
    load.only_waits()
    assert guard.admission.snapshot().limit.in_flight == 0
    guard.leave(rule, entry, "OK")
    assert guard.admission.snapshot().limit.in_flight == 0
