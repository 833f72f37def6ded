"""The real Envoy with the generated configuration, without authentication."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from envoy_edge import LIMIT, Edge, detailed_failure, running_edge, wait_until_healthy
from grpc_status import rpc_status
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from service_process import free_offset
from yarl import URL

from services.supervisor import ports

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path_factory.mktemp("envoy"), free_offset(*ports.ALL)) as running:
        yield running


async def test_rest_post_becomes_a_call_and_its_answer_json(edge: Edge) -> None:
    body = {"metrics": [{"name": "a", "value": 1.5, "kind": "GAUGE", "timestamp": "2026-11-21T00:00:00Z"}]}
    assert await edge.call("POST", "/api/v1/metrics", body) == (
        200,
        {"acceptedCount": 1, "rejections": [], "position": ""},
    )
    _, request, _ = edge.seen.last
    assert request.metrics[0].kind == metrics_pb2.Metric.GAUGE
    assert request.metrics[0].timestamp.seconds == 1_795_219_200


async def test_rest_answers_name_enums_and_print_zeros(edge: Edge) -> None:
    assert await edge.call("GET", "/api/v1/metrics?pageSize=2&filter=a+%3D%20b") == (
        200,
        {
            "metrics": [{"metric": "requests", "kinds": ["COUNTER"], "units": [], "seriesCount": "0"}],
            "nextPageToken": "",
        },
    )
    _, request, _ = edge.seen.last
    assert (request.page_size, request.filter) == (2, "a = b")


async def test_query_strings_carry_timestamps_durations_masks_and_lists(edge: Edge) -> None:
    query = "startTime=2026-11-21T00:00:00Z&step=60s&groupBy=service&groupBy=level"
    assert (await edge.call("GET", f"/api/v1/logs:count?{query}"))[0] == 200
    _, request, _ = edge.seen.last
    assert (request.start_time.seconds, request.step.seconds) == (1_795_219_200, 60)
    assert list(request.group_by) == ["service", "level"]
    status, silence = await edge.call("PATCH", "/api/v1/silences/abc?updateMask=comment,endTime", {"comment": "x"})
    assert (status, silence["name"]) == (200, "silences/abc")
    assert list(edge.seen.last[1].update_mask.paths) == ["comment", "end_time"]


async def test_an_escaped_slash_stays_inside_a_path_variable(edge: Edge) -> None:
    url = URL(edge.url("/api/v1/metrics/http%2Frequests%3Atotal/series"), encoded=True)
    assert (await edge.call("GET", "", url=url))[0] == 200
    assert edge.seen.last[1].metric == "http/requests:total"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code"),
    [
        ("GET", "/", None, 404, 5),
        ("GET", "/api/v1/nothing", None, 404, 5),
        ("PUT", "/api/v1/metrics", "{}", 404, 5),
        ("GET", "/api/v1/metrics?bogus=1", None, 400, 3),
        ("GET", "/api/v1/metrics?pageSize=many", None, 400, 3),
        ("POST", "/api/v1/metrics", '{"metrics": [', 400, 3),
        ("POST", "/api/v1/metrics", '{"metrics": [{"value": "high"}]}', 400, 3),
        ("POST", "/api/v1/metrics", '{"metrics": [{"kind": "NO_SUCH"}]}', 400, 3),
        ("POST", "/api/v1/metrics", b" " * (LIMIT + 1), 413, 8),
        ("GET", "/api/v1/traces", None, 503, 14),
    ],
)
async def test_envoys_own_errors_are_json_with_the_grpc_code(
    edge: Edge, verb: str, path: str, body: Any, status: int, code: int
) -> None:
    answered, error = await edge.call(verb, path, body)
    assert (answered, error["code"]) == (status, code)
    assert error.keys() == {"code", "message", "details"}
    assert error["message"]
    assert error["details"] == []


async def test_a_services_error_keeps_its_details_over_rest(edge: Edge) -> None:
    status, error = await edge.call("POST", "/api/v1/metrics", {"requestId": "refused"})
    assert (status, error["code"], error["message"]) == (400, 3, "The name is empty.")
    bad_request, info = error["details"]
    assert bad_request["fieldViolations"][0]["field"] == "metrics[0].name"
    assert (info["reason"], info["domain"]) == ("INVALID_NAME", "metrics.airis")


async def test_a_stream_comes_as_a_json_array_while_it_runs(edge: Edge) -> None:
    body = {"query": {"metric": "m"}, "maxCount": 3}
    assert await edge.call("POST", "/api/v1/metrics:watch", body) == (200, [{}, {}, {}])
    endless = json.dumps({"query": {"metric": "endless"}, "maxCount": 1})
    async with edge.session.post(edge.url("/api/v1/metrics:watch"), data=endless) as response:
        assert await asyncio.wait_for(response.content.readexactly(3), 5) == b"[{}"


async def test_grpc_goes_through_the_edge_with_errors_as_they_are(edge: Edge) -> None:
    async with edge.channel() as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        answer = await stub.IngestMetrics(metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a")]))
        assert answer.accepted_count == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.IngestMetrics(metrics_pb2.IngestMetricsRequest(request_id="refused"))
        assert rpc_status.from_call(refused.value) == detailed_failure()
        watched = stub.WatchMetrics(metrics_pb2.WatchMetricsRequest(max_count=2))
        assert len([response async for response in watched]) == 2


@pytest.mark.parametrize(
    ("method", "request_bytes", "code"),
    [
        ("/airis.metrics.v1.MetricsService/NoSuch", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/no.such.Service/Method", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/airis.traces.v1.TraceService/GetTrace", b"", grpc.StatusCode.UNAVAILABLE),
        ("/airis.metrics.v1.MetricsService/IngestMetrics", b"x" * (LIMIT + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_grpc_clients_get_plain_statuses(
    edge: Edge, method: str, request_bytes: bytes, code: grpc.StatusCode
) -> None:
    async with edge.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(method)(request_bytes)
    assert raised.value.code() == code
    assert raised.value.details()
    assert not raised.value.details().startswith("{")


async def test_a_call_ends_at_the_deadline_of_its_policy(edge: Edge) -> None:
    hangs = metrics_pb2.IngestMetricsRequest(request_id="hangs")
    started = asyncio.get_running_loop().time()
    async with edge.channel() as channel:
        native = metrics_pb2_grpc.MetricsServiceStub(channel).IngestMetrics(hangs)
        rest = edge.call("POST", "/api/v1/metrics", {"requestId": "hangs"})
        (status, error), failure = await asyncio.gather(rest, native, return_exceptions=True)  # type: ignore[misc]
    assert (status, error["code"]) == (504, 4)
    assert failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 4.9 < asyncio.get_running_loop().time() - started < 8


async def test_grpc_web_is_framed(edge: Edge) -> None:
    message = metrics_pb2.IngestMetricsRequest(metrics=[metrics_pb2.Metric(name="a")]).SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": "http://localhost:3000"}
    url = edge.url("/airis.metrics.v1.MetricsService/IngestMetrics")
    async with edge.session.post(url, data=b"\0" + struct.pack(">I", len(message)) + message, headers=headers) as got:
        body = await got.read()
        assert got.headers["access-control-allow-origin"] == "http://localhost:3000"
    flag, length = struct.unpack(">BI", body[:5])
    assert flag == 0
    assert metrics_pb2.IngestMetricsResponse.FromString(body[5 : 5 + length]).accepted_count == 1
    assert body[5 + length] == 0x80
    assert b"grpc-status:0" in body[5 + length :]


async def test_what_only_envoy_may_say_is_taken_off_what_comes_in(edge: Edge) -> None:
    said = {
        "x-envoy-original-path": "/api/v1/metrics",
        "x-envoy-original-method": "GET",
        "x-airis-cluster": "logs-query",
    }
    impatient = {**said, "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-max-retries": "9", "x-envoy-retry-on": "5xx"}
    async with edge.channel() as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        await stub.ListMetrics(
            metrics_pb2.ListMetricsRequest(), metadata=(*impatient.items(), ("airis-tenant", "acme"))
        )
        metadata = edge.seen.last[2]
        assert not impatient.keys() & metadata.keys()
        # Whose it is, the services decide.
        assert metadata["airis-tenant"] == "acme"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/no.such.Service/Method")(b"", metadata=tuple(said.items()))
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert refused.value.details() == "There is no such method at this address."
    assert (await edge.call("GET", "/api/v1/metrics", headers=impatient))[0] == 200
    assert edge.seen.last[2]["x-envoy-original-path"] == "/api/v1/metrics"
    assert (await edge.call("GET", "/api/v1/nothing", headers=said))[0] == 404


async def test_a_header_whose_name_grpc_does_not_take_fails_no_call(edge: Edge) -> None:
    said = {"lU$": "x", "a!b": "y", "x-plain_1.2": "z"}
    assert (await edge.call("GET", "/api/v1/metrics", headers=said))[0] == 200
    assert edge.seen.last[2]["x-plain_1.2"] == "z"
    assert "lu$" not in edge.seen.last[2]


async def test_pages_from_elsewhere_are_refused(edge: Edge) -> None:
    asks = {"access-control-request-method": "POST"}
    async with edge.session.options(
        edge.url("/api/v1/metrics"), headers={"origin": "http://localhost:3000", **asks}
    ) as near:
        assert near.headers["access-control-allow-origin"] == "http://localhost:3000"
    before = len(edge.seen.calls)
    far = {"origin": "https://elsewhere.example"}
    status, error = await edge.call("POST", "/api/v1/metrics", {"metrics": []}, headers=far)
    assert (status, error["code"]) == (403, 7)
    assert len(edge.seen.calls) == before


async def test_otlp_over_grpc_reaches_the_service(edge: Edge) -> None:
    async with edge.channel(4317) as channel:
        stub = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        answer = await stub.Export(metrics_service_pb2.ExportMetricsServiceRequest())
    assert answer == metrics_service_pb2.ExportMetricsServiceResponse()


async def test_otlp_over_http_goes_to_the_services_http_ports(edge: Edge) -> None:
    async def take(request: web.Request) -> web.Response:
        return web.json_response({"bytes": len(await request.read()), "encoding": request.headers["content-encoding"]})

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.add_routes([web.post("/v1/metrics", take), web.get("/readyz", ready)])
    runner = web.AppRunner(application, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 9101 + edge.offset).start()
    try:
        await wait_until_healthy(edge.session, edge.url("", 9901), {"metrics-http"})
        gzip = {"content-encoding": "gzip"}
        answer = await edge.call("POST", "", b"12345", url=edge.url("/v1/metrics", 4318), headers=gzip)
        assert answer == (200, {"bytes": 5, "encoding": "gzip"})
        status, error = await edge.call("POST", "", b" " * (LIMIT + 1), url=edge.url("/v1/metrics", 4318))
        assert (status, error["code"]) == (413, 8)
        status, error = await edge.call("POST", "", b"", url=edge.url("/v1/nothing", 4318))
        assert (status, error["code"]) == (404, 5)
    finally:
        await runner.cleanup()


async def test_request_id_and_trace_context_reach_the_service_and_the_log(edge: Edge) -> None:
    headers = {"x-request-id": "order-4711", "traceparent": TRACEPARENT}
    url = edge.url("/api/v1/metrics?filter=secret")
    async with edge.session.get(url, headers=headers) as response:
        assert response.headers["x-request-id"] == "order-4711"
        assert response.headers["server"] == "airis"
    metadata = edge.seen.last[2]
    assert (metadata["x-request-id"], metadata["traceparent"]) == ("order-4711", TRACEPARENT)
    async with edge.session.get(url) as response:
        assert len(response.headers["x-request-id"]) == 36
    for _ in range(100):
        lines = [line for line in edge.log.read_text().splitlines() if "order-4711" in line]
        if lines:
            break
        await asyncio.sleep(0.05)
    entry = json.loads(lines[0])
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/api/v1/metrics", 200)
    assert (entry["traceparent"], entry["upstream"]) == (TRACEPARENT, "metrics-query")
    assert "secret" not in edge.log.read_text()
