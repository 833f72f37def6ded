"""What a client's calls go through, made from the contract: one chain for each method of an endpoint."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pool

from resilience import deadline
from resilience.bulkhead import Bulkhead
from resilience.circuit_breaker import BreakerSettings, CircuitBreaker
from resilience.contract import MethodPolicy, method_policy
from resilience.deadline import DeadlinePolicy
from resilience.errors import ResilienceError
from resilience.events import Events, Listener
from resilience.grpc.codes import RefusedCallError, classify, classify_code, retryable
from resilience.grpc.status import retry_after
from resilience.hedging import Hedging
from resilience.outcome import Outcome
from resilience.policy import Chain, Policy
from resilience.retry import Retry
from resilience.retry_budget import RetryBudget
from resilience.telemetry import observe

T = TypeVar("T")

_given: ContextVar[float | None] = ContextVar("given", default=None)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a client decides itself; all else is in the contract.

    Attributes:
        margin: Seconds that a call made while serving another ends before that one must, so that there is time left
            to answer.
        breaker: When the breaker of a method opens, and for how long: a service that was restarted is back in seconds.
        reconnect_seconds: How long unary calls over `grpc.aio` wait for a connection that was lost, counted from its
            loss; 0: they fail at once.
        listener: Is told every decision; None: OpenTelemetry's metrics and spans only.
        clock: Gives monotonic seconds.
        uniform: Gives a random number of a range, for backoff.
    """

    margin: float = 0.005
    breaker: BreakerSettings = field(default_factory=lambda: BreakerSettings(open_seconds=2.0))
    reconnect_seconds: float = 0.0
    listener: Listener | None = None
    clock: Callable[[], float] = time.monotonic
    uniform: Callable[[float, float], float] = random.uniform


class MethodChain:
    """One method of one endpoint.

    Args:
        method: Its path.
        target: The endpoint, for messages.
        policy: What the contract says; None: nothing, as of a foreign service.
        parts: What the methods of the endpoint share.

    Attributes:
        policy: What the contract says; None: nothing.
        settings: The client's.
        breaker: Of this method at this endpoint.
        bulkhead: The pool that it draws from; None: it has none.
        unary: What a call with one answer goes through. The order is the design's:
            OverallDeadline(Retry(CircuitBreaker(AttemptDeadline(Bulkhead(call))))), so that backoff holds no place.
        once: The same without repeating.
    """

    def __init__(self, method: str, target: str, policy: MethodPolicy | None, parts: EndpointParts) -> None:
        settings = parts.settings
        self.policy = policy
        self.bulkhead = parts.bulkhead(method, policy) if policy else None
        self.breaker = CircuitBreaker(method, settings.breaker, classify=self._classify, clock=settings.clock)
        parts.listen(self.breaker.events)
        self._target = target
        self.settings = settings
        self._limit = policy.deadline if policy else None
        overall = DeadlinePolicy(None, method, enforced=False, clock=settings.clock)
        parts.listen(overall.events)
        attempt = list[Policy]()
        if policy and policy.retry and policy.retry.attempt_deadline:
            limit = policy.retry.attempt_deadline
            limited = DeadlinePolicy(limit, f"an attempt of {method}", enforced=False, clock=settings.clock)
            parts.listen(limited.events)
            attempt = [limited]
        pool: list[Policy] = [self.bulkhead] if self.bulkhead else []
        self.unary = Chain(overall, *parts.repeating(method, policy), self.breaker, *attempt, *pool)
        self.once = Chain(overall, self.breaker, *attempt, *pool)

    async def run(self, operation: Callable[[], Awaitable[T]], timeout: float | None, *, repeat: bool = True) -> T:
        """Makes a call with one answer.

        Args:
            operation: Makes one attempt, which keeps to `resilience.deadline.remaining()`.
            timeout: Seconds that the caller gives it; None: the contract's.
            repeat: Whether it may be repeated as the contract says. False: its caller repeats it, or nobody may.

        Raises:
            grpc.RpcError: The call failed, or a policy refused it (`RefusedCallError`).
        """
        try:
            with self.limited(timeout):
                return await (self.unary if repeat else self.once).run(operation)
        except ResilienceError as error:
            raise RefusedCallError(error, self._target) from error

    def run_sync(self, operation: Callable[[], T], timeout: float | None, *, repeat: bool = True) -> T:
        """Makes a blocking call with one answer, as `run` does."""
        try:
            with self.limited(timeout):
                return (self.unary if repeat else self.once).run_sync(operation)
        except ResilienceError as error:
            raise RefusedCallError(error, self._target) from error

    def refused(self, error: ResilienceError) -> RefusedCallError:
        """A refusal as its caller sees it."""
        return RefusedCallError(error, self._target)

    def limit(self, timeout: float | None) -> float | None:
        """Seconds that a call may take: the contract's or the caller's, whichever is less; None: no limit."""
        limits = [limit for limit in (self._limit, timeout) if limit is not None]
        return min(limits) if limits else None

    @contextmanager
    def limited(self, timeout: float | None) -> Iterator[None]:
        """Gives a call its time: the contract's, the caller's, or what is left of the call that is being served less
        the margin, whichever is least."""
        left = deadline.remaining()
        limits = [limit for limit in (self.limit(timeout),) if limit is not None]
        if left is not None:
            limits.append(max(0.0, left - self.settings.margin))
        limit = min(limits) if limits else None
        token = _given.set(limit)
        try:
            with deadline.within(limit, self.settings.clock):
                yield
        finally:
            _given.reset(token)

    def outcome(self, code: grpc.StatusCode) -> Outcome:
        """What the end of a stream says of the callee."""
        return classify_code(code)

    def _classify(self, error: BaseException) -> Outcome:
        outcome = classify(error)
        given = _given.get()
        if (
            outcome is Outcome.FAILURE
            and self.policy is not None
            and given is not None
            and given < self.policy.latency_p95
            and getattr(error, "code", lambda: None)() is grpc.StatusCode.DEADLINE_EXCEEDED
        ):
            # The caller gave less time than the contract promises an answer in.
            return Outcome.IGNORED
        return outcome


def may_repeat(request: Any) -> bool:
    """Whether a request can be sent again: one that could have had a `request_id` and has none would do its work twice.

    Args:
        request: A message, or its bytes, whose maker has to know.
    """
    return bool(getattr(request, "request_id", None) != "")


class EndpointParts:
    """What the methods of one endpoint share: pools and the retry budget.

    Args:
        settings: The client's.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.budget = RetryBudget(clock=settings.clock)
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}
        self._hedgings: list[Hedging] = []

    def close(self) -> None:
        """Ends the threads of hedged blocking calls."""
        for hedging in self._hedgings:
            hedging.close()

    def bulkhead(self, method: str, policy: MethodPolicy) -> Bulkhead:
        """The pool that a method draws from."""
        rule = policy.bulkhead
        service = method.split("/")[1]
        if (service, rule.name) not in self._bulkheads:
            pool = Bulkhead(
                f"{service}/{rule.name}",
                rule.max_concurrent,
                rule.max_waiting,
                rule.max_wait,
                clock=self.settings.clock,
            )
            self.listen(pool.events)
            self._bulkheads[service, rule.name] = pool
        return self._bulkheads[service, rule.name]

    def repeating(self, method: str, policy: MethodPolicy | None) -> list[Policy]:
        """Retry or hedging, as the contract says; nothing where it says nothing."""
        if policy is None:
            return []
        found: Retry | Hedging
        if policy.retry:
            rule = policy.retry
            found = Retry(
                method,
                max_attempts=rule.max_attempts,
                initial_backoff=rule.initial_backoff,
                max_backoff=rule.max_backoff,
                multiplier=rule.backoff_multiplier,
                is_retryable=retryable(policy),
                retry_after=retry_after,
                budget=self.budget,
                uniform=self.settings.uniform,
            )
        elif policy.hedging:
            repeatable = retryable(policy)
            found = Hedging(
                method,
                max_attempts=policy.hedging.max_attempts,
                delay=policy.hedging.delay,
                is_fatal=lambda error: not repeatable(error),
                budget=self.budget,
                clock=self.settings.clock,
            )
            self._hedgings.append(found)
        else:
            return []
        self.listen(found.events)
        return [found]

    def listen(self, events: Events) -> None:
        """Has decisions told."""
        observe(events)
        if self.settings.listener is not None:
            events.subscribe(self.settings.listener)


class Endpoint:
    """The chains of all methods of one endpoint, made when they are first called.

    Args:
        target: The endpoint, for messages.
        settings: The client's.
    """

    def __init__(self, target: str, settings: ClientSettings | None = None) -> None:
        self.target = target
        self.parts = EndpointParts(settings or ClientSettings())
        self._chains: dict[str, MethodChain] = {}
        self._lock = threading.Lock()

    def chain(self, method: str) -> MethodChain:
        """The chain of a method.

        Args:
            method: Its path: "/airis.metrics.v1.MetricsService/QueryMetrics".

        Raises:
            LookupError: It is one of ours and has no policy.
        """
        with self._lock:
            if method not in self._chains:
                self._chains[method] = MethodChain(method, self.target, policy_of(method), self.parts)
            return self._chains[method]

    def snapshot(self) -> dict[str, Any]:
        """The state of each method's breaker, by path."""
        with self._lock:
            return {method: chain.breaker.snapshot() for method, chain in self._chains.items()}


def policy_of(method: str) -> MethodPolicy | None:
    """What the contract says of a method; None: it is not one of ours.

    Raises:
        LookupError: It is one of ours and has no policy.
    """
    name = method.strip("/").replace("/", ".")
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(name)
    except KeyError:
        if name.startswith("airis."):
            raise LookupError(f"There is no RPC {method} in the contracts that are loaded.") from None
        return None
    return method_policy(descriptor) if name.startswith("airis.") else None
