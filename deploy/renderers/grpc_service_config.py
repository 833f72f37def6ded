"""`deploy/grpc/service_config.json`: the policies for gRPC clients in any language (gRFC A6, `grpc.service_config`)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import Node, in_seconds
from resilience.contract import HedgingRule, MethodPolicy, RetryRule

# gRPC retries while more than half of the tokens are there: each failure takes one, each success gives the ratio back.
# As our own client: ten retries in reserve, and one for ten successes.
_THROTTLING = {"maxTokens": 20, "tokenRatio": 0.1}

# After this code a further attempt may succeed, as for our own client; any other ends hedging.
_NOT_FATAL = ["UNAVAILABLE"]

# gRPC's own cap: it makes no more attempts than these, whatever is written.
_MAX_ATTEMPTS = 5


def render_service_config(signals: Sequence[Signal]) -> str:
    """The service config as JSON."""
    methods = [
        _method(signal.service.full_name, policy)
        for signal in signals
        for policy in sorted(signal.policies, key=method_name)
    ]
    config = {"methodConfig": methods, "retryThrottling": _THROTTLING}
    return json.dumps(config, indent=2) + "\n"


def _method(service: str, policy: MethodPolicy) -> Node:
    config: Node = {"name": [{"service": service, "method": method_name(policy)}]}
    if policy.deadline is not None:
        config["timeout"] = in_seconds(policy.deadline)
    if policy.retry is not None:
        config["retryPolicy"] = _retry(policy.retry)
    if policy.hedging is not None:
        config["hedgingPolicy"] = _hedging(policy.hedging)
    return config


def _retry(rule: RetryRule) -> Node:
    return {
        "maxAttempts": min(rule.max_attempts, _MAX_ATTEMPTS),
        "initialBackoff": in_seconds(rule.initial_backoff),
        "maxBackoff": in_seconds(rule.max_backoff),
        "backoffMultiplier": rule.backoff_multiplier,
        "retryableStatusCodes": sorted(rule.retryable_codes),
    }


def _hedging(rule: HedgingRule) -> Node:
    return {
        "maxAttempts": min(rule.max_attempts, _MAX_ATTEMPTS),
        "hedgingDelay": in_seconds(rule.delay),
        "nonFatalStatusCodes": _NOT_FATAL,
    }
