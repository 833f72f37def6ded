"""`deploy/linkerd/<signal>.yaml`: the timeout and the retries of each RPC of one service in a Linkerd mesh."""

from __future__ import annotations

from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import Node, as_yaml, in_milliseconds
from resilience.contract import MethodPolicy
from services.supervisor.ports import GRPC

HEADER = """\
Generated from the protos by `make generate`. Do not edit.
For Linkerd 2.16 or newer, in a namespace in which the Service is named as the signal. Linkerd cannot tell a call that
never arrived from one that failed, so it repeats by status: for callers in the mesh that do not repeat calls
themselves. Where the AIRIS client calls, leave the annotations retry.linkerd.io/* out, or attempts multiply.
Linkerd has no limits of calls at once for each route and no JWT: the services themselves have both."""

# gRPC codes as Linkerd names them; it can retry after no others.
_CONDITIONS = {
    "CANCELLED": "cancelled",
    "DEADLINE_EXCEEDED": "deadline-exceeded",
    "INTERNAL": "internal",
    "RESOURCE_EXHAUSTED": "resource-exhausted",
    "UNAVAILABLE": "unavailable",
}


def render_linkerd(signal: Signal) -> str:
    """The manifests of one service: a route for each RPC, as Linkerd's settings are annotations of whole routes."""
    routes = [_route(signal, policy.method, method_name(policy), policy) for policy in signal.policies]
    if signal.otlp is not None:
        routes.append(_route(signal, signal.otlp.method, "otlp-export", signal.otlp.policy))
    return as_yaml(*routes, header=HEADER)


def _route(signal: Signal, path: str, name: str, policy: MethodPolicy) -> Node:
    service, _, method = path.strip("/").partition("/")
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": f"{signal.name}-{_hyphenated(name)}", "annotations": _annotations(policy)},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": signal.name, "port": GRPC[signal.name]}],
            "rules": [
                {
                    "matches": [{"method": {"type": "Exact", "service": service, "method": method}}],
                    "backendRefs": [{"name": signal.name, "port": GRPC[signal.name]}],
                }
            ],
        },
    }


def _annotations(policy: MethodPolicy) -> dict[str, str]:
    found: dict[str, str] = {}
    if policy.deadline is not None:
        found["timeout.linkerd.io/request"] = in_milliseconds(policy.deadline)
    if policy.retry is not None:
        conditions = sorted(_CONDITIONS[code] for code in policy.retry.retryable_codes if code in _CONDITIONS)
        if conditions:
            found["retry.linkerd.io/grpc"] = ",".join(conditions)
            found["retry.linkerd.io/limit"] = str(policy.retry.max_attempts - 1)
            if policy.retry.attempt_deadline is not None:
                found["retry.linkerd.io/timeout"] = in_milliseconds(policy.retry.attempt_deadline)
    return found


def _hyphenated(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).strip("-")
