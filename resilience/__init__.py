"""Policies that keep calls working while what they call does not: retry, hedging, circuit breaker, bulkhead, deadline,
rate limit, adaptive concurrency limit, admission by priority, fault injection.

A policy is an object that is made once and shared by all calls that it is for. It runs an operation, a function without
arguments, with `await policy.run(operation)` in asyncio or `policy.run_sync(operation)` in a thread. `Chain` makes one
policy of several, the outermost first:

    ask = Chain(DeadlinePolicy(2.0), retry, breaker, DeadlinePolicy(0.5, "attempt"), bulkhead)
    answer = await ask.run(lambda: client.get("/weather"))

The operation's own errors pass through unchanged; a policy that refuses a call or ends it raises a `ResilienceError`.
All times are in seconds. Every decision is an `Event` (`policy.events.subscribe(print)`) and every state has a
`snapshot()`. Clocks and random sources are arguments, so that tests need not wait.

Start with docs/resilience.md: programs to run, every parameter, the order of a chain and why.

Beside what is here:
    `resilience.deadline`: the time that is left to the current call, for operations that keep to it.
    `resilience.telemetry`: decisions as OpenTelemetry metrics and span events.
    `resilience.contract`: the policies that the protos give to each RPC.
    `resilience.grpc`: the policies around gRPC calls, clients' and servers'.
These need OpenTelemetry, protobuf or gRPC, and are imported by their own names; what is here needs tenacity only.
"""

from resilience.admission import Admission, AdmissionSnapshot, PriorityAdmission
from resilience.breaker_settings import BreakerSettings, BreakerSnapshot, State
from resilience.bulkhead import Bulkhead, BulkheadSnapshot
from resilience.circuit_breaker import CircuitBreaker, Permit
from resilience.concurrency_limit import ConcurrencyLimit, ConcurrencyLimitSnapshot
from resilience.deadline import Deadline, DeadlinePolicy, DeadlineSnapshot, remaining, within
from resilience.errors import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceededError,
    InjectedFaultError,
    OverloadedError,
    RateLimitedError,
    ResilienceError,
)
from resilience.events import Event, Events, Listener
from resilience.faults import FaultInjection, FaultSnapshot
from resilience.hedging import Hedging, HedgingSnapshot
from resilience.outcome import Classify, Outcome, classify
from resilience.policy import Chain, Policy
from resilience.priority import Priority
from resilience.rate_limit import KeyedRateLimit, RateLimit, RateLimitSnapshot
from resilience.retry import Retry, RetrySnapshot
from resilience.retry_budget import RetryBudget, RetryBudgetSnapshot
from resilience.shared_rate_limit import SharedRateLimit, SharedRateLimitSnapshot
from resilience.token_bucket import TokenBucket

__all__ = [
    "Admission",
    "AdmissionSnapshot",
    "BreakerSettings",
    "BreakerSnapshot",
    "Bulkhead",
    "BulkheadFullError",
    "BulkheadSnapshot",
    "Chain",
    "CircuitBreaker",
    "CircuitOpenError",
    "Classify",
    "ConcurrencyLimit",
    "ConcurrencyLimitSnapshot",
    "Deadline",
    "DeadlineExceededError",
    "DeadlinePolicy",
    "DeadlineSnapshot",
    "Event",
    "Events",
    "FaultInjection",
    "FaultSnapshot",
    "Hedging",
    "HedgingSnapshot",
    "InjectedFaultError",
    "KeyedRateLimit",
    "Listener",
    "Outcome",
    "OverloadedError",
    "Permit",
    "Policy",
    "Priority",
    "PriorityAdmission",
    "RateLimit",
    "RateLimitSnapshot",
    "RateLimitedError",
    "ResilienceError",
    "Retry",
    "RetryBudget",
    "RetryBudgetSnapshot",
    "RetrySnapshot",
    "SharedRateLimit",
    "SharedRateLimitSnapshot",
    "State",
    "TokenBucket",
    "classify",
    "remaining",
    "within",
]
