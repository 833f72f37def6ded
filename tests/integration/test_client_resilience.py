"""What callers are promised when the server hangs, fails, resets, is slow, or disappears: over real channels."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from fakes import trial_contract
from fakes.tcp_proxy import Direction, TcpProxy
from faulty_server import ANSWER, CRASH, HANG, Attempt, FaultyServer, Planned, Step, fail
from google.protobuf.wrappers_pb2 import StringValue
from resilient_caller import FLAVOURS, AioCaller, answers, calling

from resilience import deadline
from resilience.circuit_breaker import BreakerSettings, State
from resilience.grpc.client import ClientSettings, Endpoint, RefusedCallError, wrap

NEVER_OPENS = BreakerSettings(consecutive_failures=1_000_000, failure_rate=None)
OPENS_AFTER_3 = BreakerSettings(consecutive_failures=3, failure_rate=None, open_seconds=60.0)
CALLERS_MISTAKES = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "CANCELLED",
)
STREAMS = ("Watch", "Talk")
ROUNDING_SECONDS = 0.012
"""gRPC sends the time that is left rounded up, from one second on to hundredths."""

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """One that lives as long as the module."""
    server = FaultyServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mortal_server() -> Iterator[FaultyServer]:
    """One to kill."""
    server = FaultyServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=FLAVOURS, ids=["aio", "blocking"])
def flavour(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def caller(flavour: Any, server: FaultyServer) -> AsyncIterator[Any]:
    async with calling(flavour, server.target, NEVER_OPENS) as caller:
        yield caller


async def failure(call: Any) -> Any:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value


async def seen(server: FaultyServer, planned: Planned, at_least: int = 1, ended: int = 0) -> list[Attempt]:
    return await asyncio.to_thread(server.seen, planned.key, at_least, ended)


async def test_a_server_that_hangs_costs_the_deadline_and_no_more(caller: Any, server: FaultyServer) -> None:
    hanging, begun = Planned.of(HANG), time.monotonic()
    error = await failure(caller.call("Get", hanging, timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.19 <= time.monotonic() - begun < 1.0
    (attempt,) = await seen(server, hanging, ended=1)
    assert attempt.ended == "cancelled"


async def test_an_attempt_that_hangs_is_repeated_when_the_contract_limits_attempts(
    caller: Any, server: FaultyServer
) -> None:
    hanging_once = Planned.of(HANG, ANSWER)
    assert await caller.call("Try", hanging_once) == "2:x"
    first, second = await seen(server, hanging_once, 2, 2)
    assert first.ended == "cancelled"
    assert second.began - first.began >= trial_contract.ATTEMPT_SECONDS * 0.9
    assert all(
        (attempt.time_remaining or 9) <= trial_contract.ATTEMPT_SECONDS + ROUNDING_SECONDS
        for attempt in (first, second)
    )


async def test_failed_calls_are_repeated_as_often_as_the_contract_says(caller: Any, server: FaultyServer) -> None:
    assert await caller.call("Get", Planned.of(fail("UNAVAILABLE"), fail("UNAVAILABLE"), ANSWER)) == "3:x"
    failing = Planned.of(fail("UNAVAILABLE"))
    error = await failure(caller.call("Get", failing))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "as planned"
    assert len(await seen(server, failing)) == trial_contract.MAX_ATTEMPTS
    assert caller.decisions["exhausted"] == 1


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "ABORTED", "DATA_LOSS", "UNIMPLEMENTED", *CALLERS_MISTAKES])
async def test_what_the_contract_does_not_name_is_not_repeated(caller: Any, server: FaultyServer, code: str) -> None:
    failing = Planned.of(fail(code), ANSWER)
    assert (await failure(caller.call("Get", failing))).code().name == code
    assert len(await seen(server, failing)) == 1


async def test_a_method_without_a_retry_rule_is_never_repeated(caller: Any, server: FaultyServer) -> None:
    for method in ("Once", "Collect"):
        failing = Planned.of(fail("UNAVAILABLE", 0.0), ANSWER)
        assert (await failure(caller.call(method, failing))).code() is grpc.StatusCode.UNAVAILABLE
        assert len(await seen(server, failing)) == 1


async def test_resource_exhausted_is_repeated_only_with_retry_info_and_only_after_it(
    caller: Any, server: FaultyServer
) -> None:
    silent = Planned.of(fail("RESOURCE_EXHAUSTED"), ANSWER)
    assert (await failure(caller.call("Put", silent))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(await seen(server, silent)) == 1
    telling = Planned.of(fail("RESOURCE_EXHAUSTED", retry_after=0.1), ANSWER)
    assert await caller.call("Put", telling) == "2:x"
    first, second = await seen(server, telling)
    assert second.began - first.began >= 0.1
    unnamed = Planned.of(fail("RESOURCE_EXHAUSTED", retry_after=0.0), ANSWER)
    assert (await failure(caller.call("Get", unnamed))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(await seen(server, unnamed)) == 1


async def test_nothing_is_repeated_after_the_deadline(caller: Any, server: FaultyServer) -> None:
    slow, begun = Planned.of(Step(delay=0.08, code="UNAVAILABLE")), time.monotonic()
    await failure(caller.call("Get", slow, timeout=0.2))
    assert time.monotonic() - begun < 0.4
    attempts = await seen(server, slow)
    assert 2 <= len(attempts) <= 3
    for attempt in attempts:
        assert attempt.time_remaining is not None
        assert attempt.began + attempt.time_remaining < begun + 0.25
    later, begun = Planned.of(fail("UNAVAILABLE", retry_after=10.0)), time.monotonic()
    error = await failure(caller.call("Get", later, timeout=0.3))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - begun < 0.25
    assert caller.decisions["deadline_spent"] == 1


async def test_a_full_outage_raises_the_load_by_a_tenth_and_the_reserve_at_most(
    caller: Any, server: FaultyServer
) -> None:
    offered, failing = 300, Planned.of(fail("UNAVAILABLE"))
    for _ in range(offered // 30):
        errors = await asyncio.gather(*(failure(caller.call("Get", failing)) for _ in range(30)))
        assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    attempts = len(await seen(server, failing))
    assert offered < attempts <= 1.1 * offered + 10
    assert caller.decisions["budget_empty"] > 0


async def test_a_server_that_goes_on_failing_is_left_alone(flavour: Any, server: FaultyServer) -> None:
    failing = Planned.of(fail("INTERNAL"))
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        errors = [await failure(caller.call("Once", failing)) for _ in range(20)]
        assert [error.code() for error in errors[:3]] == [grpc.StatusCode.INTERNAL] * 3
        assert {error.code() for error in errors[3:]} == {grpc.StatusCode.UNAVAILABLE}
        assert isinstance(errors[-1], RefusedCallError)
        assert errors[-1].reason == "CIRCUIT_OPEN"
        assert len(await seen(server, failing)) == 3
        assert await caller.call("Get", Planned.of(ANSWER)) == "1:x"


async def test_a_server_that_answers_slowly_can_be_left_alone(flavour: Any, server: FaultyServer) -> None:
    slow = Planned.of(Step(delay=0.05))
    rule = BreakerSettings(slow_call_rate=1.0, slow_call_seconds=0.03, minimum_calls=3)
    async with calling(flavour, server.target, rule) as caller:
        for _ in range(3):
            assert await caller.call("Once", slow) == "1:x" or True
        assert (await failure(caller.call("Once", slow))).reason == "CIRCUIT_OPEN"
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        for _ in range(4):
            assert (await caller.call("Once", slow)).endswith(":x")


async def test_a_callers_own_mistakes_and_load_that_is_shed_never_open_the_breaker(
    flavour: Any, server: FaultyServer
) -> None:
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        for code in (*CALLERS_MISTAKES, "RESOURCE_EXHAUSTED"):
            for _ in range(4):
                assert (await failure(caller.call("Once", Planned.of(fail(code))))).code().name == code
        assert caller.breaker("Once").state is State.CLOSED


async def test_a_caller_that_gives_less_time_than_is_promised_does_not_open_the_breaker(
    flavour: Any, server: FaultyServer
) -> None:
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        await caller.call("Once", Planned.of(ANSWER))
        for _ in range(4):
            hasty = caller.call("Once", Planned.of(HANG), timeout=trial_contract.P95_SECONDS * 0.6)
            assert (await failure(hasty)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caller.breaker("Once").state is State.CLOSED
        for _ in range(3):
            await failure(caller.call("Once", Planned.of(HANG), timeout=trial_contract.P95_SECONDS * 1.5))
        assert caller.breaker("Once").state is State.OPEN


async def test_a_cancelled_call_is_cancelled_at_the_server_and_never_opens_the_breaker(
    flavour: Any, server: FaultyServer
) -> None:
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        for method in ("Get", "Once", "Collect", "Get"):
            hanging = Planned.of(HANG)
            call = asyncio.ensure_future(caller.call(method, hanging))
            await seen(server, hanging)
            call.cancel()
            cancelled = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await call
            (attempt,) = await seen(server, hanging, ended=1)
            assert attempt.ended == "cancelled"
            assert time.monotonic() - cancelled < 1.0
            assert caller.breaker(method).state is State.CLOSED


async def test_a_call_is_cancelled_through_its_own_object_too(flavour: Any, server: FaultyServer) -> None:
    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        for _ in range(4):
            hanging = Planned.of(HANG)
            call = caller.begin("Get", hanging)
            waiting = asyncio.ensure_future(call if flavour is AioCaller else asyncio.wrap_future(call))
            await seen(server, hanging)
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            (attempt,) = await seen(server, hanging, ended=1)
            assert attempt.ended == "cancelled"
            assert call.cancelled()
        assert caller.breaker("Get").state is State.CLOSED


async def test_a_call_that_waits_to_be_repeated_is_cancelled_at_once(flavour: Any, server: FaultyServer) -> None:
    later = Planned.of(fail("RESOURCE_EXHAUSTED", retry_after=1.0), ANSWER)
    async with calling(flavour, server.target) as caller:
        call = asyncio.ensure_future(caller.call("Put", later))
        await seen(server, later, ended=1)
        begun = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - begun < 0.5
        assert len(await seen(server, later)) == 1


async def test_an_answer_can_be_read_again_without_a_second_call(server: FaultyServer) -> None:
    async with calling(AioCaller, server.target) as caller:
        planned = Planned.of(ANSWER)
        call = caller.begin("Get", planned)
        assert (await call).value == (await call).value == "1:x"
        assert await call.code() is grpc.StatusCode.OK
        await call.trailing_metadata()
        assert call.done()
        assert not call.cancel()
        failing = Planned.of(fail("INTERNAL", retry_after=1.0))
        call = caller.begin("Get", failing)
        await failure(call)
        await failure(call)
        assert await call.code() is grpc.StatusCode.INTERNAL
        assert [key for key, _ in await call.trailing_metadata()] == ["grpc-status-details-bin"]
        assert len(await seen(server, planned)) == len(await seen(server, failing)) == 1


async def test_a_callback_that_raises_keeps_nobody_from_the_end_of_a_call(
    server: FaultyServer, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(call: Any) -> None:
        raise RuntimeError("of the callback")

    async with calling(AioCaller, server.target) as caller:
        told = list[Any]()
        call = caller.begin("Get", Planned.of(ANSWER))
        call.add_done_callback(failing)
        call.add_done_callback(told.append)
        assert (await asyncio.wait_for(call, 5)).value == "1:x"
        call.add_done_callback(failing)
        assert told == [call]
    assert caplog.text.count("A callback of a call failed.") == 2


@pytest.mark.parametrize("method", ["Get", "Watch", "Collect", "Talk"])
async def test_a_call_that_is_cancelled_before_it_begins_has_ended_as_cancelled(
    server: FaultyServer, method: str
) -> None:
    planned = Planned.of(ANSWER)
    async with calling(AioCaller, server.target) as caller:
        call = caller.begin(method, planned)
        assert not call.done()
        assert call.cancel()
        assert call.done()
        assert call.cancelled()
        assert not call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await call.details() == "The caller cancelled the call."
    assert await asyncio.to_thread(server.seen, planned.key) == []


def test_the_time_of_a_blocking_future_runs_while_it_waits_for_a_thread(server: FaultyServer) -> None:
    endpoint = Endpoint("blocking", ClientSettings(breaker=NEVER_OPENS))
    with wrap(grpc.insecure_channel(server.target), endpoint=endpoint) as channel:
        once = channel.unary_unary(
            trial_contract.path("Once"),
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        hanging = Planned.of(HANG)
        begun = time.monotonic()
        futures = [once.future(StringValue(), timeout=0.5, metadata=hanging.metadata) for _ in range(100)]
        codes = {future.exception(timeout=10).code() for future in futures}
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
        # Four turns of the threads, which take two seconds, in the time of one.
        assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("method", ["Collect", "Talk"])
def test_what_fails_in_the_callers_own_requests_never_opens_the_breaker(server: FaultyServer, method: str) -> None:
    def requests() -> Iterator[StringValue]:
        yield StringValue(value="x")
        raise KeyError("of the caller's iterator")

    def unwritable(request: StringValue) -> bytes:
        raise ValueError("of the caller's serializer")

    endpoint = Endpoint("blocking", ClientSettings(breaker=OPENS_AFTER_3))
    with wrap(grpc.insecure_channel(server.target), endpoint=endpoint) as channel:
        shape = channel.stream_unary if method == "Collect" else channel.stream_stream
        for serializer in (StringValue.SerializeToString, unwritable):
            call = shape(
                trial_contract.path(method),
                request_serializer=serializer,
                response_deserializer=StringValue.FromString,
            )
            for _ in range(4):
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(requests(), metadata=Planned.of(HANG).metadata, timeout=5))
                assert not isinstance(caught.value, RefusedCallError)
        assert endpoint.chain(trial_contract.path(method)).breaker.state is State.CLOSED


async def test_a_second_attempt_is_sent_early_where_the_contract_says_so(caller: Any, server: FaultyServer) -> None:
    hanging = Planned.of(HANG, ANSWER)
    assert await caller.call("Hedge", hanging) == "2:x"
    first, second = await seen(server, hanging, 2, 2)
    # The delay is the client's; the server may notice the first attempt late.
    assert second.began - first.began >= trial_contract.HEDGING_DELAY_SECONDS * 0.5
    assert (first.ended, second.ended) == ("cancelled", "answered")
    quick, mistaken = Planned.of(ANSWER), Planned.of(fail("INVALID_ARGUMENT"), ANSWER)
    assert await caller.call("Hedge", quick) == "1:x"
    assert (await failure(caller.call("Hedge", mistaken))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await caller.call("Hedge", Planned.of(fail("UNAVAILABLE"), ANSWER)) == "2:x"
    slow = Planned.of(Step(delay=trial_contract.HEDGING_DELAY_SECONDS * 3))
    assert await caller.call("Once", slow) == "1:x"
    assert len(await seen(server, quick)) == len(await seen(server, mistaken)) == len(await seen(server, slow)) == 1


async def test_the_deadline_travels_and_shrinks_by_the_margin(flavour: Any, server: FaultyServer) -> None:
    async with calling(flavour, server.target, margin=0.1) as caller:
        own, given, inherited, spent = (Planned.of(ANSWER) for _ in range(4))
        await caller.call("Get", own)
        await caller.call("Get", given, timeout=0.5)
        with deadline.within(0.4):
            await caller.call("Get", inherited, timeout=1.0)
        with deadline.within(0.05):
            error = await failure(caller.call("Get", spent))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        lefts = [(await seen(server, planned))[0].time_remaining for planned in (own, given, inherited)]
        for left, most in zip(lefts, (2.0, 0.5, 0.3), strict=True):
            assert left is not None
            assert most - 0.2 < left <= most + ROUNDING_SECONDS
        assert await seen(server, spent, at_least=0) == []


async def test_a_pool_holds_back_what_is_too_much(flavour: Any, server: FaultyServer) -> None:
    async with calling(flavour, server.target) as caller:
        hanging = [Planned.of(HANG) for _ in range(trial_contract.NARROW_PLACES)]
        calls = [asyncio.ensure_future(caller.call("Narrow", planned)) for planned in hanging]
        for planned in hanging:
            await seen(server, planned)
        refused = Planned.of(ANSWER)
        error = await failure(caller.call("Narrow", refused))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.reason == "BULKHEAD_FULL"
        assert await seen(server, refused, at_least=0) == []
        assert await caller.call("Get", Planned.of(ANSWER)) == "1:x"
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await caller.call("Narrow", Planned.of(ANSWER)) == "1:x"
        assert caller.breaker("Narrow").state is State.CLOSED


@pytest.mark.parametrize("method", STREAMS)
async def test_a_broken_stream_is_not_begun_again(caller: Any, server: FaultyServer, method: str) -> None:
    assert await answers(caller.stream(method, Planned.of(ANSWER))) == ["1:x"]
    for given in (0, 1):
        broken, stream = Planned.of(fail("UNAVAILABLE", answers=given), ANSWER), None
        stream = caller.stream(method, broken)
        for _ in range(given):
            assert await stream.next() == "1:x"
        assert (await failure(stream.next())).code() is grpc.StatusCode.UNAVAILABLE
        assert len(await seen(server, broken)) == 1


@pytest.mark.parametrize("method", [*STREAMS, "Collect"])
async def test_streams_of_a_failing_server_are_refused(flavour: Any, server: FaultyServer, method: str) -> None:
    async def attempt(planned: Planned) -> Any:
        return await (answers(caller.stream(method, planned)) if method in STREAMS else caller.call(method, planned))

    async with calling(flavour, server.target, OPENS_AFTER_3) as caller:
        for _ in range(4):
            assert (await failure(attempt(Planned.of(fail("INVALID_ARGUMENT"))))).code().name == "INVALID_ARGUMENT"
        failing = Planned.of(fail("INTERNAL"))
        errors = [await failure(attempt(failing)) for _ in range(5)]
        assert [error.code().name for error in errors] == ["INTERNAL"] * 3 + ["UNAVAILABLE"] * 2
        assert errors[-1].reason == "CIRCUIT_OPEN"
        assert len(await seen(server, failing)) == 3


@pytest.mark.parametrize("method", ["Talk", "Collect"])
async def test_a_stream_that_is_refused_before_it_is_read_never_opens_the_breaker(
    flavour: Any, server: FaultyServer, method: str
) -> None:
    # The client may then fail with what it has to send, and `grpc.aio` calls that INTERNAL.
    deaf = Planned.of(Step(deaf=True, code="INVALID_ARGUMENT"))
    strict = BreakerSettings(consecutive_failures=1, failure_rate=None)
    async with calling(flavour, server.target, strict) as caller:
        for _ in range(100):
            await failure(answers(caller.stream("Talk", deaf)) if method == "Talk" else caller.call(method, deaf))
        assert caller.breaker(method).state is State.CLOSED


async def test_streams_hold_their_places_until_they_end(flavour: Any, server: FaultyServer) -> None:
    async with calling(flavour, server.target) as caller:
        open_streams = [caller.stream(method, Planned.of(Step(hang=True))) for method in STREAMS]
        assert len(open_streams) == trial_contract.NARROW_PLACES
        for stream in open_streams:
            assert await stream.next() == "1:x"
        for method in STREAMS:
            assert (await failure(caller.stream(method, Planned.of(ANSWER)).next())).reason == "BULKHEAD_FULL"
        assert (await failure(caller.call("Collect", Planned.of(ANSWER)))).reason == "BULKHEAD_FULL"
        open_streams[0].cancel()
        with pytest.raises((grpc.RpcError, asyncio.CancelledError)):
            await open_streams[0].next()
        assert await answers(caller.stream("Watch", Planned.of(Step(answers=3)))) == ["1:x"] * 3
        assert await caller.call("Collect", Planned.of(ANSWER)) == "1:x"
        assert caller.breaker("Watch").state is State.CLOSED


async def test_a_stream_that_nobody_reads_any_more_ends_and_gives_its_place_back(
    flavour: Any, server: FaultyServer
) -> None:
    async with calling(flavour, server.target) as caller:
        for _ in range(trial_contract.NARROW_PLACES + 1):
            left = Planned.of(Step(hang=True))
            stream = caller.stream("Watch", left)
            assert await stream.next() == "1:x"
            del stream
            gc.collect()
            (attempt,) = await seen(server, left, ended=1)
            assert attempt.ended == "cancelled"
            async with asyncio.timeout(5):
                # gRPC tells of the end from a thread of its own.
                pool = caller.endpoint.chain(trial_contract.path("Watch")).bulkhead
                while pool.snapshot().in_flight:  # noqa: ASYNC110 (nobody tells when a place becomes free)
                    await asyncio.sleep(0)


async def test_a_stream_may_be_collected_while_its_pool_is_locked(server: FaultyServer) -> None:
    async with calling(AioCaller, server.target) as caller:
        lasting = Planned.of(Step(answers=1, hang=True))
        ring: list[Any] = [caller.begin("Watch", lasting)]
        await ring[0].read()
        ring.append(ring)
        pool = caller.endpoint.chain(trial_contract.path("Watch")).bulkhead
        assert pool is not None
        del ring
        # The collector runs at any allocation, those within the lock too.
        with pool._lock:
            gc.collect()
        (attempt,) = await seen(server, lasting, ended=1)
        assert attempt.ended == "cancelled"
        assert pool.snapshot().in_flight == 0


async def test_a_stream_keeps_to_the_time_of_the_call_that_it_serves(flavour: Any, server: FaultyServer) -> None:
    async with calling(flavour, server.target, margin=0.1) as caller:
        unlimited, limited = Planned.of(Step(hang=True)), Planned.of(Step(hang=True))
        stream = caller.stream("Watch", unlimited)
        await stream.next()
        with deadline.within(0.3):
            limited_stream = caller.stream("Watch", limited)
            await limited_stream.next()
            assert (await failure(limited_stream.next())).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await seen(server, unlimited))[0].time_remaining is None
        assert 0.0 < ((await seen(server, limited))[0].time_remaining or 9) <= 0.2 + ROUNDING_SECONDS
        stream.cancel()


async def test_a_reset_connection_is_a_failed_attempt_that_is_repeated(flavour: Any, server: FaultyServer) -> None:
    async with TcpProxy(server.target) as proxy, calling(flavour, proxy.address) as caller:
        interrupted = Planned.of(HANG, ANSWER)
        call = asyncio.ensure_future(caller.call("Get", interrupted))
        await seen(server, interrupted)
        assert proxy.reset() == 1
        # The second attempt may meet a channel that is not connected again yet, and be a failed one too.
        assert (await call).endswith(":x")
        first, *_ = await seen(server, interrupted, 2, 2)
        assert first.ended == "cancelled"
        unrepeated = Planned.of(HANG, ANSWER)
        call = asyncio.ensure_future(caller.call("Once", unrepeated))
        await seen(server, unrepeated)
        proxy.reset()
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_connection_that_is_half_closed_fails_no_later_call(flavour: Any, server: FaultyServer) -> None:
    async with TcpProxy(server.target) as proxy, calling(flavour, proxy.address) as caller:
        assert await caller.call("Get", Planned.of(ANSWER)) == "1:x"
        for direction in Direction:
            proxy.half_close(direction)
            assert (await caller.call("Get", Planned.of(ANSWER), timeout=1.0)).endswith(":x")


async def test_a_slow_or_silent_network_costs_the_deadline_and_heals(flavour: Any, server: FaultyServer) -> None:
    async with TcpProxy(server.target) as proxy, calling(flavour, proxy.address, NEVER_OPENS) as caller:
        assert await caller.call("Once", Planned.of(ANSWER)) == "1:x"
        proxy.delay(0.05)
        begun = time.monotonic()
        assert await caller.call("Once", Planned.of(ANSWER)) == "1:x"
        assert 0.1 <= time.monotonic() - begun < 0.5
        for trouble in (lambda: proxy.throttle(100), proxy.blackhole):
            trouble()
            begun = time.monotonic()
            error = await failure(caller.call("Once", Planned.of(ANSWER), timeout=0.2, text="x" * 1000))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert time.monotonic() - begun < 0.5
            proxy.heal()
            assert (await caller.call("Once", Planned.of(ANSWER), timeout=2.0)).endswith(":x")


async def test_a_server_that_disappears_is_left_alone_and_found_again(
    flavour: Any, mortal_server: FaultyServer
) -> None:
    short_open = BreakerSettings(consecutive_failures=3, failure_rate=None, open_seconds=0.2)
    async with calling(flavour, mortal_server.target, short_open) as caller:
        assert await caller.call("Get", Planned.of(ANSWER)) == "1:x"
        assert (await failure(caller.call("Once", Planned.of(CRASH)))).code() is grpc.StatusCode.UNAVAILABLE
        mortal_server.wait()
        offered, begun = 200, time.monotonic()
        for _ in range(offered):
            error = await failure(caller.call("Get", Planned.of(ANSWER)))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - begun < 10
        assert caller.breaker("Get").state is State.OPEN
        assert caller.decisions["retry"] <= 0.1 * offered + 10
        assert caller.decisions["rejected"] > offered / 2
        await asyncio.to_thread(mortal_server.start)
        async with asyncio.timeout(10):
            # Each refused call says when the breaker lets one through.
            while caller.breaker("Get").state is not State.CLOSED:
                try:
                    await caller.call("Get", Planned.of(ANSWER), timeout=1.0)
                except grpc.RpcError as error:
                    await asyncio.sleep(getattr(error, "retry_after", None) or 0.01)
        assert await caller.call("Get", Planned.of(ANSWER)) == "1:x"


async def test_the_real_contract_is_kept_through_a_wrapped_stub(server: FaultyServer) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        metrics = wrap(metrics_pb2_grpc.MetricsServiceStub(channel))
        traces = traces_pb2_grpc.TraceServiceStub(wrap(channel))
        failing_twice = Planned.of(fail("UNAVAILABLE"), fail("UNAVAILABLE"), ANSWER)
        query = metrics_pb2.QueryMetricsRequest(metric="m")
        found = await metrics.QueryMetrics(query, metadata=failing_twice.metadata)
        assert found.series[0].labels["attempt"] == "3"
        hanging = Planned.of(HANG, ANSWER)
        trace = await traces.GetTrace(traces_pb2.GetTraceRequest(trace_id="0" * 32), metadata=hanging.metadata)
        assert int(trace.trace_id) == 2
        watching = Planned.of(Step(answers=2))
        watch = metrics.WatchMetrics(metrics_pb2.WatchMetricsRequest(), metadata=watching.metadata)
        assert [result.result.series[0].labels["attempt"] async for result in watch] == ["1", "1"]
        broken = Planned.of(Step(deaf=True, code="UNAVAILABLE"), ANSWER)
        stream = metrics.StreamMetrics(metadata=broken.metadata)
        with pytest.raises(grpc.RpcError):
            await stream.read()
        assert len(await seen(server, broken)) == 1
        first, second = await seen(server, hanging, 2, 2)
        assert second.began - first.began >= 0.45


def test_the_real_contract_is_kept_through_a_wrapped_blocking_stub(server: FaultyServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        metrics = wrap(metrics_pb2_grpc.MetricsServiceStub(channel))
        failing_once = Planned.of(fail("UNAVAILABLE"), ANSWER)
        listed = metrics.ListMetrics(metrics_pb2.ListMetricsRequest(), metadata=failing_once.metadata)
        assert listed.next_page_token == "2"
        watching = Planned.of(Step(answers=2))
        watch = metrics.WatchMetrics(metrics_pb2.WatchMetricsRequest(), metadata=watching.metadata)
        assert [result.result.series[0].labels["attempt"] for result in watch] == ["1", "1"]
        answer, call = metrics.QueryMetrics.with_call(
            metrics_pb2.QueryMetricsRequest(metric="m"), metadata=Planned.of(ANSWER).metadata
        )
        assert answer.series[0].labels["attempt"] == "1"
        assert call.code() is grpc.StatusCode.OK
        with pytest.raises(grpc.RpcError) as caught:
            metrics.QueryMetrics(metrics_pb2.QueryMetricsRequest(metric="m"), 0.1, metadata=Planned.of(HANG).metadata)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
