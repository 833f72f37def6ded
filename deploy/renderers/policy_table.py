"""`docs/policies.md`: what the contract promises of each RPC, for people."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import in_seconds, table
from resilience.contract import HedgingRule, MethodPolicy, RetryRule

_HEAD = """\
<!-- Generated from the protos by `make generate`. Do not edit. -->
# Policies

Every RPC says in its contract how long it may take, when it may be repeated, who may call it and how often
(`airis.policy.v1`, see [the package](../proto/airis/policy/v1/README.md)). The clients, the services, Envoy
(`envoy/envoy.yaml`), gRPC clients in other languages (`deploy/grpc/`) and the meshes (`deploy/istio/`,
`deploy/linkerd/`) have their settings from there, so that this table holds for each of them.

- **Deadline**: the longest that a call may take; ∞: a stream, without a limit.
- **Retry**: attempts in all, the delays before them (with full jitter), and the codes after which they are made; beside
  them the longest that one attempt may take, where it is shorter than the deadline. **Hedging**: attempts in all, and
  after how long the next is made although the last is under way.
- **Idempotent**: repeating the call changes nothing more.
- **Bulkhead**: the pool of concurrent calls. **Rate**: calls a second of one tenant, and how many at once.
- **Priority**: under overload BULK is shed first and CRITICAL last.
- **Objective**: what 95 % of the calls take at most, and the share of calls that do not fail, in normal operation.

OTLP's `Export`, over gRPC and HTTP, has the policy of the service's own unary ingest.
"""
_COLUMNS = (
    "RPC", "Deadline", "Retry or hedging", "Idempotent", "Permission", "Bulkhead", "Rate", "Priority", "Objective",
)  # fmt: skip


def render_policy_table(signals: Sequence[Signal]) -> str:
    """The page."""
    parts = [_HEAD]
    for signal in signals:
        parts.append(f"\n## {signal.service.name}\n\n")
        parts.append(table(_COLUMNS, map(_row, signal.policies)))
        pools = [
            (f"`{pool.name}`", str(pool.max_concurrent), str(pool.max_waiting), in_seconds(pool.max_wait))
            for pool in signal.bulkheads
        ]
        parts.append("\n" + table(("Bulkhead", "Calls at once", "Waiting", "Longest wait"), pools))
    return "".join(parts)


def _row(policy: MethodPolicy) -> tuple[str, ...]:
    rate = policy.rate_limit
    return (
        f"`{method_name(policy)}`",
        in_seconds(policy.deadline) if policy.deadline else "∞",
        _repeats(policy),
        "yes" if policy.idempotent else "no",
        f"`{policy.permission}`",
        f"`{policy.bulkhead.name}`",
        f"{rate.per_second:g}/s, {rate.burst} at once" if rate else "no limit",
        policy.priority.name,
        f"{in_seconds(policy.latency_p95)}, {policy.availability * 100:g} %",
    )


def _repeats(policy: MethodPolicy) -> str:
    if policy.retry is not None:
        return _retry(policy.retry)
    return _hedging(policy.hedging) if policy.hedging is not None else "no"


def _retry(rule: RetryRule) -> str:
    text = f"{rule.max_attempts} attempts, {in_seconds(rule.initial_backoff)} × {rule.backoff_multiplier:g}"
    text += f" up to {in_seconds(rule.max_backoff)}, on {', '.join(sorted(rule.retryable_codes))}"
    return text + (f"; {in_seconds(rule.attempt_deadline)} each" if rule.attempt_deadline else "")


def _hedging(rule: HedgingRule) -> str:
    return f"hedged: {rule.max_attempts} attempts, {in_seconds(rule.delay)} apart"
