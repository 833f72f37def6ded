"""Reads `airis.policy.v1` from the descriptors: the one source of deadlines, retries, permissions and limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airis.policy.v1 import policy_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor

from resilience.priority import Priority


@dataclass(frozen=True, slots=True)
class RetryRule:
    """When and how often a failed call is repeated. Times are seconds; `attempt_deadline` None: what is left."""

    max_attempts: int
    initial_backoff: float
    max_backoff: float
    backoff_multiplier: float
    retryable_codes: frozenset[str]
    attempt_deadline: float | None


@dataclass(frozen=True, slots=True)
class HedgingRule:
    """When a further attempt is made although the first is under way. `delay` is in seconds."""

    max_attempts: int
    delay: float


@dataclass(frozen=True, slots=True)
class RateRule:
    """How often one tenant may call."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class BulkheadRule:
    """A pool of concurrent calls of one service. `max_wait` is in seconds."""

    name: str
    max_concurrent: int
    max_waiting: int
    max_wait: float


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """What the contract says of one RPC.

    Attributes:
        method: Its path: "/airis.metrics.v1.MetricsService/QueryMetrics".
        deadline: Seconds a call may take; None: no limit (streams).
        idempotent: Whether repeating the call changes nothing more.
        permission: What a caller needs: "metrics.read".
        bulkhead: The pool of calls that it draws from.
        priority: When it is shed under overload.
        retry: When the client repeats it; None: never.
        hedging: When the client sends it twice; None: never.
        rate_limit: How often one tenant may call it; None: no limit.
        latency_p95: The promised 95th percentile in seconds.
        availability: The promised share of calls that do not fail.
        policy: All of it, as it stands in the contract.
    """

    method: str
    deadline: float | None
    idempotent: bool
    permission: str
    bulkhead: BulkheadRule
    priority: Priority
    retry: RetryRule | None
    hedging: HedgingRule | None
    rate_limit: RateRule | None
    latency_p95: float
    availability: float
    policy: policy_pb2.Policy


def method_policy(method: MethodDescriptor) -> MethodPolicy:
    """The policy of an RPC.

    Raises:
        LookupError: It has none, or a part is missing or contradicts another: the contract is incomplete.
    """
    options: Any = method.GetOptions()
    if not options.HasExtension(policy_pb2.policy):
        raise LookupError(f"{method.full_name} has no airis.policy.v1.policy.")
    policy: policy_pb2.Policy = options.Extensions[policy_pb2.policy]
    for field in ("deadline", "permission", "bulkhead", "objective"):
        if not (policy.HasField(field) if field == "objective" else getattr(policy, field)):
            raise LookupError(f"The policy of {method.full_name} has no {field}.")
    if policy.HasField("retry") and policy.HasField("hedging"):
        raise LookupError(f"The policy of {method.full_name} has retry and hedging; it may have one.")
    if seconds(policy.retry.attempt_deadline) > (seconds(policy.deadline) or math.inf):
        raise LookupError(f"The policy of {method.full_name} gives an attempt more time than the call.")
    if (policy.HasField("retry") or policy.HasField("hedging")) and not policy.idempotent:
        raise LookupError(f"The policy of {method.full_name} repeats calls, but the RPC is not idempotent.")
    pools = service_bulkheads(method.containing_service)
    if policy.bulkhead not in pools:
        raise LookupError(
            f"{method.full_name} names the bulkhead {policy.bulkhead!r}, which its service does not have."
        )
    return MethodPolicy(
        method=f"/{method.containing_service.full_name}/{method.name}",
        deadline=seconds(policy.deadline) or None,
        idempotent=policy.idempotent,
        permission=policy.permission,
        bulkhead=pools[policy.bulkhead],
        priority=Priority(policy.priority or Priority.INTERACTIVE),
        retry=_retry(policy.retry) if policy.HasField("retry") else None,
        hedging=HedgingRule(policy.hedging.max_attempts, seconds(policy.hedging.delay))
        if policy.HasField("hedging")
        else None,
        rate_limit=RateRule(policy.rate_limit.per_second, policy.rate_limit.burst)
        if policy.HasField("rate_limit")
        else None,
        latency_p95=seconds(policy.objective.latency_p95),
        availability=policy.objective.availability,
        policy=policy,
    )


def service_bulkheads(service: ServiceDescriptor) -> dict[str, BulkheadRule]:
    """The pools of a service by name. Raises `LookupError` if one stands there twice."""
    options: Any = service.GetOptions()
    found: dict[str, BulkheadRule] = {}
    for pool in options.Extensions[policy_pb2.service_policy].bulkheads:
        if pool.name in found:
            raise LookupError(f"{service.full_name} has the bulkhead {pool.name!r} twice.")
        found[pool.name] = BulkheadRule(pool.name, pool.max_concurrent, pool.max_waiting, seconds(pool.max_wait))
    return found


def read_descriptor_set(path: Path) -> tuple[FileDescriptor, ...]:
    """The files of a compiled descriptor set, such as `gen/airis.binpb`, apart from the contracts of this program.

    Args:
        path: What `protoc --include_imports --descriptor_set_out` wrote: each file after those that it imports.

    Raises:
        TypeError: A file imports one that is not before it.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    return tuple(pool.AddSerializedFile(file.SerializeToString()) for file in files.file)


def airis_services(files: Iterable[FileDescriptor]) -> Iterator[ServiceDescriptor]:
    """The services among some files that have policies: all but those of other makers, such as OTLP's."""
    for file in files:
        if file.package.startswith("airis."):
            yield from file.services_by_name.values()


def policies(files: Iterable[FileDescriptor]) -> Iterator[MethodPolicy]:
    """The policies of all RPCs of some files. Raises `LookupError` if one has none."""
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                yield method_policy(method)


def seconds(duration: str) -> float:
    """A duration in the contract's form, "0.5s", in seconds; an empty one is 0."""
    return float(duration.removesuffix("s") or 0)


def _retry(rule: policy_pb2.Retry) -> RetryRule:
    return RetryRule(
        max_attempts=rule.max_attempts,
        initial_backoff=seconds(rule.initial_backoff),
        max_backoff=seconds(rule.max_backoff),
        backoff_multiplier=rule.backoff_multiplier,
        retryable_codes=frozenset(rule.retryable_codes),
        attempt_deadline=seconds(rule.attempt_deadline) or None,
    )
