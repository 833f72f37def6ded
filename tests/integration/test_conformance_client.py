"""Every RPC, called through `wrap`, keeps the policy of its contract, as a server sees it: `grpc.aio` and blocking.

New RPCs are covered unasked: the tests are made from the descriptors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from conformance_caller import CALLERS, FLAVOURS, AioCaller, BlockingCaller, code_of, failure
from conformance_contract import ERROR_CODES, POOLS, RPCS, TRIALS, Rpc, details, in_seconds
from conformance_upstream import ANSWER, HANG, Step, Upstream
from fakes.clock import FakeClock
from google.rpc import error_details_pb2

from resilience import deadline
from resilience.circuit_breaker import BreakerSettings
from resilience.grpc.client import ClientSettings, Endpoint

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

NEVER_OPENS = BreakerSettings(consecutive_failures=1_000_000, failure_rate=None)
TRANSIT_SECONDS = 0.5
"""The most that a call may take to the server: time that its deadline has lost on the way."""
ROUNDED = 1.02
"""gRPC sends the time that is left rounded up."""

ALL = (*RPCS, *TRIALS)
every_rpc = pytest.mark.parametrize("rpc", ALL, ids=str)
every_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


class Client:
    """A client with state of its own, over one of the module's channels."""

    def __init__(self, caller: AioCaller | BlockingCaller, endpoint: Endpoint | None = None, **settings: Any) -> None:
        self.backoffs: list[float] = []
        self.endpoint = endpoint or Endpoint(
            "conformance", ClientSettings(margin=0.1, breaker=NEVER_OPENS, uniform=self._uniform, **settings)
        )
        self._caller = caller.wrapped(self.endpoint)

    def _uniform(self, low: float, high: float) -> float:
        assert low == 0.0
        self.backoffs.append(high)
        return 0.0

    async def call(self, rpc: Rpc, request: Any = None, **options: Any) -> Any:
        """The error that a call ends with, or None."""
        return await failure(self._caller.call(rpc, request, **options))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(upstream: Upstream) -> AsyncIterator[dict[str, AioCaller | BlockingCaller]]:
    async with AsyncExitStack() as stack:
        made = {flavour: caller(upstream.target) for flavour, caller in CALLERS.items()}
        for caller in made.values():
            stack.push_async_callback(caller.close)
        yield made


def is_about(seconds: float | None, expected: float | None) -> bool:
    """Whether the server saw the limit that was to be given, less transit."""
    if seconds is None or expected is None:
        return seconds is expected
    return expected - TRANSIT_SECONDS < seconds <= expected * ROUNDED


def least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


@every_flavour
@every_rpc
async def test_the_server_is_given_the_deadline_of_the_contract_or_an_earlier_one(
    upstream: Upstream, callers: Any, flavour: str, rpc: Rpc
) -> None:
    client = Client(callers[flavour])
    for timeout, outer in ((None, None), (1_000.0, None), (1.2, None), (None, 1.3)):
        metadata = upstream.plan(ANSWER)
        with deadline.within(outer):
            assert await client.call(rpc, timeout=timeout, metadata=metadata) is None
        (arrival,) = upstream.seen(metadata)
        limit = least(rpc.deadline, rpc.attempt_deadline, timeout, None if outer is None else outer - 0.1)
        assert arrival.method == rpc.path
        assert is_about(arrival.seconds, limit), (arrival.seconds, limit)


@every_flavour
@every_rpc
async def test_repeats_share_the_deadline_of_the_contract(
    upstream: Upstream, callers: Any, flavour: str, rpc: Rpc
) -> None:
    if rpc.deadline is None or rpc.attempts("UNAVAILABLE") == 1:
        # Nothing is repeated: the attempt is the call.
        limit = rpc.deadline
        assert rpc.attempt_deadline is None
        metadata = upstream.plan(ANSWER)
        assert await Client(callers[flavour]).call(rpc, metadata=metadata) is None
        assert is_about(upstream.seen(metadata)[0].seconds, limit)
        return
    clock = FakeClock()
    left = 0.4
    late = Step("UNAVAILABLE", before=lambda: clock.advance((rpc.deadline or 0) - left))
    metadata = upstream.plan(late, ANSWER)
    assert await Client(callers[flavour], clock=clock).call(rpc, metadata=metadata) is None
    _, repeat = upstream.seen(metadata)
    assert repeat.seconds is not None
    assert repeat.seconds <= least(left, rpc.attempt_deadline) * ROUNDED  # type: ignore[operator]
    # With nothing left, nothing is repeated.
    spent = upstream.plan(Step("UNAVAILABLE", before=lambda: clock.advance(rpc.deadline or 0)), ANSWER)
    assert code_of(await Client(callers[flavour], clock=clock).call(rpc, metadata=spent)) != "OK"
    assert len(upstream.seen(spent)) == 1


@every_flavour
@every_rpc
async def test_what_fails_is_attempted_as_often_as_the_contract_says(
    upstream: Upstream, callers: Any, flavour: str, rpc: Rpc
) -> None:
    for code in ERROR_CODES:
        client, metadata = Client(callers[flavour]), upstream.plan(Step(code))
        assert code_of(await client.call(rpc, metadata=metadata)) == code
        attempts = rpc.attempts(code)
        assert (code, len(upstream.seen(metadata))) == (code, attempts)
        if rpc.policy.HasField("retry"):
            rule = rpc.policy.retry
            first, longest = in_seconds(rule.initial_backoff), in_seconds(rule.max_backoff)
            limits = [min(longest, first * rule.backoff_multiplier**number) for number in range(attempts - 1)]
            assert client.backoffs[: attempts - 1] == pytest.approx(limits)


@every_flavour
@every_rpc
async def test_what_may_do_its_work_twice_is_sent_once(
    upstream: Upstream, callers: Any, flavour: str, rpc: Rpc
) -> None:
    client = Client(callers[flavour])
    assert rpc.policy.idempotent or rpc.attempts("UNAVAILABLE") == 1
    unnamed = upstream.plan(Step("UNAVAILABLE"))
    has_id = "request_id" in rpc.descriptor.input_type.fields_by_name
    request = rpc.request(request_id="") if has_id else rpc.request()
    assert code_of(await client.call(rpc, request, metadata=unnamed)) == "UNAVAILABLE"
    assert len(upstream.seen(unnamed)) == (1 if has_id else rpc.attempts("UNAVAILABLE"))
    # A callee that is full is asked again only if it says when.
    full = upstream.plan(Step("RESOURCE_EXHAUSTED", bare=True))
    assert code_of(await Client(callers[flavour]).call(rpc, metadata=full)) == "RESOURCE_EXHAUSTED"
    assert len(upstream.seen(full)) == 1


@every_flavour
async def test_hedged_calls_are_answered_by_a_later_attempt_after_the_contracts_delay(
    upstream: Upstream, callers: Any, flavour: str
) -> None:
    async def hedge(rpc: Rpc) -> None:
        rule, loop = rpc.policy.hedging, asyncio.get_running_loop()
        metadata, began = upstream.plan(*[HANG] * (rule.max_attempts - 1), ANSWER), loop.time()
        assert await Client(callers[flavour]).call(rpc, metadata=metadata) is None
        assert len(upstream.seen(metadata)) == rule.max_attempts
        assert loop.time() - began >= in_seconds(rule.delay) * (rule.max_attempts - 1) * 0.99
        # Those that lost are ended at the callee too.
        await upstream.until_ended(metadata)

    hedged = [rpc for rpc in ALL if rpc.is_hedged]
    assert hedged
    await asyncio.gather(*map(hedge, hedged))


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: ".".join(pool))
async def test_calls_share_the_places_of_their_pool(upstream: Upstream, callers: Any, pool: tuple[str, str]) -> None:
    # First those that are patient, so that none has ended before all are there.
    inside = sorted((rpc for rpc in RPCS if rpc.pool == pool), key=patience, reverse=True)
    outside = [rpc for rpc in RPCS if rpc.pool[0] == pool[0] and rpc.pool != pool]
    rule, aio = inside[0].bulkhead, Client(callers["aio"])
    # Both kinds of client draw from the same places.
    blocking = Client(callers["blocking"], endpoint=aio.endpoint)
    places, waiting = rule.max_concurrent, rule.max_waiting if in_seconds(rule.max_wait) else 0
    metadata = upstream.plan(HANG)
    fill = [inside[max(0, number - places + len(inside))] for number in range(places)]
    calls = [asyncio.ensure_future(aio.call(rpc, metadata=metadata)) for rpc in fill[:-1]]
    calls.append(asyncio.ensure_future(blocking.call(fill[-1], metadata=metadata)))
    await upstream.until(metadata, places)
    for each in (aio, blocking):
        for rpc in outside:
            assert await each.call(rpc) is None
    calls += [asyncio.ensure_future(aio.call(inside[0], metadata=metadata)) for _ in range(waiting)]
    held = aio.endpoint.chain(inside[0].path).bulkhead
    assert held is not None
    async with asyncio.timeout(10):
        while held.snapshot().waiting < waiting:  # noqa: ASYNC110 (nothing tells when a call begins to wait)
            await asyncio.sleep(0)
    for each in (aio, blocking):
        for rpc in inside:
            error = await each.call(rpc, metadata=metadata)
            assert (str(rpc), code_of(error)) == (str(rpc), "RESOURCE_EXHAUSTED")
            assert details(error, error_details_pb2.ErrorInfo).reason == "BULKHEAD_FULL"
    assert len(upstream.seen(metadata)) == places
    assert not any(call.done() for call in calls)
    upstream.release(metadata)
    assert set(await asyncio.gather(*calls)) == {None}
    assert len(upstream.seen(metadata)) == places + waiting


async def test_nobody_waits_for_a_place_longer_than_the_contract_says(callers: Any) -> None:
    async def wait(pool: tuple[str, str]) -> None:
        rpc = next(rpc for rpc in RPCS if rpc.pool == pool)
        longest, loop = in_seconds(rpc.bulkhead.max_wait), asyncio.get_running_loop()
        client = Client(callers["aio"])
        held = client.endpoint.chain(rpc.path).bulkhead
        assert held is not None
        for _ in range(rpc.bulkhead.max_concurrent):
            await held.acquire()
        began = loop.time()
        error = await client.call(rpc)
        assert details(error, error_details_pb2.ErrorInfo).reason == "BULKHEAD_FULL"
        assert longest * 0.99 <= loop.time() - began < longest + 1.5

    await asyncio.gather(*map(wait, POOLS))


def patience(rpc: Rpc) -> float:
    """Seconds after which an attempt that is not answered has ended."""
    return least(rpc.deadline, rpc.attempt_deadline) or float("inf")
