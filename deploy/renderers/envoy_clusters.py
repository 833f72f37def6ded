"""Envoy's clusters: one for each pool of calls of each service, so that a full pool stops no other calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from deploy.renderers.signals import Signal
from deploy.renderers.wording import Node
from resilience.contract import BulkheadRule, MethodPolicy
from services.shared.auth.http import JWKS_PATH
from services.supervisor.ports import GRPC, HTTP, LOOPBACK

JWKS = "jwks"
"""The cluster from which the keys come that tokens are checked with: the HTTP ports of all services."""

_RETRY_PERCENT = 20.0
_CONNECTIONS = 1024
# Envoy counts a cluster's calls, however many instances it has: what one of them refuses, it refuses itself.
_INSTANCES = 32


def grpc_cluster_name(signal: Signal, policy: MethodPolicy) -> str:
    """The cluster of an RPC: "metrics-query"."""
    return f"{signal.name}-{policy.bulkhead.name}"


def unknown_method_cluster(signal: Signal) -> str:
    """The cluster of methods that this version does not know: the service says UNIMPLEMENTED."""
    return f"{signal.name}-{signal.bulkheads[-1].name}"


def http_cluster_name(signal: Signal) -> str:
    """The cluster of OTLP/HTTP: "metrics-http"."""
    return f"{signal.name}-http"


def clusters(signals: Sequence[Signal], grpc: Node, http: Node) -> Iterator[Node]:
    """All clusters.

    Args:
        signals: The services.
        grpc: What all clusters of gRPC ports have.
        http: What all clusters of HTTP ports have.
    """
    for signal in signals:
        for pool in signal.bulkheads:
            name = f"{signal.name}-{pool.name}"
            yield _cluster(grpc, name, [GRPC[signal.name]], _http2_limits(pool))
    for signal in signals:
        if signal.otlp is not None:
            yield _cluster(
                http, http_cluster_name(signal), [HTTP[signal.name]], _http1_limits(signal.otlp.policy.bulkhead)
            )
    yield _keys_cluster(http, [HTTP[signal.name] for signal in signals])


def discovered_clusters(fixed: Iterable[Node], signals: Sequence[Signal], cluster: Node, mesh: Node) -> Iterator[Node]:
    """The clusters whose endpoints the mesh tells, and the mesh's own.

    Args:
        fixed: The clusters with fixed addresses.
        signals: The services.
        cluster: What all clusters have instead of them.
        mesh: The mesh's cluster, complete.
    """
    served = {signal.name: signal.service.full_name for signal in signals}
    for each in fixed:
        pool = {key: value for key, value in each.items() if key not in ("type", "load_assignment")}
        source = {**cluster["eds_cluster_config"], "service_name": _set_name(each["name"])}
        (limits,) = pool["circuit_breakers"]["thresholds"]
        many = {key: value if key == "retry_budget" else value * _INSTANCES for key, value in limits.items()}
        yield {
            **pool,
            **cluster,
            "circuit_breakers": {"thresholds": [many]},
            "health_checks": [_check_of(served, each["name"], check) for check in pool["health_checks"]],
            "eds_cluster_config": source,
        }
    yield mesh


def _keys_cluster(http: Node, ports: Sequence[int]) -> Node:
    # All serve the same keys, so one that is there is enough, also if it is not ready for calls. Left to itself Envoy
    # would ask those that are down too as soon as most are, and refuse tokens until it happens upon one that answers.
    (check,) = http["health_checks"]
    return {
        **_cluster(http, JWKS, ports, {"max_connections": 16}),
        "health_checks": [{**check, "http_health_check": {"path": JWKS_PATH}}],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def _check_of(served: Mapping[str, str], cluster: str, check: Node) -> Node:
    # A worker that takes the address of an instance that is gone is as healthy, but does not serve.
    if "grpc_health_check" not in check:
        return check
    return {**check, "grpc_health_check": {"service_name": served[cluster.partition("-")[0]]}}


def _set_name(cluster: str) -> str:
    # The pools of a service have the same endpoints: `services/mesh/model.py` names them.
    if cluster == JWKS:
        return "*/http"
    signal, _, pool = cluster.partition("-")
    return f"{signal}/{'http' if pool == 'http' else 'grpc'}"


def _http2_limits(pool: BulkheadRule) -> Node:
    # Over HTTP/2 a request goes out at once: none waits in Envoy but for the first connection, and `max_requests`
    # counts those that the service lets wait together with those that it runs. So the limit is what one instance holds
    # in all: what the service would refuse is refused here, and what it would take gets there. `max_pending_requests`
    # must be as high: it counts requests for which a connection is being made, and 0 would refuse the first of all.
    calls = pool.max_concurrent + pool.max_waiting
    return {"max_connections": _CONNECTIONS, "max_pending_requests": calls, "max_requests": calls}


def _http1_limits(pool: BulkheadRule) -> Node:
    # Over HTTP/1.1 a request has a connection for itself, and those without one wait here.
    return {
        "max_connections": pool.max_concurrent,
        "max_pending_requests": pool.max_waiting,
        "max_requests": pool.max_concurrent + pool.max_waiting,
    }


def _cluster(base: Node, name: str, ports: Sequence[int], limits: Node) -> Node:
    hosts: list[Any] = [
        {"endpoint": {"address": {"socket_address": {"address": LOOPBACK, "port_value": port}}}} for port in ports
    ]
    # While a service is started again all its calls wait for it, and none counts as under way: as many may wait as may
    # be under way else. They do no harm: only what never reached a service is repeated.
    waiting = limits.get("max_requests", limits["max_connections"])
    budget = {"budget_percent": {"value": _RETRY_PERCENT}, "min_retry_concurrency": waiting}
    return {
        **base,
        "name": name,
        "circuit_breakers": {"thresholds": [{**limits, "retry_budget": budget}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }
