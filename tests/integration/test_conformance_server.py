"""Every RPC, served behind the guard, keeps the policy of its contract, whoever calls it: `grpc.aio` and blocking.

New RPCs are covered unasked: the tests are made from the descriptors.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from conformance_caller import CALLERS, FLAVOURS, code_of, failure
from conformance_contract import POOLS, RPCS, SERVICES, TRIALS, Rpc, details, in_seconds
from conformance_service import HANG, KEY, SERVICE_KINDS, Served
from conformance_tokens import Tokens
from fakes import trial_contract
from fakes.clock import FakeClock
from google.rpc import error_details_pb2

from resilience.admission import Admission
from resilience.concurrency_limit import ConcurrencyLimit
from resilience.contract import MethodPolicy, policies
from resilience.grpc.guard import Guard
from services.shared.auth.bearer import bearer_token

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

TRANSIT_SECONDS = 0.5
ROUNDED = 1.02
BRIEF_SECONDS = 0.02
PATIENT_SECONDS = 20.0
UNLIMITED = 1_000_000

ALL = (*RPCS, *TRIALS)
every_rpc = pytest.mark.parametrize("rpc", ALL, ids=str)


class World:
    """A guarded server and a client without policies of its own."""

    def __init__(self, service: Any, guard: Guard, tokens: Tokens) -> None:
        self.service: Served = service
        self.guard = guard
        self.tokens = tokens
        self._callers = {flavour: caller(service.target) for flavour, caller in CALLERS.items()}

    async def call(self, rpc: Rpc, metadata: Any, **options: Any) -> tuple[Any, list[float | None]]:
        """The error that a call ends with, or None, and the seconds that its handler saw, if one was reached."""
        key = uuid.uuid4().hex
        # `grpc.aio` loses the status of a call that is refused while a request is sent.
        caller = self._callers["blocking" if rpc.descriptor.client_streaming else "aio"]
        error = await failure(caller.call(rpc, metadata=(*metadata, (KEY, key)), **options))
        return error, self.service.left[key]

    async def outcome(self, rpc: Rpc, tenant: str = "acme", **options: Any) -> Any:
        """The error of a caller who may call, or None."""
        return (await self.call(rpc, self.tokens.allowed(rpc, tenant), **options))[0]

    async def close(self) -> None:
        """Closes the client."""
        for caller in self._callers.values():
            await caller.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("keys"))


@asynccontextmanager
async def running(
    flavour: str, tokens: Tokens, change: Callable[[MethodPolicy], MethodPolicy] = lambda policy: policy
) -> AsyncIterator[World]:
    """A server with the contract, or a change of it. Its clock stands still."""
    contract = policies([*(service.file for service in SERVICES), trial_contract.load().file])
    guard = Guard(
        map(change, contract),
        lambda authorization, tenant: tokens.verifier.authenticate(bearer_token(authorization), tenant),
        clock=FakeClock(),
    )
    # Load is what one test is about; to the others the server is as large as it may be.
    guard.admission = Admission("server", ConcurrencyLimit("server", initial=UNLIMITED, maximum=UNLIMITED))
    service = SERVICE_KINDS[flavour](guard)
    await service.start()
    world = World(service, guard, tokens)
    yield world
    await world.close()
    await service.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FLAVOURS)
async def world(request: pytest.FixtureRequest, tokens: Tokens) -> AsyncIterator[World]:
    async with running(request.param, tokens) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FLAVOURS)
async def brief_world(request: pytest.FixtureRequest, tokens: Tokens) -> AsyncIterator[World]:
    """Every RPC, streams too, has a deadline that a test can wait for."""
    async with running(request.param, tokens, lambda policy: replace(policy, deadline=BRIEF_SECONDS)) as made:
        yield made


@every_rpc
async def test_a_call_gets_the_time_of_the_contract_or_less(world: World, rpc: Rpc) -> None:
    for timeout in (None, 1_000.0, 1.5):
        error, (left,) = await world.call(rpc, world.tokens.allowed(rpc), timeout=timeout)
        assert error is None
        limit = min((limit for limit in (rpc.deadline, timeout) if limit is not None), default=None)
        assert left is limit is None or (
            left is not None and limit is not None and limit - TRANSIT_SECONDS < left <= limit * ROUNDED
        ), (left, limit)


@every_rpc
async def test_a_call_ends_at_the_deadline_of_the_contract(brief_world: World, rpc: Rpc) -> None:
    metadata = (*HANG, *brief_world.tokens.allowed(rpc))
    calls = [brief_world.call(rpc, metadata, timeout=timeout) for timeout in (None, PATIENT_SECONDS)]
    async with asyncio.timeout(PATIENT_SECONDS / 4):
        ended = await asyncio.gather(*calls)
    for error, left in ended:
        assert (code_of(error), len(left)) == ("DEADLINE_EXCEEDED", 1)
        assert details(error, error_details_pb2.ErrorInfo).reason == "DEADLINE_EXCEEDED"


@every_rpc
async def test_a_caller_needs_the_permission_of_the_contract(world: World, rpc: Rpc) -> None:
    error, reached = await world.call(rpc, ())
    assert (code_of(error), reached) == ("UNAUTHENTICATED", [])
    assert details(error, error_details_pb2.ErrorInfo).reason == "TOKEN_MISSING"
    error, reached = await world.call(rpc, world.tokens.forbidden(rpc))
    assert (code_of(error), reached) == ("PERMISSION_DENIED", [])
    info = details(error, error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("PERMISSION_MISSING", {"permission": rpc.policy.permission})
    error, reached = await world.call(rpc, world.tokens.allowed(rpc))
    assert (code_of(error), len(reached)) == ("OK", 1)


@every_rpc
async def test_a_tenant_may_call_as_often_as_the_contract_says(world: World, rpc: Rpc) -> None:
    tenant, other = (f"tenant-{uuid.uuid4().hex}" for _ in range(2))
    limit = world.guard.rule(rpc.path).rate
    if not rpc.policy.HasField("rate_limit"):
        assert limit is None
        return
    assert limit is not None
    rule = rpc.policy.rate_limit
    # The guard's own bucket: a call of each would take long.
    for _ in range(rule.burst - 1):
        limit.check(tenant)
    assert await world.outcome(rpc, tenant) is None
    error, reached = await world.call(rpc, world.tokens.allowed(rpc, tenant))
    assert (code_of(error), reached) == ("RESOURCE_EXHAUSTED", [])
    assert details(error, error_details_pb2.ErrorInfo).reason == "RATE_LIMITED"
    wait = details(error, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() / 1e9
    assert wait == pytest.approx(1 / rule.per_second, rel=0.01, abs=1e-6)
    assert await world.outcome(rpc, other) is None


@every_rpc
async def test_a_call_draws_from_the_pool_of_the_contract(world: World, rpc: Rpc) -> None:
    places = rpc.bulkhead.max_concurrent
    waiting = rpc.bulkhead.max_waiting if in_seconds(rpc.bulkhead.max_wait) else 0
    # The pool as other RPCs know it, where there are others.
    pool = next(other for other in ALL if other.pool == rpc.pool)
    held = world.guard.rule(pool.path).bulkhead
    for _ in range(places):
        await held.acquire()
    waiters = [asyncio.ensure_future(held.acquire()) for _ in range(waiting)]
    await asyncio.sleep(0)
    error, reached = await world.call(rpc, world.tokens.allowed(rpc))
    assert (code_of(error), reached) == ("RESOURCE_EXHAUSTED", [])
    assert details(error, error_details_pb2.ErrorInfo).reason == "OVERLOADED"
    assert details(error, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
    # All that wait are let in, and the call itself when one place is free.
    for _ in range(waiting + 1):
        held.release()
    await asyncio.gather(*waiters)
    assert await world.outcome(rpc) is None
    full = list({each.pool: each for each in ALL if each.pool != rpc.pool}.values())
    for other in full:
        for _ in range(other.bulkhead.max_concurrent):
            await world.guard.rule(other.path).bulkhead.acquire()
    assert await world.outcome(rpc) is None
    for other in full:
        for _ in range(other.bulkhead.max_concurrent):
            world.guard.rule(other.path).bulkhead.release()
    for _ in range(places - 1):
        held.release()
    assert held.snapshot().in_flight == 0


async def test_nobody_waits_for_a_place_longer_than_the_contract_says(world: World) -> None:
    async def wait(pool: tuple[str, str]) -> None:
        rpc = next(rpc for rpc in RPCS if rpc.pool == pool)
        held, loop = world.guard.rule(rpc.path).bulkhead, asyncio.get_running_loop()
        for _ in range(rpc.bulkhead.max_concurrent):
            await held.acquire()
        began, longest = loop.time(), in_seconds(rpc.bulkhead.max_wait)
        error = await world.outcome(rpc)
        assert code_of(error) == "RESOURCE_EXHAUSTED"
        assert longest * 0.99 <= loop.time() - began < longest + 1.5
        for _ in range(rpc.bulkhead.max_concurrent):
            held.release()

    await asyncio.gather(*map(wait, POOLS))


@every_rpc
async def test_under_load_calls_are_let_in_by_the_priority_of_the_contract(world: World, rpc: Rpc) -> None:
    everything, others = (
        world.guard.admission,
        Admission("server", ConcurrencyLimit("server", initial=100, minimum=100, maximum=100)),
    )
    priority = rpc.policy.priority or rpc.policy.INTERACTIVE
    refused_from = {rpc.policy.BULK: 80, rpc.policy.INTERACTIVE: 95}.get(priority, 195)
    # Streams say nothing of the load, and are not refused for it.
    measured = not (rpc.descriptor.client_streaming or rpc.descriptor.server_streaming)
    world.guard.admission = others
    try:
        for under_way in range(195):
            if under_way in (79, 80, 94, 95, 194):
                admitted = not measured or under_way < refused_from
                assert code_of(await world.outcome(rpc)) == ("OK" if admitted else "RESOURCE_EXHAUSTED"), under_way
            others.enter(1)
        assert code_of(await world.outcome(rpc)) == ("RESOURCE_EXHAUSTED" if measured else "OK")
    finally:
        world.guard.admission = everything
