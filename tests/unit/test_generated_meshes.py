"""The manifests for Istio and Linkerd: of the documented shape, and as the contract says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.renderers.signals import Signal, read_signals
from resilience.contract import read_descriptor_set
from services.supervisor.ports import GRPC

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = read_signals(read_descriptor_set(ROOT / "gen/airis.binpb"))
by_name = pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A duration as the Gateway API and Linkerd read it, and as Istio does.
KUBERNETES_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
ISTIO_DURATION = re.compile(r"[0-9]+(\.[0-9]{1,9})?s")

HTTP_ROUTE = {"name", "match", "route", "timeout", "retries"}
RETRY_ON = {"connect-failure", "refused-stream", "reset-before-request"}
LINKERD_CONDITIONS = {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
LINKERD_ANNOTATIONS = {
    "timeout.linkerd.io/request", "retry.linkerd.io/grpc", "retry.linkerd.io/limit", "retry.linkerd.io/timeout",
}  # fmt: skip


def istio(signal: Signal) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((ROOT / f"deploy/istio/{signal.name}.yaml").read_text()))
    for each in documents:
        assert each.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert NAME.fullmatch(each["metadata"]["name"])
    return {each["kind"]: each for each in documents}


@by_name
def test_istio_routes_each_rpc_with_its_deadline_retries_and_pool(signal: Signal) -> None:
    service = istio(signal)["VirtualService"]
    assert service["apiVersion"] == "networking.istio.io/v1"
    routes = service["spec"]["http"]
    assert all(set(route) <= HTTP_ROUTE for route in routes)
    assert "match" not in routes[-1]
    found = {route["match"][0]["uri"]["exact"]: route for route in routes[:-1]}
    expected = {policy.method: policy for policy in signal.policies}
    if signal.otlp is not None:
        expected[signal.otlp.method] = signal.otlp.policy
    assert found.keys() == expected.keys()
    for path, policy in expected.items():
        route = found[path]
        assert ISTIO_DURATION.fullmatch(route["timeout"])
        assert float(route["timeout"][:-1]) == (policy.deadline or 0)
        assert route["retries"]["attempts"] == (policy.retry.max_attempts - 1 if policy.retry else 0)
        # Nothing that a service may have begun.
        assert set(route["retries"].get("retryOn", "refused-stream").split(",")) <= RETRY_ON
        destination = route["route"][0]["destination"]
        assert destination == {
            "host": signal.name, "port": {"number": GRPC[signal.name]}, "subset": policy.bulkhead.name,
        }  # fmt: skip


@by_name
def test_istio_has_a_pool_for_each_bulkhead(signal: Signal) -> None:
    rule = istio(signal)["DestinationRule"]
    assert rule["apiVersion"] == "networking.istio.io/v1"
    pools = {each["name"]: each["trafficPolicy"]["connectionPool"]["http"] for each in rule["spec"]["subsets"]}
    assert pools == {
        pool.name: {
            "http2MaxRequests": pool.max_concurrent + pool.max_waiting,
            "http1MaxPendingRequests": pool.max_concurrent + pool.max_waiting,
        }
        for pool in signal.bulkheads
    }


@by_name
def test_istio_asks_for_the_permission_of_each_rpc(signal: Signal) -> None:
    documents = istio(signal)
    (rule,) = documents["RequestAuthentication"]["spec"]["jwtRules"]
    assert (rule["issuer"], rule["audiences"], rule["forwardOriginalToken"]) == ("airis-epm", ["airis-services"], True)
    authorization = documents["AuthorizationPolicy"]["spec"]
    assert authorization["action"] == "ALLOW"
    allowed: dict[str, str] = {}
    for each in authorization["rules"]:
        (operation,) = [to["operation"] for to in each["to"]]
        if "when" not in each:
            # For everybody: health, and what Prometheus reads.
            assert not any(path.startswith(("/airis.", "/opentelemetry.")) for path in operation["paths"])
            continue
        assert each["from"] == [{"source": {"requestPrincipals": ["airis-epm/*"]}}]
        (condition,) = each["when"]
        assert condition["key"] == "request.auth.claims[permissions]"
        for path in operation["paths"]:
            assert path not in allowed
            (allowed[path],) = condition["values"]
    expected = {policy.method: policy.permission for policy in signal.policies}
    if signal.otlp is not None:
        expected[signal.otlp.method] = expected[signal.otlp.http_path] = signal.otlp.policy.permission
    assert allowed == expected


@by_name
def test_linkerd_has_a_route_for_each_rpc(signal: Signal) -> None:
    documents = list(yaml.safe_load_all((ROOT / f"deploy/linkerd/{signal.name}.yaml").read_text()))
    names = [each["metadata"]["name"] for each in documents]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    found = {}
    for each in documents:
        assert (each["apiVersion"], each["kind"]) == ("gateway.networking.k8s.io/v1", "GRPCRoute")
        parent = {"group": "", "kind": "Service", "name": signal.name, "port": GRPC[signal.name]}
        assert each["spec"]["parentRefs"] == [parent]
        (rule,) = each["spec"]["rules"]
        (match,) = rule["matches"]
        assert match["method"]["type"] == "Exact"
        found[f"/{match['method']['service']}/{match['method']['method']}"] = each["metadata"]["annotations"]
    assert found.keys() - {policy.method for policy in signal.policies} == (
        {signal.otlp.method} if signal.otlp else set()
    )
    for policy in signal.policies:
        annotations = found[policy.method]
        assert set(annotations) <= LINKERD_ANNOTATIONS
        assert all(isinstance(value, str) for value in annotations.values())
        timeout = annotations.get("timeout.linkerd.io/request")
        assert timeout == (f"{policy.deadline * 1000:.0f}ms" if policy.deadline else None)
        assert timeout is None or KUBERNETES_DURATION.fullmatch(timeout)
        if policy.retry is None:
            assert not any(name.startswith("retry") for name in annotations)
        else:
            conditions = set(annotations["retry.linkerd.io/grpc"].split(","))
            assert conditions <= LINKERD_CONDITIONS
            assert conditions == {code.lower().replace("_", "-") for code in policy.retry.retryable_codes}
            assert annotations["retry.linkerd.io/limit"] == str(policy.retry.max_attempts - 1)
