"""Envoy's routes: for each RPC its deadline, its pool, who may call it, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from deploy.renderers.envoy_clusters import grpc_cluster_name, http_cluster_name, unknown_method_cluster
from deploy.renderers.envoy_replies import AUTHENTICATION_FILTER, route_metadata
from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import Node, in_seconds
from resilience.contract import MethodPolicy, RateRule

CLAIMS = "claims"
"""Where the checked token's claims stand in a request's metadata."""

PERMISSION_FILTER = "airis.permission"
RATE_LIMIT_FILTER = "envoy.filters.http.local_ratelimit"
BUFFER_FILTER = "envoy.filters.http.buffer"

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_STREAM_IDLE = "3600s"
_UNKNOWN_METHOD_TIMEOUT = "5s"
_TENANTS = 1000
"""Tenants whose buckets are kept for each route; beyond it, the one that was silent for longest begins anew."""


def edge_routes(signals: Sequence[Signal]) -> Iterator[Node]:
    """One route an RPC. REST calls come here when the transcoder has rewritten their paths."""
    for signal in signals:
        for policy in sorted(signal.policies, key=method_name):
            yield _unbuffered(_route({"path": policy.method}, grpc_cluster_name(signal, policy), signal, policy))
        # A method that this version does not know: the service itself says UNIMPLEMENTED.
        match: Node = {"prefix": f"/{signal.service.full_name}/", "grpc": {}}
        action = {"cluster": unknown_method_cluster(signal), "timeout": _UNKNOWN_METHOD_TIMEOUT}
        yield _unbuffered(_open({"match": match, "route": action}))
    # A service that is not here, answered at once: a stream would never end for the filter that limits sizes.
    # To a gRPC client, 404 is UNIMPLEMENTED.
    yield _unbuffered(_open({"match": {"prefix": "/", "grpc": {}}, "direct_response": {"status": 404}}))
    # REST before it is transcoded: CORS needs a route to ask. Nothing is sent on from here, as no request names
    # a cluster: the header is taken off what comes in.
    nowhere = {"cluster_header": "x-airis-cluster", "cluster_not_found_response_code": "NOT_FOUND"}
    yield _open({"match": {"prefix": "/api/"}, "route": nowhere})


def otlp_grpc_routes(signals: Sequence[Signal]) -> Iterator[Node]:
    """OTLP/gRPC, with the policy of the service's own unary ingest."""
    for signal in signals:
        if signal.otlp is not None:
            policy = signal.otlp.policy
            yield _route({"path": signal.otlp.method}, grpc_cluster_name(signal, policy), signal, policy)


def otlp_http_routes(signals: Sequence[Signal]) -> Iterator[Node]:
    """OTLP/HTTP likewise."""
    for signal in signals:
        if signal.otlp is not None:
            yield _route({"path": signal.otlp.http_path}, http_cluster_name(signal), signal, signal.otlp.policy)


def _route(match: Node, cluster: str, signal: Signal, policy: MethodPolicy) -> Node:
    # 0s: no limit.
    action: Node = {"cluster": cluster, "timeout": in_seconds(policy.deadline or 0)}
    if policy.deadline is None:
        action["idle_timeout"] = _STREAM_IDLE
    filters = {PERMISSION_FILTER: _needs(policy.permission)}
    if policy.rate_limit is not None:
        filters[RATE_LIMIT_FILTER] = _rate_limit(policy.rate_limit)
    metadata = route_metadata(policy, signal.domain)
    return {"match": match, "metadata": metadata, "route": action, "typed_per_filter_config": filters}


def _unbuffered(route: Node) -> Node:
    """Lets messages through as they come: the services themselves limit the size of each."""
    buffer = {"@type": f"{_FILTERS}.buffer.v3.BufferPerRoute", "disabled": True}
    return {**route, "typed_per_filter_config": {BUFFER_FILTER: buffer, **route["typed_per_filter_config"]}}


def _open(route: Node) -> Node:
    """Needs no permission: where no policy is known, nothing is done but to say so."""
    return {**route, "typed_per_filter_config": {PERMISSION_FILTER: {"@type": f"{_FILTERS}.rbac.v3.RBACPerRoute"}}}


def _needs(permission: str) -> Node:
    path = [{"key": CLAIMS}, {"key": "permissions"}]
    value = {"list_match": {"one_of": {"string_match": {"exact": permission}}}}
    matcher = {"filter": AUTHENTICATION_FILTER, "path": path, "value": value}
    carried = {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
    policies = {permission: {"permissions": [{"any": True}], "principals": [carried]}}
    rules = {"action": "ALLOW", "policies": policies}
    return {"@type": f"{_FILTERS}.rbac.v3.RBACPerRoute", "rbac": {"rules": rules}}


def _rate_limit(rule: RateRule) -> Node:
    """A bucket for each tenant; without authentication all calls are of one."""
    fill = Fraction(rule.per_second).limit_denominator(1000)
    bucket = {
        "max_tokens": rule.burst,
        "tokens_per_fill": fill.numerator,
        "fill_interval": in_seconds(fill.denominator),
    }
    tenant = {
        "metadata": {
            "descriptor_key": "tenant",
            "metadata_key": {"key": AUTHENTICATION_FILTER, "path": [{"key": CLAIMS}, {"key": "tenant"}]},
            "source": "DYNAMIC",
            "default_value": "default",
        }
    }
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "tenant",
        "token_bucket": bucket,
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": [{"actions": [tenant]}],
        "descriptors": [{"entries": [{"key": "tenant"}], "token_bucket": bucket}],
        "max_dynamic_descriptors": _TENANTS,
        "always_consume_default_token_bucket": False,
        "rate_limited_as_resource_exhausted": True,
    }
