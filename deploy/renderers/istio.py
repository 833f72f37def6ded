"""`deploy/istio/<signal>.yaml`: one service in an Istio mesh.

Timeouts and retries of each RPC (VirtualService), a pool for each bulkhead and the ejection of failing instances
(DestinationRule), and who may call what (RequestAuthentication, AuthorizationPolicy).
"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.renderers.signals import Signal
from deploy.renderers.wording import Node, as_yaml, in_seconds
from resilience.contract import BulkheadRule, MethodPolicy
from services.shared.auth.http import JWKS_PATH
from services.shared.auth.tokens import AUDIENCE, ISSUER
from services.supervisor.ports import GRPC, HTTP

HEADER = """\
Generated from the protos by `make generate`. Do not edit.
For a namespace with Istio, in which the Service and its pods are named (`app`) as the signal. The mesh repeats only
calls that never reached a service, as often as the contract allows; every other repeat is the client's."""

NEVER_ARRIVED = "connect-failure,refused-stream,reset-before-request"
_HEALTH = "/grpc.health.v1.Health/*"
_PROBES = ["/metrics", "/healthz", "/readyz", JWKS_PATH]
_GIVEN = {"source": {"requestPrincipals": [f"{ISSUER}/*"]}}


def render_istio(signal: Signal) -> str:
    """The manifests of one service."""
    return as_yaml(
        _virtual_service(signal), _destination_rule(signal), _request_authentication(signal), _authorization(signal),
        header=HEADER,
    )  # fmt: skip


def _virtual_service(signal: Signal) -> Node:
    routes = [_route(signal, policy.method, policy) for policy in signal.policies]
    if signal.otlp is not None:
        routes.append(_route(signal, signal.otlp.method, signal.otlp.policy))
    # Health, reflection, and methods that a newer version adds: as they come, and never twice.
    routes.append({"name": "other", "route": [{"destination": _destination(signal)}], "retries": {"attempts": 0}})
    spec = {"hosts": [signal.name], "http": routes}
    return _resource("networking.istio.io/v1", "VirtualService", signal, spec)


def _route(signal: Signal, path: str, policy: MethodPolicy) -> Node:
    destination = {**_destination(signal), "subset": policy.bulkhead.name}
    route: Node = {
        "name": path.strip("/").replace("/", "."),
        "match": [{"uri": {"exact": path}, "port": GRPC[signal.name]}],
        "route": [{"destination": destination}],
        # 0s: no limit, as for Envoy.
        "timeout": in_seconds(policy.deadline or 0),
        "retries": {"attempts": 0},
    }
    if policy.retry is not None:
        route["retries"] = {"attempts": policy.retry.max_attempts - 1, "retryOn": NEVER_ARRIVED}
        if policy.retry.attempt_deadline is not None:
            route["retries"]["perTryTimeout"] = in_seconds(policy.retry.attempt_deadline)
    return route


def _destination(signal: Signal) -> Node:
    return {"host": signal.name, "port": {"number": GRPC[signal.name]}}


def _destination_rule(signal: Signal) -> Node:
    spec = {
        "host": signal.name,
        "trafficPolicy": {
            "loadBalancer": {"simple": "LEAST_REQUEST"},
            "outlierDetection": {
                "consecutiveGatewayErrors": 5,
                "consecutive5xxErrors": 20,
                "interval": "5s",
                "baseEjectionTime": "5s",
                "maxEjectionPercent": 50,
            },
        },
        "subsets": [_subset(signal, pool) for pool in signal.bulkheads],
    }
    return _resource("networking.istio.io/v1", "DestinationRule", signal, spec)


def _subset(signal: Signal, pool: BulkheadRule) -> Node:
    # The same pods for each: what differs is the pool of calls, as each subset is a cluster of its own to the proxy.
    # Calls over HTTP/2 do not wait in the proxy, so that it lets through what one instance runs and lets wait.
    calls = pool.max_concurrent + pool.max_waiting
    return {
        "name": pool.name,
        "labels": {"app": signal.name},
        "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": calls, "http1MaxPendingRequests": calls}}},
    }


def _request_authentication(signal: Signal) -> Node:
    rule = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "jwksUri": f"http://{signal.name}:{HTTP[signal.name]}{JWKS_PATH}",
        # The service checks it again.
        "forwardOriginalToken": True,
    }
    spec = {"selector": {"matchLabels": {"app": signal.name}}, "jwtRules": [rule]}
    return _resource("security.istio.io/v1", "RequestAuthentication", signal, spec)


def _authorization(signal: Signal) -> Node:
    spec = {
        "selector": {"matchLabels": {"app": signal.name}},
        "action": "ALLOW",
        "rules": list(_rules(signal)),
    }
    return _resource("security.istio.io/v1", "AuthorizationPolicy", signal, spec)


def _rules(signal: Signal) -> Iterator[Node]:
    paths: dict[str, list[str]] = {}
    for policy in signal.policies:
        paths.setdefault(policy.permission, []).append(policy.method)
    if signal.otlp is not None:
        paths[signal.otlp.policy.permission] += [signal.otlp.method, signal.otlp.http_path]
    for permission, allowed in sorted(paths.items()):
        yield {
            "from": [_GIVEN],
            "to": [{"operation": {"methods": ["POST"], "paths": allowed}}],
            "when": [{"key": "request.auth.claims[permissions]", "values": [permission]}],
        }
    yield {"to": [{"operation": {"ports": [str(GRPC[signal.name])], "paths": [_HEALTH]}}]}
    yield {"to": [{"operation": {"ports": [str(HTTP[signal.name])], "methods": ["GET"], "paths": _PROBES}}]}


def _resource(version: str, kind: str, signal: Signal, spec: Node) -> Node:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": signal.name}, "spec": spec}
