"""The pools of a server: calls of one more wait for a place, but not in a queue that stands."""

from __future__ import annotations

import asyncio

import pytest
from airis.alerts.v1 import alerts_pb2
from fakes.clock import FakeClock

from resilience.contract import policies
from resilience.errors import BulkheadFullError
from resilience.grpc.guard import Guard
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import OpenDoor


async def test_who_joins_a_queue_that_stands_is_refused_long_before_who_came_earlier() -> None:
    clock = FakeClock()
    guard = Guard(policies([alerts_pb2.DESCRIPTOR]), OpenDoor(contract_permissions()).authenticate, clock=clock)
    rule = guard.rule("/airis.alerts.v1.AlertService/ListAlerts")
    for _ in range(rule.policy.bulkhead.max_concurrent):
        await rule.bulkhead.acquire()
    earlier = asyncio.create_task(rule.bulkhead.acquire())
    await asyncio.sleep(0)
    clock.advance(rule.policy.bulkhead.max_wait)
    with pytest.raises(BulkheadFullError):
        await rule.bulkhead.acquire()
    assert not earlier.done()
    rule.bulkhead.release()
    await earlier
