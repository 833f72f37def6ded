"""The traces service as a process of its own: what is acknowledged, stored, answered, and survives."""

from __future__ import annotations

import gzip
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from service_process import ServiceProcess

QUERYABLE = 2
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
SHOP = ("web", "cart", "payment", "stock")

Stub = traces_pb2_grpc.TraceServiceStub


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess("traces", tmp_path_factory.mktemp("traces"), AIRIS_TRACES__EDGE_INTERVAL="0.2")
    process.start()
    yield process
    assert process.stop() == 0, process.log()


@pytest.fixture(scope="module")
def channel(service: ServiceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def shop_request(prefix: str, count: int, request_id: str = "") -> traces_pb2.IngestSpansRequest:
    """Traces through four services; the last call of each takes the most time, and fails in every second trace."""
    request = traces_pb2.IngestSpansRequest(request_id=request_id, wait_for=QUERYABLE)
    now = time.time_ns()
    for number in range(count):
        start = now - (10 + number) * SECOND
        for place, name in enumerate(SHOP):
            span = request.spans.add(
                trace_id=trace_id(prefix, number),
                span_id=f"{number + 1:08x}{place + 1:08x}",
                parent_span_id=f"{number + 1:08x}{place:08x}" if place else "",
                operation_name=f"{prefix} {name}",
                service_name=f"{prefix}-{name}",
                kind=traces_pb2.Span.SERVER,
            )
            span.start_time.FromNanoseconds(start + place * MILLISECOND)
            span.end_time.FromNanoseconds(start + (100 - place) * MILLISECOND)
            span.tags["shop.number"].number_value = number
        if number % 2:
            span.status.code = traces_pb2.Span.Status.ERROR
    return request


def trace_id(prefix: str, number: int) -> str:
    return prefix.encode().hex().ljust(24, "0")[:24] + f"{number + 1:08x}"


def span_count(stub: Stub, service: str) -> int:
    request = traces_pb2.ListServicesRequest(page_size=1000)
    request.end_time.FromNanoseconds(time.time_ns() + 60 * SECOND)
    return sum(found.span_count for found in stub.ListServices(request).services if found.service == service)


def reason(error: grpc.RpcError) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert info.domain == "traces.airis"
    return str(info.reason)


def test_a_batch_is_stored_but_for_its_bad_spans(stub: Stub) -> None:
    request = shop_request("partial", 1)
    request.spans.add(trace_id="x")
    request.spans.add().CopyFrom(request.spans[0])
    request.spans[5].end_time.seconds = 1
    answer = stub.IngestSpans(request)
    assert answer.accepted_count == 4
    reasons = {}
    for rejection in answer.rejections:
        info = error_details_pb2.ErrorInfo()
        rejection.status.details[0].Unpack(info)
        reasons[rejection.index] = info.reason
    assert reasons == {4: "INVALID_ID", 5: "NEGATIVE_DURATION"}
    found = stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id("partial", 0).upper()))
    expected = request.spans[:4]
    for span in expected:
        span.status.SetInParent()
    assert list(found.spans) == list(expected)


def test_a_request_id_seen_before_is_acknowledged_and_not_stored_again(stub: Stub) -> None:
    request = shop_request("once", 3, "the-same")
    assert [stub.IngestSpans(request).accepted_count for _ in range(3)] == [12, 12, 12]
    assert span_count(stub, "once-web") == 3


def test_malformed_bytes_are_refused_whole(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/airis.traces.v1.TraceService/IngestSpans")(b"\x0a\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "MALFORMED_REQUEST"


def test_pages_of_a_search_visit_every_trace_once_although_new_ones_come(stub: Stub) -> None:
    stub.IngestSpans(shop_request("paged", 7))
    for order in ("", "start_time asc", "duration desc"):
        request = traces_pb2.SearchTracesRequest(filter="service = paged-cart", page_size=3, order_by=order)
        found: list[traces_pb2.TraceSummary] = []
        while True:
            answer = stub.SearchTraces(request)
            found += answer.traces
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
            # With the range fixed by the first page, these are found by none of the later ones.
            late = shop_request(f"late{len(found)}{order[:1]}", 1)
            for span in late.spans:
                span.service_name = "paged-cart"
                span.start_time.FromNanoseconds(time.time_ns() + 1000 * SECOND)
                span.ClearField("end_time")
            stub.IngestSpans(late)
        numbers = [int(trace.trace_id[-8:], 16) - 1 for trace in found]
        assert sorted(numbers) == list(range(7))
        if order == "start_time asc":
            assert numbers == list(reversed(range(7)))
    first = found[0]
    assert (first.root_service_name, first.root_operation_name) == ("paged-web", "paged web")
    assert (first.span_count, list(first.services)) == (4, sorted(f"paged-{name}" for name in SHOP))
    assert first.duration.ToMilliseconds() == 100


@pytest.mark.parametrize(
    ("request_fields", "expected"),
    [
        ({"filter": "duration >"}, "INVALID_FILTER"),
        ({"filter": "colour = red"}, "INVALID_FILTER"),
        ({"order_by": "name"}, "INVALID_FIELD"),
        ({"page_token": "abc"}, "INVALID_PAGE_TOKEN"),
        ({"page_size": 1001}, "INVALID_FIELD"),
    ],
)
def test_a_wrong_search_is_refused_with_its_reason(
    stub: Stub, request_fields: dict[str, object], expected: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.SearchTraces(traces_pb2.SearchTracesRequest(**request_fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == expected


def test_an_unknown_trace_is_not_found_by_any_method(stub: Stub) -> None:
    unknown = "f" * 32
    calls = (
        lambda: stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=unknown)),
        lambda: stub.GetCriticalPath(traces_pb2.GetCriticalPathRequest(trace_id=unknown)),
        lambda: stub.CompareTraces(traces_pb2.CompareTracesRequest(base_trace_id=unknown, other_trace_id=unknown)),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_figures_paths_and_comparisons_are_those_of_the_shop(stub: Stub) -> None:
    stub.IngestSpans(shop_request("shop", 6))
    operations = stub.ListOperations(traces_pb2.ListOperationsRequest(service="shop-stock")).operations
    assert [(o.operation, o.kind, o.span_count, o.error_count) for o in operations] == [
        ("shop stock", traces_pb2.Span.SERVER, 6, 3)
    ]
    assert operations[0].durations.p95.ToMilliseconds() == pytest.approx(94, rel=0.02)
    latency = stub.GetLatency(traces_pb2.GetLatencyRequest(service="shop-stock"))
    assert latency.total.rate == pytest.approx(6 / 3600)
    assert latency.total.error_ratio == 0.5
    assert latency.step.seconds == 60
    assert latency.points
    path = stub.GetCriticalPath(traces_pb2.GetCriticalPathRequest(trace_id=trace_id("shop", 0)))
    assert path.duration.ToMilliseconds() == 100
    assert sum(segment.duration.ToMilliseconds() for segment in path.segments) == 100
    assert [segment.service_name for segment in path.segments][3] == "shop-stock"
    bottlenecks = stub.ListBottlenecks(traces_pb2.ListBottlenecksRequest(service="shop-cart", page_size=1))
    assert bottlenecks.sampled_trace_count == 6
    assert bottlenecks.bottlenecks[0].service_name == "shop-stock"
    assert bottlenecks.bottlenecks[0].share == pytest.approx(0.94)
    following = traces_pb2.ListBottlenecksRequest(
        service="shop-cart", page_size=9, page_token=bottlenecks.next_page_token
    )
    assert len(stub.ListBottlenecks(following).bottlenecks) == 3
    compared = stub.CompareTraces(
        traces_pb2.CompareTracesRequest(base_trace_id=trace_id("shop", 0), other_trace_id=trace_id("shop", 1))
    )
    assert len(compared.differences) == 4
    assert compared.base_duration == compared.other_duration


def test_the_service_map_shows_the_calls_soon_after_they_came(stub: Stub) -> None:
    stub.IngestSpans(shop_request("map", 5))
    ends = time.monotonic() + 20
    while True:
        answer = stub.GetServiceMap(traces_pb2.GetServiceMapRequest())
        edges = [edge for edge in answer.edges if edge.caller.startswith("map-")]
        if sum(edge.call_count for edge in edges) == 15:
            break
        assert time.monotonic() < ends, answer
    assert {(edge.caller, edge.callee): edge.error_count for edge in edges} == {
        ("map-cart", "map-payment"): 0,
        ("map-payment", "map-stock"): 2,
        ("map-web", "map-cart"): 0,
    }
    assert {f"map-{name}" for name in SHOP} <= {found.service for found in answer.services}


def test_a_stream_is_acknowledged_cumulatively_and_resumes_where_it_was(stub: Stub) -> None:
    def messages(sequences: range) -> Iterator[traces_pb2.StreamSpansRequest]:
        yield traces_pb2.StreamSpansRequest(open={"producer_id": "streamer"})
        for sequence in sequences:
            spans = shop_request("streamed", 5).spans
            for span in spans:
                span.trace_id = f"{sequence:024x}{span.trace_id[-8:]}" if sequence != 3 else ""
            batch = traces_pb2.StreamSpansRequest.Batch(sequence=sequence, spans=spans)
            yield traces_pb2.StreamSpansRequest(batch=batch)

    answers = list(stub.StreamSpans(messages(range(1, 11))))
    assert answers[0].opened.resume_after == 0
    assert [a.ack.through_sequence for a in answers if a.HasField("ack")][-1] == 10
    rejected = [a.rejection for a in answers if a.HasField("rejection")]
    assert [(r.sequence, len(r.items)) for r in rejected] == [(3, 20)]
    again = list(stub.StreamSpans(messages(range(5, 13))))
    assert again[0].opened.resume_after == 10
    assert [a.ack.through_sequence for a in again if a.HasField("ack")][-1] == 12
    stub.IngestSpans(shop_request("behind-the-stream", 1))
    assert span_count(stub, "streamed-web") == 11 * 5


def otlp_request(number: int) -> trace_service_pb2.ExportTraceServiceRequest:
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "otlp"
    resource.resource.attributes.add(key="host.name").value.string_value = "h1"
    span = resource.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(trace_id("otlp", number)), span_id=b"\x01" * 8, name="work", kind=2
    )
    span.start_time_unix_nano = time.time_ns() - SECOND
    span.end_time_unix_nano = span.start_time_unix_nano + MILLISECOND
    span.attributes.add(key="large").value.int_value = 2**60
    span.attributes.add(key="raw").value.bytes_value = b"\xff"
    event = span.events.add(time_unix_nano=span.start_time_unix_nano, name="retry")
    event.attributes.add(key="attempt").value.int_value = 2
    return request


def test_otlp_over_grpc_and_http_reaches_the_same_store(
    service: ServiceProcess, channel: grpc.Channel, stub: Stub
) -> None:
    request = otlp_request(0)
    request.resource_spans[0].scope_spans[0].spans.add(trace_id=b"short", name="bad")
    answer = trace_service_pb2_grpc.TraceServiceStub(channel).Export(request)
    assert answer.partial_success.rejected_spans == 1
    assert "INVALID_ID" in answer.partial_success.error_message
    post(service, gzip.compress(otlp_request(1).SerializeToString()), "application/x-protobuf", gzip_encoded=True)
    now = time.time_ns()
    tree = {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "otlp"}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": trace_id("otlp", 2).upper(),
                                "spanId": "eee19b7ec3c1b174",
                                "name": "work",
                                "kind": 2,
                                "startTimeUnixNano": str(now),
                                "endTimeUnixNano": str(now + 5),
                                "attributes": [{"key": "large", "value": {"intValue": str(2**60)}}],
                                "unknownField": 1,
                            }
                        ]
                    }
                ],
            }
        ]
    }
    body = gzip.compress(json.dumps(tree).encode())
    assert json.loads(post(service, body, "application/json", gzip_encoded=True)) == {}
    stub.IngestSpans(shop_request("behind-the-export", 1))
    assert span_count(stub, "otlp") == 3
    span = stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id("otlp", 0))).spans[0]
    assert span.tags["large"].string_value == str(2**60)
    assert span.tags["raw"].string_value == "/w=="
    assert span.tags["host.name"].string_value == "h1"
    assert span.logs[0].fields["event"].string_value == "retry"
    assert span.logs[0].fields["attempt"].number_value == 2
    found = stub.SearchTraces(traces_pb2.SearchTracesRequest(filter=f"tags.large = {2**60} tags.host.name:*"))
    assert {trace.trace_id for trace in found.traces} == {trace_id("otlp", 0), trace_id("otlp", 1)}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"\xff\xff", "application/x-protobuf", 400),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}', "application/json", 400),
        (b"a=b", "text/plain", 415),
    ],
)
def test_bad_otlp_over_http_is_refused_with_the_right_status(
    service: ServiceProcess, body: bytes, content_type: str, status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(service, body, content_type)
    assert caught.value.code == status


def post(service: ServiceProcess, body: bytes, content_type: str, *, gzip_encoded: bool = False) -> bytes:
    request = urllib.request.Request(f"{service.http}/v1/traces", body, {"Content-Type": content_type})
    if gzip_encoded:
        request.add_header("Content-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


def test_a_trace_of_more_than_ten_thousand_spans_is_refused_and_not_cut(stub: Stub) -> None:
    request = shop_request("huge", 2501)
    for span in request.spans:
        span.span_id, span.trace_id = span.span_id, trace_id("huge", 0)
    stub.IngestSpans(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=trace_id("huge", 0)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(caught.value) == "RESULT_TOO_LARGE"


def test_what_was_acknowledged_survives_kill_and_a_repeated_request_is_known(tmp_path: Path) -> None:
    process = ServiceProcess("traces", tmp_path)
    process.start()
    try:
        requests = [shop_request(f"r{number}", 20, f"request-{number}") for number in range(5)]
        for request in requests:
            request.wait_for = traces_pb2.IngestSpansRequest().wait_for
        with grpc.insecure_channel(process.grpc) as channel:
            for request in requests:
                assert Stub(channel).IngestSpans(request).accepted_count == 80
            process.kill()
        process.start()
        with grpc.insecure_channel(process.grpc) as channel:
            stub = Stub(channel)
            for request in requests:
                assert stub.IngestSpans(request).accepted_count == 80
            stub.IngestSpans(shop_request("behind-the-crash", 1))
            assert [span_count(stub, f"r{number}-web") for number in range(5)] == [20] * 5
            ends = time.monotonic() + 20
            # Spans that came before the crash are in the map, too.
            while True:
                edges = stub.GetServiceMap(traces_pb2.GetServiceMapRequest()).edges
                if sum(edge.call_count for edge in edges if edge.caller == "r4-web") == 20:
                    break
                assert time.monotonic() < ends
    finally:
        assert process.stop() == 0, process.log()
