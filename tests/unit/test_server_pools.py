"""The pools of a server: calls of one more wait for a place, but not in a queue that stands."""

from __future__ import annotations

import asyncio

import pytest
from airis.alerts.v1 import alerts_pb2
from airis.metrics.v1 import metrics_pb2
from fakes.clock import FakeClock

from resilience.contract import policies
from resilience.errors import BulkheadFullError
from resilience.grpc.guard import Guard
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import OpenDoor

INGEST = "/airis.metrics.v1.MetricsService/IngestMetrics"
OTLP = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


async def test_a_call_is_turned_away_when_its_pool_and_the_queue_are_full_and_told_when_to_come_back() -> None:
    guard = Guard(policies([metrics_pb2.DESCRIPTOR]), OpenDoor(contract_permissions()).authenticate)
    rule = guard.rule(INGEST)
    pool = rule.policy.bulkhead
    for _ in range(pool.max_concurrent):
        await rule.bulkhead.acquire()
    waiting = [asyncio.create_task(rule.bulkhead.acquire()) for _ in range(pool.max_waiting)]
    assert guard.turn_away(INGEST, 0, False) is None
    await asyncio.sleep(0)
    refusal = guard.turn_away(INGEST, 0, False)
    assert isinstance(refusal, BulkheadFullError)
    assert refusal.retry_after
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    "method", ["QueryMetrics", "StreamMetrics"], ids=["who waits for an answer", "a stream, whose length says nothing"]
)
def test_bulk_alone_is_turned_away(method: str) -> None:
    guard = Guard(
        policies([metrics_pb2.DESCRIPTOR]), OpenDoor(contract_permissions()).authenticate, aliases={OTLP: INGEST}
    )
    assert not guard.may_turn_away(f"/airis.metrics.v1.MetricsService/{method}")
    assert not guard.may_turn_away("/grpc.health.v1.Health/Check")
    assert guard.may_turn_away(INGEST)
    assert guard.may_turn_away(OTLP)


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
