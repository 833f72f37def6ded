"""A real Jaeger whose storage is our trace service: what it is sent lands with us, and its API shows what we have."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from airis.common.v1 import ingest_pb2
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp
from jaeger.storage.v2 import dependency_storage_pb2, trace_storage_pb2
from jaeger_world import api, durable_jaeger, eventually
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from service_process import ServiceProcess

from deploy.servers import Server, make_server
from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder
from services.traces import otlp_spans
from services.traces.model import Event, Span, SpanKind, StatusCode

pytestmark = pytest.mark.servers

SECOND = 1_000_000_000
_READER = "/jaeger.storage.v2.TraceReader/"
_numbers = itertools.count(1)


def remote(traces: ServiceProcess, token: str = "") -> dict[str, Any]:
    """The backend of a Jaeger that keeps everything with a trace service."""
    # Jaeger's writer shares the address: OTLP is served there too.
    settings: dict[str, Any] = {"endpoint": traces.grpc, "tls": {"insecure": True}}
    if token:
        settings["headers"] = {"authorization": f"Bearer {token}"}
        settings["writer"] = dict(settings)
    return {"grpc": settings}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess("traces", tmp_path_factory.mktemp("airis"), AIRIS_TRACES__EDGE_INTERVAL="0.1")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def viewer(traces: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = durable_jaeger(tmp_path_factory.mktemp("viewer"), remote(traces))
    server.start()
    yield server
    server.stop()


def shop(age_seconds: float = 5.0) -> list[Span]:
    """A call from one service to another, under names of its own."""
    number = next(_numbers)
    trace_id, start = f"{0xABC:016x}{number:016x}", time.time_ns() - int(age_seconds * SECOND)
    web = Span(
        trace_id,
        "00000000000000a1",
        "",
        "GET /basket",
        f"web{number}",
        start,
        start + SECOND,
        SpanKind.SERVER,
        tags={"http.status_code": 500, "big": 2**53 + 1, "ratio": 0.5, "hit": True, "list": ["a", 1], "raw": b"\0\xff"},
        events=(Event(start + 5, {"event": "retry", "attempt": 2}),),
    )
    cart = Span(
        trace_id,
        "00000000000000b1",
        web.span_id,
        "load",
        f"cart{number}",
        start + 1000,
        start + SECOND // 2,
        SpanKind.CLIENT,
        StatusCode.ERROR,
        "no answer",
        tags={"shop": 'a "quoted" *name*'},
    )
    return [web, cart]


def otlp(spans: list[Span]) -> trace_service_pb2.ExportTraceServiceRequest:
    request = trace_service_pb2.ExportTraceServiceRequest()
    for span in spans:
        added = request.resource_spans.add()
        added.resource.attributes.extend(otlp_spans.key_values({"service.name": span.service_name}))
        added.scope_spans.add().spans.append(otlp_spans.message(span))
    return request


def send(target: str, spans: list[Span], timeout: float = 10.0) -> None:
    with grpc.insecure_channel(target) as channel:
        trace_service_pb2_grpc.TraceServiceStub(channel).Export(otlp(spans), timeout=timeout)


def shown(jaeger: Server, trace_id: str, count: int = 1) -> dict[str, Any]:
    """The trace in Jaeger's API, once it has so many spans."""

    def has_all(found: Any) -> bool:
        return len(found) == 1 and len(found[0].get("spans", ())) == count

    (trace,) = eventually(lambda: api(jaeger, f"/api/traces/{trace_id}"), has_all)
    return dict(trace)


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: (tag["type"], tag["value"]) for tag in span["tags"]}


def find(jaeger: Server, **query: object) -> list[str]:
    found = api(jaeger, "/api/traces", lookback="1h", limit=20, **query)
    assert all("traceID" in trace for trace in found), found
    return [trace["traceID"] for trace in found]


def test_what_otlp_brings_to_jaeger_lands_with_us_and_its_api_shows_it(traces: ServiceProcess, viewer: Server) -> None:
    web, cart = spans = shop()
    send(viewer.address_of("otlp_grpc"), spans)
    trace = shown(viewer, web.trace_id, 2)
    by_id = {span["spanID"]: span for span in trace["spans"]}
    first, second = by_id[web.span_id], by_id[cart.span_id]
    assert (first["operationName"], first["duration"], first["startTime"]) == (
        "GET /basket", 1_000_000, web.start_ns // 1000,
    )  # fmt: skip
    assert second["references"] == [{"refType": "CHILD_OF", "traceID": web.trace_id, "spanID": web.span_id}]
    assert trace["processes"][second["processID"]]["serviceName"] == cart.service_name
    found = tags(first)
    assert found["http.status_code"] == ("int64", 500)
    # Beyond what a browser counts exactly, Jaeger itself gives text.
    assert found["big"] == ("int64", str(2**53 + 1))
    assert found["ratio"] == ("float64", 0.5)
    assert found["hit"] == ("bool", True)
    assert json.loads(found["list"][1]) == ["a", 1]
    assert found["span.kind"] == ("string", "server")
    assert tags(second)["error"] == ("bool", True)
    assert [[field["value"] for field in log["fields"]] for log in first["logs"]] == [["retry", 2]]
    assert first["warnings"] is None
    with grpc.insecure_channel(traces.grpc) as channel:
        ours = traces_pb2_grpc.TraceServiceStub(channel).GetTrace(traces_pb2.GetTraceRequest(trace_id=web.trace_id))
    assert [(span.service_name, span.operation_name) for span in ours.spans] == [
        (web.service_name, "GET /basket"),
        (cart.service_name, "load"),
    ]


def test_the_documented_configuration_is_one_that_jaeger_takes(traces: ServiceProcess, tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("docs/jaeger.md").read_text().split("```yaml\n")[1].split("```")[0]
    configuration = yaml.safe_load(text.replace("${env:AIRIS_TOKEN}", "none"))
    # For the test: a port to ask whether it is ready, and no metrics on a fixed one.
    configuration["service"]["extensions"].append("healthcheckv2")
    configuration["service"]["telemetry"] = {"metrics": {"level": "none"}}
    configuration["extensions"]["healthcheckv2"] = {"use_v2": True, "http": {"endpoint": "127.0.0.1:${port:health}"}}
    text = yaml.safe_dump(configuration).replace("127.0.0.1:8003", traces.grpc)
    for address, port in (("14317", "otlp_grpc"), ("16685", "query_grpc"), ("16686", "query_http")):
        text = text.replace(f"127.0.0.1:{address}", f"127.0.0.1:${{port:{port}}}")
    server = make_server("jaeger", tmp_path, config={"file": text})
    server.start()
    try:
        spans = shop()
        send(server.address_of("otlp_grpc"), spans)
        shown(server, spans[0].trace_id, 2)
    finally:
        server.stop()


def test_names_searches_and_dependencies_are_those_of_our_data(traces: ServiceProcess, viewer: Server) -> None:
    web, cart = spans = shop()
    request = traces_pb2.IngestSpansRequest(wait_for=ingest_pb2.Acknowledgement.QUERYABLE)
    for span in spans:
        added = request.spans.add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            operation_name=span.operation_name,
            service_name=span.service_name,
            kind=span.kind.name,
            status=traces_pb2.Span.Status(code=span.status_code.name if span.status_code else 0),
        )
        added.start_time.FromNanoseconds(span.start_ns)
        added.end_time.FromNanoseconds(span.end_ns or 0)
        if "shop" in span.tags:
            added.tags["shop"].string_value = str(span.tags["shop"])
        else:
            added.tags["http.status_code"].number_value = 500
    with grpc.insecure_channel(traces.grpc) as channel:
        traces_pb2_grpc.TraceServiceStub(channel).IngestSpans(request, timeout=10)
    assert {web.service_name, cart.service_name} <= set(api(viewer, "/api/services"))
    assert api(viewer, "/api/operations", service=cart.service_name) == [{"name": "load", "spanKind": "client"}]
    assert api(viewer, "/api/operations", service=cart.service_name, spanKind="server") == []
    one = [web.trace_id]
    for query, expected in (
        ({"service": web.service_name}, one),
        ({"service": web.service_name, "operation": "GET /basket"}, one),
        ({"service": web.service_name, "operation": "load"}, []),
        ({"service": web.service_name, "tags": '{"http.status_code":"500"}'}, one),
        ({"service": web.service_name, "tags": '{"http.status_code":"200"}'}, []),
        ({"service": cart.service_name, "tags": json.dumps({"shop": cart.tags["shop"]})}, one),
        ({"service": cart.service_name, "tags": '{"shop":"a*"}'}, []),
        ({"service": cart.service_name, "tags": '{"error":"true"}'}, one),
        ({"service": web.service_name, "tags": '{"error":"true"}'}, []),
        ({"service": web.service_name, "tags": '{"span.kind":"server"}'}, one),
        ({"service": web.service_name, "minDuration": "900ms", "maxDuration": "1.1s"}, one),
        ({"service": web.service_name, "minDuration": "1.1s"}, []),
        ({"service": web.service_name, "maxDuration": "900ms"}, []),
        ({"service": "nobody"}, []),
    ):
        assert find(viewer, **query) == expected, query

    def links() -> Any:
        found = api(viewer, "/api/dependencies", endTs=int(time.time() * 1000) + 60_000, lookback=3_600_000)
        return [link for link in found if link["parent"] == web.service_name]

    (link,) = eventually(links, bool)
    assert (link["child"], link["callCount"]) == (cart.service_name, 1)


def test_a_large_trace_reaches_jaeger_whole(traces: ServiceProcess, viewer: Server) -> None:
    """It has more bytes than a message to a Go client may have."""
    first, _ = shop()
    spans = [first] + [
        Span(
            first.trace_id, f"{n + 0x1000:016x}", first.span_id, "step", first.service_name, first.start_ns + n,
            first.start_ns + n + 1000, tags={"text": "x" * 1500},
        )
        for n in range(6_000)
    ]  # fmt: skip
    for begin in range(0, len(spans), 1_000):
        send(traces.grpc, spans[begin : begin + 1_000])
    assert len(shown(viewer, first.trace_id, len(spans))["spans"]) == len(spans)


def test_killed_and_back_jaeger_shows_all_and_we_were_there_all_the_time(
    traces: ServiceProcess, tmp_path: Path
) -> None:
    server = durable_jaeger(tmp_path, remote(traces))
    server.start()
    try:
        before, meanwhile, after = shop(), shop(), shop()
        send(server.address_of("otlp_grpc"), before)
        server.kill()
        send(traces.grpc, meanwhile)
        server.start()
        send(server.address_of("otlp_grpc"), after)
        for spans in (before, meanwhile, after):
            shown(server, spans[0].trace_id, 2)
    finally:
        server.stop()


def test_while_we_are_away_jaeger_refuses_spans_and_goes_on_when_we_are_back(tmp_path: Path) -> None:
    service = ServiceProcess("traces", tmp_path / "airis")
    service.start()
    server = durable_jaeger(tmp_path / "jaeger", remote(service))
    server.start()
    try:
        kept, late = shop(), shop()
        send(server.address_of("otlp_grpc"), kept)
        service.kill()
        with pytest.raises(grpc.RpcError):
            send(server.address_of("otlp_grpc"), late, timeout=3)
        service.start()

        def accepted() -> bool:
            try:
                send(server.address_of("otlp_grpc"), late, timeout=3)
            except grpc.RpcError:
                return False
            return True

        eventually(accepted, bool)
        for spans in (kept, late):
            shown(server, spans[0].trace_id, 2)
    finally:
        server.stop()
        service.stop()


def test_jaeger_sees_only_what_its_token_may(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "keys", key_bits=2048)
    keys.init()
    issuer = TokenIssuer(keys)
    allowed = ["traces.read", "traces.write"]
    acme, globex = (issuer.issue(subject="jaeger", tenant=name, permissions=allowed) for name in ("acme", "globex"))
    service = ServiceProcess(
        "traces", tmp_path / "airis", AIRIS_AUTH__ENABLED="true", AIRIS_AUTH__JWKS_FILE=str(keys.jwks_file)
    )
    service.start()
    of_acme = durable_jaeger(tmp_path / "acme", remote(service, acme))
    of_globex = durable_jaeger(tmp_path / "globex", remote(service, globex))
    try:
        of_acme.start()
        of_globex.start()
        spans = shop()
        send(of_acme.address_of("otlp_grpc"), spans)
        shown(of_acme, spans[0].trace_id, 2)
        assert set(api(of_acme, "/api/services")) == {span.service_name for span in spans}
        assert not api(of_globex, "/api/services")
        assert find(of_globex, service=spans[0].service_name) == []
        (refused,) = api(of_globex, f"/api/traces/{spans[0].trace_id}")
        assert refused["code"] == 404
        writer = issuer.issue(subject="writer", tenant="acme", permissions=["traces.write"])
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", f"Bearer {writer}"),), grpc.StatusCode.PERMISSION_DENIED),
        ):
            with grpc.insecure_channel(service.grpc) as channel:
                for method in ("GetServices", "GetTraces"):
                    with pytest.raises(grpc.RpcError) as error:
                        list(_call(channel, method, trace_storage_pb2.GetTracesRequest(), metadata))
                    assert error.value.code() is code
                with pytest.raises(grpc.RpcError) as error:
                    channel.unary_unary("/jaeger.storage.v2.DependencyReader/GetDependencies")(b"", metadata=metadata)
                assert error.value.code() is code
    finally:
        of_acme.stop()
        of_globex.stop()
        service.stop()


def test_the_storage_api_keeps_its_promises(traces: ServiceProcess) -> None:
    web, cart = spans = shop()
    unknown = bytes.fromhex("f" * 32)
    send(traces.grpc, spans)
    with grpc.insecure_channel(traces.grpc) as channel:

        def get(*ids: bytes) -> list[trace_pb2.TracesData]:
            request = trace_storage_pb2.GetTracesRequest(query=[{"trace_id": each} for each in ids])
            return [trace_pb2.TracesData.FromString(part) for part in _call(channel, "GetTraces", request)]

        (whole,) = eventually(lambda: get(unknown, bytes.fromhex(web.trace_id), unknown), lambda parts: len(parts) == 1)
        assert get(unknown) == []
        # The ids that we were sent; types and nanoseconds as they were.
        (first, second) = whole.resource_spans
        assert first.scope_spans[0].spans[0] == otlp_spans.message(web)
        assert second.scope_spans[0].spans[0] == otlp_spans.message(cart)
        query = trace_storage_pb2.TraceQueryParameters(service_name=cart.service_name)
        (answer,) = _call(channel, "FindTraceIDs", trace_storage_pb2.FindTracesRequest(query=query))
        (found,) = trace_storage_pb2.FindTraceIDsResponse.FromString(answer).trace_ids
        assert found.trace_id.hex() == web.trace_id
        assert (found.start.ToNanoseconds(), found.end.ToNanoseconds()) == (web.start_ns, web.end_ns)
        empty = dependency_storage_pb2.GetDependenciesRequest(
            start_time=Timestamp(seconds=2_000), end_time=Timestamp(seconds=1_000)
        )
        for path, request in (
            (f"{_READER}GetTraces", trace_storage_pb2.GetTracesRequest(query=[{"trace_id": b"short"}])),
            (f"{_READER}GetOperations", trace_storage_pb2.GetOperationsRequest(service="a", span_kind="sideways")),
            ("/jaeger.storage.v2.DependencyReader/GetDependencies", empty),
        ):
            with pytest.raises(grpc.RpcError) as error:
                list(_stream(channel, path, request.SerializeToString()))
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _call(channel: grpc.Channel, method: str, request: Any, metadata: Any = ()) -> Any:
    return _stream(channel, f"{_READER}{method}", request.SerializeToString(), metadata)


def _stream(channel: grpc.Channel, path: str, request: bytes, metadata: Any = ()) -> Any:
    """What a call gives, whether it streams or not: on the wire, one answer is a stream of one."""
    return channel.unary_stream(path)(request, metadata=metadata, timeout=10)
