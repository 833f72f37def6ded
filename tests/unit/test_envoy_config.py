"""The generated Envoy configuration says what the contracts say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.renderers.signals import Signal, read_signals
from resilience.contract import read_descriptor_set
from services.shared.auth.http import JWKS_PATH
from services.shared.auth.tokens import AUDIENCE, ISSUER, LEEWAY
from services.supervisor.envoy_config import DESCRIPTORS, runtime_config

ROOT = Path(__file__).resolve().parents[2]
RATE_LIMIT = "envoy.filters.http.local_ratelimit"


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((ROOT / "envoy/envoy.yaml").read_text(), Loader=yaml.CSafeLoader)
    return found


@pytest.fixture(scope="module")
def signals() -> tuple[Signal, ...]:
    return read_signals(read_descriptor_set(DESCRIPTORS))


def connections(configuration: dict[str, Any], name: str) -> dict[str, Any]:
    (listener,) = [each for each in configuration["static_resources"]["listeners"] if each["name"] == name]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def routes(configuration: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connections(configuration, name)["route_config"]["virtual_hosts"][0]["routes"]
    return found


def said(route: dict[str, Any]) -> tuple[str, list[str], int]:
    """The timeout, the permissions and the bucket's size of a route."""
    filters = route["typed_per_filter_config"]
    rules = filters["airis.permission"]["rbac"]["rules"]
    assert rules["action"] == "ALLOW"
    return route["route"]["timeout"], list(rules["policies"]), filters[RATE_LIMIT]["token_bucket"]["max_tokens"]


def test_each_rpc_has_one_route_with_its_policy(rendered: dict[str, Any], signals: tuple[Signal, ...]) -> None:
    found = {each["match"]["path"]: each for each in routes(rendered, "edge") if "path" in each["match"]}
    policies = {policy.method: (signal, policy) for signal in signals for policy in signal.policies}
    assert found.keys() == policies.keys()
    for path, (signal, policy) in policies.items():
        assert policy.rate_limit is not None
        assert said(found[path]) == (f"{policy.deadline or 0:g}s", [policy.permission], policy.rate_limit.burst)
        assert found[path]["route"]["cluster"] == f"{signal.name}-{policy.bulkhead.name}"


def test_otlp_has_the_policy_of_the_services_own_ingest(rendered: dict[str, Any]) -> None:
    edge = {each["match"].get("path"): each for each in routes(rendered, "edge")}
    ingest = {
        "metrics": said(edge["/airis.metrics.v1.MetricsService/IngestMetrics"]),
        "logs": said(edge["/airis.logs.v1.LogService/IngestLogs"]),
        "traces": said(edge["/airis.traces.v1.TraceService/IngestSpans"]),
    }
    for listener, suffix in (("otlp-grpc", "-ingest"), ("otlp-http", "-http")):
        found = {each["route"]["cluster"]: said(each) for each in routes(rendered, listener)}
        assert found == {f"{name}{suffix}": policy for name, policy in ingest.items()}


def test_each_pool_is_a_cluster_that_holds_what_one_instance_holds(
    rendered: dict[str, Any], signals: tuple[Signal, ...]
) -> None:
    limits = {
        each["name"]: each["circuit_breakers"]["thresholds"][0] for each in rendered["static_resources"]["clusters"]
    }
    for signal in signals:
        for pool in signal.bulkheads:
            found = limits.pop(f"{signal.name}-{pool.name}")
            # Requests over HTTP/2 are pending only until there is a connection: 0 would refuse the first of all.
            assert found["max_pending_requests"] == found["max_requests"] == pool.max_concurrent + pool.max_waiting
        if signal.otlp is not None:
            pool = signal.otlp.policy.bulkhead
            found = limits.pop(f"{signal.name}-http")
            assert (found["max_connections"], found["max_pending_requests"]) == (pool.max_concurrent, pool.max_waiting)
    assert limits.keys() == {"jwks"}


def test_instances_that_the_mesh_tells_are_asked_for_what_they_serve(signals: tuple[Signal, ...]) -> None:
    found: dict[str, Any] = yaml.load((ROOT / "envoy/distributed.yaml").read_text(), Loader=yaml.CSafeLoader)
    clusters = {each["name"]: each for each in found["static_resources"]["clusters"]}
    for signal in signals:
        for pool in signal.bulkheads:
            # A worker that takes the address of an instance that is gone is healthy, and serves nothing.
            (check,) = clusters[f"{signal.name}-{pool.name}"]["health_checks"]
            assert check["grpc_health_check"] == {"service_name": signal.service.full_name}


def test_everything_listens_on_loopback_only(rendered: dict[str, Any]) -> None:
    sockets = [rendered["admin"], *rendered["static_resources"]["listeners"]]
    assert {each["address"]["socket_address"]["address"] for each in sockets} == {"127.0.0.1"}


@pytest.mark.parametrize("listener", ["edge", "otlp-grpc", "otlp-http"])
def test_tokens_are_checked_as_the_services_check_them(rendered: dict[str, Any], listener: str) -> None:
    filters = {each["name"]: each["typed_config"] for each in connections(rendered, listener)["http_filters"]}
    authentication = filters["envoy.filters.http.jwt_authn"]
    assert authentication["rules"] == [{"match": {"prefix": "/"}, "requires": {"provider_name": "airis"}}]
    provider = authentication["providers"]["airis"]
    assert (provider["issuer"], provider["audiences"]) == (ISSUER, [AUDIENCE])
    assert (provider["clock_skew_seconds"], provider["require_expiration"]) == (LEEWAY, True)
    assert provider["remote_jwks"]["http_uri"]["uri"].endswith(JWKS_PATH)
    # Where a route says nothing of a permission, nothing is allowed.
    assert filters["airis.permission"]["rules"] == {"action": "ALLOW", "policies": {}}


def test_without_authentication_only_its_filters_go(rendered: dict[str, Any]) -> None:
    without = runtime_config(0)
    taken = {"envoy.filters.http.jwt_authn", "airis.permission"}
    for listener in ("edge", "otlp-grpc", "otlp-http"):
        before = [each["name"] for each in connections(rendered, listener)["http_filters"]]
        after = [each["name"] for each in connections(without, listener)["http_filters"]]
        assert after == [name for name in before if name not in taken]
        assert "envoy.filters.http.rbac" in after  # Pages from elsewhere stay out.
        assert all(not taken & each.get("typed_per_filter_config", {}).keys() for each in routes(without, listener))
    assert "jwks" not in {each["name"] for each in without["static_resources"]["clusters"]}
    with_authentication = runtime_config(0, authentication=True)
    kept = {each["name"] for each in connections(with_authentication, "edge")["http_filters"]}
    assert taken <= kept
    assert {"jwks"} <= {each["name"] for each in with_authentication["static_resources"]["clusters"]}
