"""Several policies as one: the order in which a call meets them is the order in which they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from fakes.clock import FakeClock
from fakes.virtual_time import in_virtual_time

from resilience import deadline
from resilience.bulkhead import Bulkhead
from resilience.circuit_breaker import BreakerSettings, CircuitBreaker, State
from resilience.deadline import DeadlinePolicy
from resilience.errors import BulkheadFullError, CircuitOpenError, DeadlineExceededError
from resilience.policy import Chain
from resilience.retry import Retry

T = TypeVar("T")


class CalleeError(Exception):
    pass


class Trace:
    """A policy that only notes when a call comes by."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        self._notes.append(f"{self._name} in")
        try:
            return await operation()
        finally:
            self._notes.append(f"{self._name} out")

    def run_sync(self, operation: Callable[[], T]) -> T:
        self._notes.append(f"{self._name} in")
        try:
            return operation()
        finally:
            self._notes.append(f"{self._name} out")


class Client:
    """The chain of a client: OverallDeadline(Retry(CircuitBreaker(AttemptDeadline(Bulkhead(call)))))."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.slept: list[float] = []
        self.free_while_asleep: list[int] = []
        self.breaker = CircuitBreaker("callee", BreakerSettings(consecutive_failures=4), clock=self.clock)
        self.bulkhead = Bulkhead("pool", 1, clock=self.clock)
        self.chain = Chain(
            DeadlinePolicy(10.0, "call", enforced=False, clock=self.clock),
            Retry(
                "callee",
                max_attempts=3,
                initial_backoff=1.0,
                max_backoff=1.0,
                is_retryable=lambda error: isinstance(error, (CalleeError, BulkheadFullError)),
                uniform=lambda low, high: high,
                sleep=self.sleep,
                sleep_sync=self.sleep_sync,
            ),
            self.breaker,
            DeadlinePolicy(4.0, "attempt", enforced=False, clock=self.clock),
            self.bulkhead,
        )
        self.left: list[float | None] = []
        self.fails = 0
        self.seconds = 0.0

    async def sleep(self, seconds: float) -> None:
        self.sleep_sync(seconds)

    def sleep_sync(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.free_while_asleep.append(self.bulkhead.snapshot().in_flight)
        self.clock.advance(seconds)

    def call_sync(self) -> str:
        self.left.append(deadline.remaining())
        assert self.bulkhead.snapshot().in_flight == 1
        self.clock.advance(self.seconds)
        if self.fails:
            self.fails -= 1
            raise CalleeError
        return "answer"

    async def call(self) -> str:
        return self.call_sync()

    async def make(self, blocking: bool) -> str:
        return self.chain.run_sync(self.call_sync) if blocking else await self.chain.run(self.call)


either = pytest.mark.parametrize("blocking", [False, True], ids=["async", "sync"])


@pytest.fixture
def client() -> Client:
    return Client()


@either
async def test_the_first_policy_is_the_outermost(blocking: bool) -> None:
    notes: list[str] = []
    chain = Chain(Trace("a", notes), Trace("b", notes), Trace("c", notes))

    async def call() -> int:
        notes.append("call")
        return 7

    if blocking:
        assert chain.run_sync(lambda: notes.append("call")) is None
    else:
        assert await chain.run(call) == 7
    assert notes == ["a in", "b in", "c in", "call", "c out", "b out", "a out"]


@either
async def test_a_chain_of_nothing_is_the_call_itself_and_chains_nest(blocking: bool) -> None:
    notes: list[str] = []
    chain = Chain(Chain(), Chain(Trace("a", notes)), Trace("b", notes))
    if blocking:
        chain.run_sync(lambda: None)
    else:
        await chain.run(lambda: asyncio.sleep(0))
    assert notes == ["a in", "b in", "b out", "a out"]


@either
async def test_a_call_succeeds_through_all_policies(client: Client, blocking: bool) -> None:
    assert await client.make(blocking) == "answer"
    assert client.left == [4.0]
    assert client.breaker.snapshot().calls == 1
    assert client.bulkhead.snapshot().in_flight == 0


@either
async def test_a_wait_between_attempts_holds_no_place_and_the_breaker_sees_each_attempt(
    client: Client, blocking: bool
) -> None:
    client.fails = 2
    assert await client.make(blocking) == "answer"
    assert client.free_while_asleep == [0, 0]
    snapshot = client.breaker.snapshot()
    assert (snapshot.calls, snapshot.failures) == (3, 2)


@either
async def test_an_attempt_gets_its_own_limit_or_what_is_left_of_the_call(client: Client, blocking: bool) -> None:
    client.fails = 2
    client.seconds = 3.5
    assert await client.make(blocking) == "answer"
    assert client.left == [4.0, 4.0, 1.0]


@either
async def test_an_open_breaker_refuses_before_a_place_is_taken_and_is_not_tried_again(
    client: Client, blocking: bool
) -> None:
    client.breaker.force_open()
    with pytest.raises(CircuitOpenError):
        await client.make(blocking)
    assert client.left == []
    assert client.slept == []


@either
async def test_a_full_pool_is_tried_again_and_no_failure_of_the_callee(client: Client, blocking: bool) -> None:
    await client.bulkhead.acquire()
    with pytest.raises(BulkheadFullError):
        await client.make(blocking)
    assert len(client.slept) == 2
    assert client.breaker.snapshot().calls == 0
    assert client.breaker.state is State.CLOSED


@either
async def test_a_breaker_that_opens_between_attempts_ends_the_call(client: Client, blocking: bool) -> None:
    client.fails = 100
    with pytest.raises(CalleeError):
        await client.make(blocking)
    with pytest.raises(CircuitOpenError):
        await client.make(blocking)
    assert len(client.left) == 4


@either
async def test_a_call_whose_time_is_spent_asks_nobody(client: Client, blocking: bool) -> None:
    with deadline.within(0.0, client.clock), pytest.raises(DeadlineExceededError, match="of call"):
        await client.make(blocking)
    assert client.left == []
    assert client.breaker.snapshot().calls == 0


async def test_cancellation_gives_everything_back_and_counts_nothing(client: Client) -> None:
    began = asyncio.Event()

    async def hangs() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(client.chain.run(hangs))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.bulkhead.snapshot().in_flight == 0
    assert client.breaker.snapshot().calls == 0
    assert client.slept == []


@pytest.mark.parametrize("inner", [True, False], ids=["the attempt's deadline", "the call's deadline"])
def test_a_deadline_that_passes_in_the_queue_is_a_full_pool_and_no_failure_of_the_callee(inner: bool) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        breaker = CircuitBreaker("callee", BreakerSettings(consecutive_failures=1), clock=now)
        bulkhead = Bulkhead("pool", 1, 5, 10.0, clock=now)
        limit = DeadlinePolicy(0.5, "limit", clock=now)
        chain = Chain(*([breaker, limit] if inner else [limit, breaker]), bulkhead)
        await bulkhead.acquire()
        with pytest.raises(BulkheadFullError, match="before the call's deadline"):
            await chain.run(lambda: asyncio.sleep(0))
        assert breaker.state is State.CLOSED
        assert (bulkhead.snapshot().waiting, bulkhead.snapshot().rejected) == (0, 1)

    in_virtual_time(main())
