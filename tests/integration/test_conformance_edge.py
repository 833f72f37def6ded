"""Every RPC, called through the real Envoy over gRPC, gRPC-Web and REST, keeps the policy of its contract.

New RPCs and new REST paths are covered unasked: the tests are made from the descriptors.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from airis.policy.v1 import policy_pb2
from conformance_caller import AioCaller, BlockingCaller, code_of, failure
from conformance_contract import DESCRIPTORS, POOLS, ROOT, RPCS, Rpc, detail_of, details, in_seconds
from conformance_edge import Edge, Reply, rest_calls, running_edge
from conformance_tokens import Tokens
from conformance_upstream import HANG, Step
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from deploy.render import TEMPLATE
from deploy.renderers.envoy import render_envoy
from deploy.renderers.signals import read_signals
from resilience.circuit_breaker import BreakerSettings
from resilience.contract import read_descriptor_set
from resilience.grpc.client import ClientSettings, Endpoint

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

NEVER_OPENS = BreakerSettings(consecutive_failures=1_000_000, failure_rate=None)
BRIEF_SECONDS = float(os.environ.get("CONFORMANCE_BRIEF_SECONDS", "10"))
"""The longest deadline of which a test sees the end."""

OTLP = {
    "metrics": ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/v1/metrics"),
    "logs": ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/logs"),
    "traces": ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces"),
}
PLACES = (4, 2)
"""Calls at once and waiting, in the copy that is narrow: Envoy lets both through."""
BURST = 3

every_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("keys"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory, tokens: Tokens) -> AsyncIterator[Edge]:
    folder = tmp_path_factory.mktemp("envoy")
    async with running_edge(folder, ROOT / "envoy" / "envoy.yaml", DESCRIPTORS, tokens) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(edge: Edge) -> AsyncIterator[AioCaller]:
    made = AioCaller(edge.target)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blocking(edge: Edge) -> AsyncIterator[BlockingCaller]:
    """For RPCs whose client streams: `grpc.aio` loses the status of one that is refused while it sends."""
    made = BlockingCaller(edge.target)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(tmp_path_factory: pytest.TempPathFactory, tokens: Tokens) -> AsyncIterator[tuple[Edge, AioCaller]]:
    """Envoy with what is rendered from a copy of the contracts with numbers that a test can fill."""
    folder = tmp_path_factory.mktemp("narrow")
    descriptors = folder / "narrow.binpb"
    descriptors.write_bytes(narrowed(DESCRIPTORS.read_bytes()))
    configuration = folder / "envoy.yaml"
    signals = read_signals(read_descriptor_set(descriptors))
    configuration.write_text(render_envoy(TEMPLATE.read_text(encoding="utf-8"), signals), encoding="utf-8")
    async with running_edge(folder, configuration, descriptors, tokens) as running:
        made = AioCaller(running.target)
        yield running, made
        await made.close()


def narrowed(descriptors: bytes) -> bytes:
    """The same contracts, but for the sizes of pools and the rates."""
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    for service in (service for file in files.file for service in file.service):
        options: Any = service.options
        for pool in options.Extensions[policy_pb2.service_policy].bulkheads:
            pool.max_concurrent, pool.max_waiting = PLACES
        for method in service.method:
            options = method.options
            if options.HasExtension(policy_pb2.policy):
                limit = options.Extensions[policy_pb2.policy].rate_limit
                limit.per_second, limit.burst = 0.01, BURST
    return files.SerializeToString()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def config(edge: Edge) -> dict[str, Any]:
    return await edge.config()


@every_rpc
async def test_envoy_itself_says_what_the_contract_says(config: dict[str, Any], rpc: Rpc) -> None:
    tables = {
        each["route_config"]["name"]: each["route_config"]["virtual_hosts"][0]["routes"]
        for each in config["RoutesConfigDump"]["static_route_configs"]
    }
    (route,) = [each for each in tables["edge"] if each["match"].get("path") == rpc.path]
    assert in_seconds(route["route"]["timeout"]) == (rpc.deadline or 0)
    filters = route["typed_per_filter_config"]
    assert filters["airis.permission"]["rbac"]["rules"]["policies"].keys() == {rpc.policy.permission}
    if rpc.policy.HasField("rate_limit"):
        limit = filters["envoy.filters.http.local_ratelimit"]
        for bucket in (limit["token_bucket"], limit["descriptors"][0]["token_bucket"]):
            per_second = bucket["tokens_per_fill"] / in_seconds(bucket["fill_interval"])
            assert per_second == pytest.approx(rpc.policy.rate_limit.per_second, rel=0.001)
            assert bucket["max_tokens"] == rpc.policy.rate_limit.burst
    else:
        assert "envoy.filters.http.local_ratelimit" not in filters
    clusters = {each["cluster"]["name"]: each["cluster"] for each in config["ClustersConfigDump"]["static_clusters"]}
    (limits,) = clusters[route["route"]["cluster"]]["circuit_breakers"]["thresholds"]
    held = rpc.bulkhead.max_concurrent + rpc.bulkhead.max_waiting
    assert (limits["max_requests"], limits["max_pending_requests"]) == (held, held)
    # RPCs share a cluster if they share a pool, and only then.
    by_path = {each["match"].get("path"): each["route"].get("cluster") for each in tables["edge"] if "route" in each}
    for other in RPCS:
        assert (by_path[other.path] == by_path[rpc.path]) == (other.pool == rpc.pool)


@every_rpc
async def test_grpc_needs_the_permission_of_the_contract(
    edge: Edge, caller: AioCaller, blocking: BlockingCaller, tokens: Tokens, rpc: Rpc
) -> None:
    plan = edge.upstream.plan(Step())
    chosen = blocking if rpc.descriptor.client_streaming else caller
    error = await failure(chosen.call(rpc, metadata=plan))
    assert code_of(error) == "UNAUTHENTICATED"
    assert details(error, error_details_pb2.ErrorInfo).reason == "TOKEN_MISSING"
    error = await failure(chosen.call(rpc, metadata=(*plan, *tokens.forbidden(rpc))))
    assert code_of(error) == "PERMISSION_DENIED"
    assert_names_the_permission(details(error, error_details_pb2.ErrorInfo), rpc)
    assert edge.upstream.seen(plan) == []
    assert await failure(chosen.call(rpc, metadata=(*plan, *tokens.allowed(rpc)))) is None
    (arrival,) = edge.upstream.seen(plan)
    assert arrival.method == rpc.path


@every_rpc
async def test_grpc_web_needs_the_permission_of_the_contract(edge: Edge, tokens: Tokens, rpc: Rpc) -> None:
    plan = edge.upstream.plan(Step())
    refused = await edge.grpc_web(rpc, plan)
    assert (refused.code, info_of(refused).reason) == (16, "TOKEN_MISSING")
    refused = await edge.grpc_web(rpc, (*plan, *tokens.forbidden(rpc)))
    assert refused.code == 7
    assert_names_the_permission(info_of(refused), rpc)
    assert edge.upstream.seen(plan) == []
    assert (await edge.grpc_web(rpc, (*plan, *tokens.allowed(rpc)))).code == 0
    assert [arrival.method for arrival in edge.upstream.seen(plan)] == [rpc.path]


@pytest.mark.parametrize(
    ("rpc", "verb", "path", "body"),
    [pytest.param(rpc, *call, id=f"{call[0]} {call[1]}") for rpc in RPCS for call in rest_calls(rpc)],
)
async def test_rest_needs_the_permission_of_the_contract(
    edge: Edge, tokens: Tokens, rpc: Rpc, verb: str, path: str, body: str | None
) -> None:
    plan = edge.upstream.plan(Step())
    refused = await edge.rest(verb, path, body, plan)
    assert (refused.status, refused.code, info_of(refused).reason) == (401, 16, "TOKEN_MISSING")
    refused = await edge.rest(verb, path, body, (*plan, *tokens.forbidden(rpc)))
    assert (refused.status, refused.code) == (403, 7)
    assert_names_the_permission(info_of(refused), rpc)
    assert edge.upstream.seen(plan) == []
    assert (await edge.rest(verb, path, body, (*plan, *tokens.allowed(rpc)))).status == 200
    assert [arrival.method for arrival in edge.upstream.seen(plan)] == [rpc.path]


@every_rpc
async def test_through_envoy_a_call_is_attempted_as_often_as_the_contract_says(
    edge: Edge, caller: AioCaller, tokens: Tokens, rpc: Rpc
) -> None:
    # Envoy repeats nothing that may have arrived, so that repeats do not multiply.
    client = caller.wrapped(Endpoint("edge", ClientSettings(breaker=NEVER_OPENS, uniform=lambda low, high: 0.0)))
    plan = edge.upstream.plan(Step("UNAVAILABLE"))
    assert code_of(await failure(client.call(rpc, metadata=(*plan, *tokens.allowed(rpc))))) == "UNAVAILABLE"
    assert len(edge.upstream.seen(plan)) == rpc.attempts("UNAVAILABLE")
    # Failures in a row would have Envoy leave the server alone.
    assert await failure(caller.call(rpc, metadata=tokens.allowed(rpc))) is None


@pytest.mark.parametrize("signal", OTLP)
async def test_otlp_has_the_policy_of_the_services_own_ingest(
    edge: Edge, tokens: Tokens, config: dict[str, Any], signal: str
) -> None:
    method, path = OTLP[signal]
    (rpc,) = [rpc for rpc in RPCS if rpc.signal == signal and rpc.is_unary and "Ingest" in rpc.descriptor.name]
    for listener, address in (("otlp-grpc", method), ("otlp-http", path)):
        (table,) = [
            each["route_config"]["virtual_hosts"][0]["routes"]
            for each in config["RoutesConfigDump"]["static_route_configs"]
            if each["route_config"]["name"] == listener
        ]
        (route,) = [each for each in table if each["match"].get("path") == address]
        assert in_seconds(route["route"]["timeout"]) == rpc.deadline
        limit = route["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]["token_bucket"]
        assert limit["max_tokens"] == rpc.policy.rate_limit.burst
    plan = edge.upstream.plan(Step())
    async with grpc.aio.insecure_channel(edge.otlp_target) as channel:
        export = channel.unary_unary(method)
        assert code_of(await failure(export(b"", metadata=plan))) == "UNAUTHENTICATED"
        error = await failure(export(b"", metadata=(*plan, *tokens.forbidden(rpc))))
        assert code_of(error) == "PERMISSION_DENIED"
        assert_names_the_permission(details(error, error_details_pb2.ErrorInfo), rpc)
        assert edge.upstream.seen(plan) == []
        assert await export(b"", metadata=(*plan, *tokens.allowed(rpc))) == b""
    assert (await edge.otlp_http(path, ())).status == 401
    refused = await edge.otlp_http(path, tokens.forbidden(rpc))
    assert (refused.status, refused.code) == (403, 7)
    assert_names_the_permission(info_of(refused), rpc)
    assert (await edge.otlp_http(path, tokens.allowed(rpc))).status == 200


async def test_envoy_ends_calls_at_the_deadline_of_the_contract(edge: Edge, caller: AioCaller, tokens: Tokens) -> None:
    loop, plan = asyncio.get_running_loop(), edge.upstream.plan(HANG)
    streams = [rpc for rpc in RPCS if rpc.deadline is None]
    endless = [
        asyncio.ensure_future(failure(caller.call(rpc, metadata=(*plan, *tokens.allowed(rpc))))) for rpc in streams
    ]

    async def hang(rpc: Rpc) -> None:
        metadata = (*plan, *tokens.allowed(rpc))
        limit, began = rpc.deadline or 0, loop.time()

        async def over_rest() -> None:
            for verb, path, body in rest_calls(rpc):
                reply = await edge.rest(verb, path, body, metadata)
                assert (reply.status, reply.code) == (504, 4)
                break

        error, _ = await asyncio.gather(failure(caller.call(rpc, metadata=metadata)), over_rest())
        assert code_of(error) == "DEADLINE_EXCEEDED"
        assert limit * 0.98 <= loop.time() - began < limit + 3.0

    brief = [rpc for rpc in RPCS if rpc.deadline is not None and rpc.deadline <= BRIEF_SECONDS]
    await asyncio.gather(*map(hang, brief))
    assert not any(call.done() for call in endless)
    edge.upstream.release(plan)
    assert set(await asyncio.gather(*endless)) <= {None}


@every_rpc
async def test_a_tenant_may_call_as_often_as_the_contract_says(
    narrow: tuple[Edge, AioCaller], tokens: Tokens, rpc: Rpc
) -> None:
    edge, caller = narrow
    plan, tenant, other = edge.upstream.plan(Step()), f"t-{uuid.uuid4().hex}", f"t-{uuid.uuid4().hex}"
    for _ in range(BURST):
        assert await failure(caller.call(rpc, metadata=(*plan, *tokens.allowed(rpc, tenant)))) is None
    if rpc.descriptor.client_streaming:
        refused = await edge.grpc_web(rpc, (*plan, *tokens.allowed(rpc, tenant)))
        assert (refused.code, info_of(refused).reason) == (8, "RATE_LIMITED")
    else:
        error = await failure(caller.call(rpc, metadata=(*plan, *tokens.allowed(rpc, tenant))))
        assert code_of(error) == "RESOURCE_EXHAUSTED"
        assert details(error, error_details_pb2.ErrorInfo).reason == "RATE_LIMITED"
        assert details(error, error_details_pb2.RetryInfo).retry_delay.seconds == 100
    for verb, path, body in rest_calls(rpc):
        reply = await edge.rest(verb, path, body, (*plan, *tokens.allowed(rpc, tenant)))
        assert (reply.status, reply.code, info_of(reply).reason) == (429, 8, "RATE_LIMITED")
    assert len(edge.upstream.seen(plan)) == BURST
    assert await failure(caller.call(rpc, metadata=(*plan, *tokens.allowed(rpc, other)))) is None


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: ".".join(pool))
async def test_calls_share_the_places_of_their_pool(
    narrow: tuple[Edge, AioCaller], tokens: Tokens, pool: tuple[str, str]
) -> None:
    edge, caller = narrow
    inside = [rpc for rpc in RPCS if rpc.pool == pool]
    hanging, plan = edge.upstream.plan(HANG), edge.upstream.plan(Step())

    def anyone(rpc: Rpc) -> Any:
        # Rates are those of tenants: each call is of another.
        return tokens.allowed(rpc, f"t-{uuid.uuid4().hex}")

    calls = [
        asyncio.ensure_future(failure(caller.call(rpc, metadata=(*hanging, *anyone(rpc)))))
        for rpc in [inside[number % len(inside)] for number in range(sum(PLACES))]
    ]
    await edge.upstream.until(hanging, sum(PLACES))
    for rpc in inside:
        refused = await edge.grpc_web(rpc, (*plan, *anyone(rpc)))
        assert (refused.code, info_of(refused).reason) == (8, "OVERLOADED"), str(rpc)
    assert edge.upstream.seen(plan) == []
    for rpc in {rpc.pool: rpc for rpc in RPCS if rpc.pool != pool}.values():
        assert await failure(caller.call(rpc, metadata=(*plan, *anyone(rpc)))) is None
    assert not any(call.done() for call in calls)
    edge.upstream.release(hanging)
    assert set(await asyncio.gather(*calls)) == {None}


def info_of(reply: Reply) -> error_details_pb2.ErrorInfo:
    """Why, in the same words over each protocol."""
    if isinstance(reply.details, status_pb2.Status):
        found: error_details_pb2.ErrorInfo = detail_of(reply.details, error_details_pb2.ErrorInfo)
        return found
    assert reply.details is not None
    (info,) = [each for each in reply.details["details"] if each["@type"].endswith("google.rpc.ErrorInfo")]
    return error_details_pb2.ErrorInfo(reason=info["reason"], domain=info["domain"], metadata=info["metadata"])


def assert_names_the_permission(info: error_details_pb2.ErrorInfo, rpc: Rpc) -> None:
    assert (info.reason, info.domain) == ("PERMISSION_MISSING", f"{rpc.signal}.airis")
    assert dict(info.metadata) == {"permission": rpc.policy.permission}
