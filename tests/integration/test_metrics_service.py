"""The metrics service as a process of its own: what is acknowledged, stored, answered, and survives."""

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
from airis.common.v1 import aggregation_pb2
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp_pb2
from service_process import ServiceProcess

COUNT = aggregation_pb2.Aggregation.COUNT
QUERYABLE = 2
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess("metrics", tmp_path_factory.mktemp("metrics"))
    process.start()
    yield process
    assert process.stop() == 0, process.log()


@pytest.fixture(scope="module")
def channel(service: ServiceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> metrics_pb2_grpc.MetricsServiceStub:
    return metrics_pb2_grpc.MetricsServiceStub(channel)


def batch(name: str, count: int, request_id: str = "") -> metrics_pb2.IngestMetricsRequest:
    request = metrics_pb2.IngestMetricsRequest(request_id=request_id, wait_for=QUERYABLE)
    now = time.time_ns()
    for number in range(count):
        metric = request.metrics.add(name=name, value=number)
        metric.timestamp.FromNanoseconds(now - number * 1_000_000)
    return request


def stored(stub: metrics_pb2_grpc.MetricsServiceStub, name: str) -> int:
    query = metrics_pb2.QueryMetricsRequest(metric=name, aggregation=COUNT)
    now = time.time_ns()
    query.start_time.FromNanoseconds(now - 3600 * SECOND)
    query.end_time.FromNanoseconds(now + 60 * SECOND)
    query.step.seconds = 7200
    series = stub.QueryMetrics(query).series
    return int(series[0].points[0].value) if series else 0


def details(error: grpc.RpcError) -> dict[str, list[object]]:
    trailer = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(trailer)
    found: dict[str, list[object]] = {}
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.setdefault(kind.__name__, []).append(message)
    return found


def test_a_batch_is_stored_but_for_its_bad_points(stub: metrics_pb2_grpc.MetricsServiceStub) -> None:
    request = batch("partial", 3)
    request.metrics.add(name="", value=1)
    request.metrics.add(name="partial", value=float("inf"))
    request.metrics.add(name="partial", value=1, kind=99)
    old = request.metrics.add(name="partial", value=1)
    old.timestamp.seconds = 1
    ahead = request.metrics.add(name="partial", value=1)
    ahead.timestamp.FromNanoseconds(time.time_ns() + 2 * 86400 * SECOND)
    many = request.metrics.add(name="partial", value=1)
    many.labels.update({str(n): "x" for n in range(65)})
    answer = stub.IngestMetrics(request)
    assert answer.accepted_count == 3
    reasons = {}
    for rejection in answer.rejections:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        rejection.status.details[0].Unpack(info)
        rejection.status.details[1].Unpack(bad)
        assert info.domain == "metrics.airis"
        assert bad.field_violations[0].field.startswith(f"metrics[{rejection.index}].")
        reasons[rejection.index] = info.reason
    assert reasons == {
        3: "INVALID_NAME",
        4: "NON_FINITE_VALUE",
        5: "UNKNOWN_ENUM_VALUE",
        6: "TIMESTAMP_OUT_OF_RANGE",
        7: "TIMESTAMP_OUT_OF_RANGE",
        8: "LABEL_LIMIT_EXCEEDED",
    }
    assert stored(stub, "partial") == 3


def test_a_request_id_seen_before_is_acknowledged_and_not_stored_again(
    stub: metrics_pb2_grpc.MetricsServiceStub,
) -> None:
    request = batch("once", 10, "the-same")
    assert [stub.IngestMetrics(request).accepted_count for _ in range(3)] == [10, 10, 10]
    assert stored(stub, "once") == 10


def test_malformed_bytes_are_refused_whole(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/airis.metrics.v1.MetricsService/IngestMetrics")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["ErrorInfo"][0].reason == "MALFORMED_REQUEST"


def test_a_message_over_the_size_limit_is_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/airis.metrics.v1.MetricsService/IngestMetrics")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a" + b"\x00" * (33 * 1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ({"metric": ""}, "metric", "INVALID_FIELD"),
        ({"metric": "m", "filter": "a = "}, "filter", "INVALID_FILTER"),
        ({"metric": "m", "quantile": 2}, "quantile", "INVALID_FIELD"),
        ({"metric": "m", "aggregation": 99}, "aggregation", "INVALID_FIELD"),
        ({"metric": "m", "group_by": [""]}, "group_by[0]", "INVALID_FIELD"),
    ],
)
def test_a_wrong_query_names_the_field(
    stub: metrics_pb2_grpc.MetricsServiceStub, query: dict[str, object], field: str, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.QueryMetrics(metrics_pb2.QueryMetricsRequest(**query))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(caught.value)
    assert found["ErrorInfo"][0].reason == reason
    assert [violation.field for violation in found["BadRequest"][0].field_violations] == [field]


def test_a_page_token_of_another_request_is_refused(stub: metrics_pb2_grpc.MetricsServiceStub) -> None:
    for name in ("page.a", "page.b", "page.c"):
        stub.IngestMetrics(batch(name, 1))
    first = stub.ListMetrics(metrics_pb2.ListMetricsRequest(page_size=1, filter="metric = page.*"))
    assert first.next_page_token
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListMetrics(metrics_pb2.ListMetricsRequest(page_size=1, page_token=first.next_page_token))
    assert details(caught.value)["ErrorInfo"][0].reason == "INVALID_PAGE_TOKEN"


def test_a_stream_is_acknowledged_cumulatively_and_goes_on_after_a_bad_batch(
    stub: metrics_pb2_grpc.MetricsServiceStub,
) -> None:
    def messages(sequences: range) -> Iterator[metrics_pb2.StreamMetricsRequest]:
        yield metrics_pb2.StreamMetricsRequest(open={"producer_id": "streamer"})
        for sequence in sequences:
            message = metrics_pb2.StreamMetricsRequest()
            message.batch.sequence = sequence
            for _ in range(100):
                message.batch.metrics.add(name="streamed" if sequence != 3 else "", value=sequence)
            yield message

    answers = list(stub.StreamMetrics(messages(range(1, 21))))
    assert answers[0].opened.resume_after == 0
    assert [a.ack.through_sequence for a in answers if a.HasField("ack")][-1] == 20
    rejected = [a.rejection for a in answers if a.HasField("rejection")]
    assert [(r.sequence, len(r.items)) for r in rejected] == [(3, 100)]
    again = list(stub.StreamMetrics(messages(range(15, 23))))
    assert again[0].opened.resume_after == 20
    assert [a.ack.through_sequence for a in again if a.HasField("ack")][-1] == 22
    stub.IngestMetrics(batch("behind.the.stream", 1))
    assert stored(stub, "streamed") == 21 * 100


def otlp_request(name: str, points: int) -> metrics_service_pb2.ExportMetricsServiceRequest:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    metric = resource.scope_metrics.add().metrics.add(name=name)
    now = time.time_ns()
    for number in range(points):
        point = metric.gauge.data_points.add(as_double=number, time_unix_nano=now - number * 1_000_000)
        point.attributes.add(key="host").value.string_value = f"h{number % 2}"
    return request


def test_otlp_over_grpc_and_http_reaches_the_same_store(
    service: ServiceProcess, channel: grpc.Channel, stub: metrics_pb2_grpc.MetricsServiceStub
) -> None:
    request = otlp_request("otlp.gauge", 10)
    request.resource_metrics[0].scope_metrics[0].metrics.add(name="").gauge.data_points.add(as_int=1)
    answer = metrics_service_pb2_grpc.MetricsServiceStub(channel).Export(request)
    assert answer.partial_success.rejected_data_points == 1
    assert "INVALID_NAME" in answer.partial_success.error_message
    body = gzip.compress(otlp_request("otlp.gauge", 5).SerializeToString())
    post(service, body, "application/x-protobuf", gzip_encoded=True)
    now = str(time.time_ns())
    tree = {
        "resourceMetrics": [
            {
                "scopeMetrics": [
                    {
                        "metrics": [
                            {
                                "name": "otlp.gauge",
                                "sum": {
                                    "aggregationTemporality": 2,
                                    "isMonotonic": True,
                                    "dataPoints": [
                                        {
                                            "asInt": "7",
                                            "timeUnixNano": now,
                                            "attributes": [{"key": "k", "value": {"intValue": "9"}}],
                                        }
                                    ],
                                },
                            }
                        ]
                    }
                ]
            }
        ]
    }
    post(service, json.dumps(tree).encode(), "application/json")
    stub.IngestMetrics(batch("behind.the.export", 1))
    assert stored(stub, "otlp.gauge") == 16
    series = stub.ListSeries(metrics_pb2.ListSeriesRequest(metric="otlp.gauge", filter="service.name = shop")).series
    assert {item.labels["host"] for item in series} == {"h0", "h1"}


def post(service: ServiceProcess, body: bytes, content_type: str, *, gzip_encoded: bool = False) -> bytes:
    request = urllib.request.Request(f"{service.http}/v1/metrics", body, {"Content-Type": content_type})
    if gzip_encoded:
        request.add_header("Content-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"\xff\xff", "application/x-protobuf", 400),
        (b"{", "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"a=b", "text/plain", 415),
        (b"no gzip", "application/json+gzip", 400),
        (gzip.compress(b"\x00" * (64 * 1024 * 1024)), "application/x-protobuf+gzip", 413),
    ],
)
def test_bad_otlp_over_http_is_refused_with_the_right_status(
    service: ServiceProcess, body: bytes, content_type: str, status: int
) -> None:
    gzip_encoded = content_type.endswith("+gzip")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(service, body, content_type.removesuffix("+gzip"), gzip_encoded=gzip_encoded)
    assert caught.value.code == status
    if not content_type.startswith("application/x-protobuf") or status == 413:
        assert json.loads(caught.value.read()).keys() == {"code", "message", "details"}


def test_histograms_of_every_kind_come_back_as_quantiles(
    channel: grpc.Channel, stub: metrics_pb2_grpc.MetricsServiceStub
) -> None:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    now = time.time_ns()
    start = now - 600 * SECOND
    explicit = scope.metrics.add(name="explicit").histogram
    explicit.aggregation_temporality = otlp_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    for at, counts in ((20, [0, 0, 0]), (10, [10, 10, 0])):
        explicit.data_points.add(
            start_time_unix_nano=start,
            time_unix_nano=now - at * SECOND,
            count=sum(counts),
            sum=15,
            explicit_bounds=[1, 2],
            bucket_counts=counts,
        )
    exponential = scope.metrics.add(name="exponential").exponential_histogram
    exponential.aggregation_temporality = otlp_pb2.AGGREGATION_TEMPORALITY_DELTA
    point = exponential.data_points.add(time_unix_nano=now - SECOND, count=4, sum=24, scale=0)
    point.positive.offset, point.positive.bucket_counts[:] = 2, [4]
    summary = scope.metrics.add(name="summary").summary.data_points.add(time_unix_nano=now - SECOND, count=3, sum=6)
    summary.quantile_values.add(quantile=0.5, value=2)
    metrics_service_pb2_grpc.MetricsServiceStub(channel).Export(request)
    stub.IngestMetrics(batch("behind.the.histograms", 1))

    def ask(metric: str, function: str, quantile: float = 0.5) -> float:
        query = metrics_pb2.QueryMetricsRequest(
            metric=metric, aggregation=aggregation_pb2.Aggregation.Function.Value(function), quantile=quantile
        )
        query.start_time.FromNanoseconds(now - 300 * SECOND)
        query.end_time.FromNanoseconds(now)
        query.step.seconds = 300
        return float(stub.QueryMetrics(query).series[0].points[0].value)

    assert ask("explicit", "QUANTILE") == pytest.approx(1.0)
    assert ask("explicit", "QUANTILE", 0.75) == pytest.approx(1.5)
    assert ask("explicit", "COUNT") == 20
    assert ask("exponential", "QUANTILE", 1.0) == pytest.approx(8.0)
    assert ask("exponential", "AVG") == 6
    with pytest.raises(grpc.RpcError) as caught:
        ask("summary", "QUANTILE")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(caught.value)["ErrorInfo"][0].reason == "INCOMPATIBLE_DATA"


def test_a_watch_ends_after_its_count(stub: metrics_pb2_grpc.MetricsServiceStub) -> None:
    stub.IngestMetrics(batch("watched", 1))
    request = metrics_pb2.WatchMetricsRequest(query={"metric": "watched"}, max_count=2)
    request.interval.seconds = 1
    assert [len(answer.result.series) for answer in stub.WatchMetrics(request)] == [1, 1]


def test_reflection_describes_every_method(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {
        "airis.metrics.v1.MetricsService",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "grpc.health.v1.Health",
    }
    file = database.FindFileContainingSymbol("airis.metrics.v1.MetricsService")
    assert "QueryMetrics" in [method.name for method in file.service[0].method]


def test_http_tells_whether_it_is_alive_ready_and_how_it_fares(service: ServiceProcess) -> None:
    for path, expected in (("/healthz", "alive"), ("/readyz", "ready"), ("/metrics", "rpc_server_duration")):
        with urllib.request.urlopen(service.http + path, timeout=10) as response:
            assert expected in response.read().decode()


def test_what_was_acknowledged_survives_kill_and_a_repeated_request_is_known(tmp_path: Path) -> None:
    process = ServiceProcess("metrics", tmp_path)
    process.start()
    try:
        with grpc.insecure_channel(process.grpc) as channel:
            stub = metrics_pb2_grpc.MetricsServiceStub(channel)
            for number in range(5):
                request = batch("survivor", 100, f"request-{number}")
                request.wait_for = metrics_pb2.IngestMetricsRequest().wait_for
                assert stub.IngestMetrics(request).accepted_count == 100
            process.kill()
        process.start()
        with grpc.insecure_channel(process.grpc) as channel:
            stub = metrics_pb2_grpc.MetricsServiceStub(channel)
            for number in range(5):
                assert stub.IngestMetrics(batch("survivor", 100, f"request-{number}")).accepted_count == 100
            stub.IngestMetrics(batch("behind.the.crash", 1))
            assert stored(stub, "survivor") == 500
    finally:
        assert process.stop() == 0, process.log()
