"""The logs service as a process of its own: what is acknowledged, stored, answered, and survives."""

from __future__ import annotations

import gzip
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from service_process import ServiceProcess

QUERYABLE = 2
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    process = ServiceProcess("logs", tmp_path_factory.mktemp("logs"))
    process.start()
    yield process
    assert process.stop() == 0, process.log()


@pytest.fixture(scope="module")
def channel(service: ServiceProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> logs_pb2_grpc.LogServiceStub:
    return logs_pb2_grpc.LogServiceStub(channel)


@pytest.fixture
def name() -> str:
    """A service name that no other test uses."""
    return f"service-{uuid.uuid4().hex}"


def batch(service: str, count: int, request_id: str = "", message: str = "message") -> logs_pb2.IngestLogsRequest:
    request = logs_pb2.IngestLogsRequest(request_id=request_id, wait_for=QUERYABLE)
    now = time.time_ns()
    for number in range(count):
        entry = request.entries.add(message=f"{message} {number}", service=service, level=number % 5 + 1)
        entry.timestamp.FromNanoseconds(now - number * 1_000_000)
    return request


def search(stub: logs_pb2_grpc.LogServiceStub, text: str, **fields: Any) -> logs_pb2.SearchLogsResponse:
    request = logs_pb2.SearchLogsRequest(filter=text, **fields)
    if not request.HasField("end_time"):
        request.end_time.FromNanoseconds(time.time_ns() + 60 * SECOND)
    return stub.SearchLogs(request)


def details(error: grpc.RpcError) -> dict[str, Any]:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind.__name__] = message
    return found


def test_a_batch_is_stored_but_for_its_bad_entries(stub: logs_pb2_grpc.LogServiceStub, name: str) -> None:
    request = batch(name, 3)
    request.entries.add(message="")
    request.entries.add(message="m", level=9)
    request.entries.add(message="m", trace_id="not hex")
    request.entries.add(message="m").timestamp.seconds = 1
    answer = stub.IngestLogs(request)
    assert answer.accepted_count == 3
    reasons = {}
    for rejection in answer.rejections:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        rejection.status.details[0].Unpack(info)
        rejection.status.details[1].Unpack(bad)
        assert info.domain == "logs.airis"
        assert bad.field_violations[0].field.startswith(f"entries[{rejection.index}].")
        reasons[rejection.index] = info.reason
    assert reasons == {3: "INVALID_FIELD", 4: "UNKNOWN_ENUM_VALUE", 5: "INVALID_ID", 6: "TIMESTAMP_OUT_OF_RANGE"}
    found = search(stub, f'service = "{name}"').entries
    assert [entry.message for entry in found] == ["message 0", "message 1", "message 2"]
    assert len({entry.id for entry in found}) == 3


def test_a_korean_word_inside_a_longer_one_is_found_and_highlighted(
    stub: logs_pb2_grpc.LogServiceStub, name: str
) -> None:
    request = logs_pb2.IngestLogsRequest(wait_for=QUERYABLE)
    for text in ("😀 결제서비스가 응답하지 않습니다", "결제를 마쳤습니다", "the payment service"):
        request.entries.add(message=text, service=name)
    stub.IngestLogs(request)
    answer = search(stub, f'서비 service = "{name}"')
    assert [entry.message for entry in answer.entries] == ["😀 결제서비스가 응답하지 않습니다"]
    assert [(h.field, h.start, h.end) for h in answer.highlights[0].highlights] == [("message", 4, 6)]
    assert {entry.message for entry in search(stub, f'결제 service = "{name}"').entries} == {
        "😀 결제서비스가 응답하지 않습니다",
        "결제를 마쳤습니다",
    }
    assert search(stub, f'서제 service = "{name}"').entries == []


@pytest.mark.parametrize("order", ["timestamp desc", "timestamp asc"])
def test_pages_visit_everything_once_while_more_comes_in(
    stub: logs_pb2_grpc.LogServiceStub, name: str, order: str
) -> None:
    stub.IngestLogs(batch(name, 100, message="first"))
    request = logs_pb2.SearchLogsRequest(filter=f'service = "{name}"', page_size=7, order_by=order)
    seen: list[str] = []
    while True:
        answer = stub.SearchLogs(request)
        seen += [entry.id for entry in answer.entries if entry.message.startswith("first")]
        assert len(answer.highlights) == len(answer.entries) <= 7
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
        stub.IngestLogs(batch(name, 1, message="later"))
    assert len(seen) == len(set(seen)) == 100


def test_a_page_of_large_entries_stays_small_enough_for_any_client(
    stub: logs_pb2_grpc.LogServiceStub, name: str
) -> None:
    for _ in range(2):
        stub.IngestLogs(batch(name, 20, message="x" * 250_000))
    request = logs_pb2.SearchLogsRequest(filter=f'service = "{name}"', page_size=1000)
    seen: list[str] = []
    while True:
        answer = stub.SearchLogs(request)
        seen += [entry.id for entry in answer.entries]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            break
    assert len(seen) == len(set(seen)) == 40


@pytest.mark.parametrize(
    ("ask", "field", "reason"),
    [
        (lambda s: s.SearchLogs(logs_pb2.SearchLogsRequest(filter="a = ")), "filter", "INVALID_FILTER"),
        (lambda s: s.SearchLogs(logs_pb2.SearchLogsRequest(filter="levl = INFO")), "filter", "INVALID_FILTER"),
        (lambda s: s.SearchLogs(logs_pb2.SearchLogsRequest(order_by="level desc")), "order_by", "INVALID_FIELD"),
        (lambda s: s.SearchLogs(logs_pb2.SearchLogsRequest(page_size=1001)), "page_size", "INVALID_FIELD"),
        (lambda s: s.SearchLogs(logs_pb2.SearchLogsRequest(page_token="eA")), "page_token", "INVALID_PAGE_TOKEN"),
        (lambda s: s.CountLogs(logs_pb2.CountLogsRequest(group_by=["message"])), "group_by[0]", "INVALID_FIELD"),
        (lambda s: s.CountLogs(logs_pb2.CountLogsRequest(step={"nanos": 1000})), "step", "INVALID_FIELD"),
        (lambda s: s.ListLogAnomalies(logs_pb2.ListLogAnomaliesRequest(step={"seconds": 9})), "step", "INVALID_FIELD"),
        (lambda s: list(s.TailLogs(logs_pb2.TailLogsRequest(filter="(", max_count=1))), "filter", "INVALID_FILTER"),
    ],
)
def test_a_wrong_question_names_the_field(
    stub: logs_pb2_grpc.LogServiceStub, ask: Callable[[Any], Any], field: str, reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(stub)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(caught.value)
    assert found["ErrorInfo"].reason == reason
    assert [violation.field for violation in found["BadRequest"].field_violations] == [field]


def test_malformed_bytes_are_refused_whole(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/airis.logs.v1.LogService/IngestLogs")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x0a\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["ErrorInfo"].reason == "MALFORMED_REQUEST"


def test_pipelines_say_that_they_are_not_there(stub: logs_pb2_grpc.LogServiceStub) -> None:
    for call in (
        lambda: stub.CreateLogPipeline(logs_pb2.CreateLogPipelineRequest(log_pipeline={"display_name": "x"})),
        lambda: stub.GetLogPipeline(logs_pb2.GetLogPipelineRequest(name="logPipelines/x")),
        lambda: stub.ListLogPipelines(logs_pb2.ListLogPipelinesRequest()),
        lambda: stub.UpdateLogPipeline(logs_pb2.UpdateLogPipelineRequest(log_pipeline={"display_name": "x"})),
        lambda: stub.DeleteLogPipeline(logs_pb2.DeleteLogPipelineRequest(name="logPipelines/x")),
    ):
        with pytest.raises(grpc.RpcError, match="not part of this version") as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_counts_patterns_and_anomalies_over_the_wire(stub: logs_pb2_grpc.LogServiceStub, name: str) -> None:
    request = batch(name, 50)
    burst = (time.time_ns() // (60 * SECOND) - 10) * 60 * SECOND
    for number in range(30):
        entry = request.entries.add(message=f"order {number} was refused", service=name, level=4)
        entry.timestamp.FromNanoseconds(burst + number)
    stub.IngestLogs(request)
    text = f'service = "{name}"'
    counts = stub.CountLogs(logs_pb2.CountLogsRequest(filter=text, group_by=["level"]))
    assert counts.total_count == 80
    assert counts.step.seconds == 60
    assert {group.fields["level"]: group.count for group in counts.groups} == {
        "ERROR": 40,
        "DEBUG": 10,
        "INFO": 10,
        "WARN": 10,
        "FATAL": 10,
    }
    assert counts.groups[0].fields["level"] == "ERROR"
    first = stub.ListLogPatterns(logs_pb2.ListLogPatternsRequest(filter=text, page_size=1))
    assert first.sampled_count == 80
    assert (first.patterns[0].template, first.patterns[0].count) == ("message <*>", 50)
    token = first.next_page_token
    second = stub.ListLogPatterns(logs_pb2.ListLogPatternsRequest(filter=text, page_size=1, page_token=token))
    assert (second.patterns[0].template, second.patterns[0].max_level) == ("order <*> was refused", 4)
    assert second.next_page_token == ""
    anomalies = stub.ListLogAnomalies(logs_pb2.ListLogAnomaliesRequest(filter=text)).anomalies
    assert [(a.timestamp.ToNanoseconds(), a.level, a.count) for a in anomalies if a.count == 30] == [(burst, 4, 30)]


def test_a_stream_is_acknowledged_cumulatively_and_goes_on_after_a_bad_batch(
    stub: logs_pb2_grpc.LogServiceStub, name: str
) -> None:
    def messages(sequences: range) -> Iterator[logs_pb2.StreamLogsRequest]:
        yield logs_pb2.StreamLogsRequest(open={"producer_id": name})
        for sequence in sequences:
            message = logs_pb2.StreamLogsRequest()
            message.batch.sequence = sequence
            for _ in range(50):
                message.batch.entries.add(message="streamed" if sequence != 3 else "", service=name)
            yield message

    answers = list(stub.StreamLogs(messages(range(1, 11))))
    assert answers[0].opened.resume_after == 0
    assert [a.ack.through_sequence for a in answers if a.HasField("ack")][-1] == 10
    assert [(a.rejection.sequence, len(a.rejection.items)) for a in answers if a.HasField("rejection")] == [(3, 50)]
    again = list(stub.StreamLogs(messages(range(8, 13))))
    assert again[0].opened.resume_after == 10
    assert [a.ack.through_sequence for a in again if a.HasField("ack")][-1] == 12
    stub.IngestLogs(batch("behind the stream", 1))
    assert stub.CountLogs(logs_pb2.CountLogsRequest(filter=f'service = "{name}"')).total_count == 11 * 50


def otlp_request(service: str, *bodies: str) -> logs_service_pb2.ExportLogsServiceRequest:
    request = logs_service_pb2.ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    for body in bodies:
        record = scope.log_records.add(severity_number=17, trace_id=bytes(range(16)), time_unix_nano=time.time_ns())
        record.body.string_value = body
        record.attributes.add(key="http.response.status_code").value.int_value = 503
    return request


def test_otlp_over_grpc_and_http_reaches_the_same_store(
    service: ServiceProcess, channel: grpc.Channel, stub: logs_pb2_grpc.LogServiceStub, name: str
) -> None:
    request = otlp_request(name, "one", "two")
    request.resource_logs[0].scope_logs[0].log_records.add(time_unix_nano=1).body.string_value = "old"
    answer = logs_service_pb2_grpc.LogsServiceStub(channel).Export(request)
    assert answer.partial_success.rejected_log_records == 1
    assert "TIMESTAMP_OUT_OF_RANGE" in answer.partial_success.error_message
    post(
        service, gzip.compress(otlp_request(name, "three").SerializeToString()), "application/x-protobuf", gzipped=True
    )
    record = {
        "timeUnixNano": str(time.time_ns()),
        "severityText": "Warning",
        "traceId": "000102030405060708090A0B0C0D0E0F",
        "attributes": [{"key": "http.response.status_code", "value": {"intValue": "503"}}],
        "body": {"kvlistValue": {"values": [{"key": "order", "value": {"intValue": "7"}}]}},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}
    tree = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    post(service, json.dumps(tree).encode(), "application/json")
    stub.IngestLogs(batch("behind the export", 1))
    found = search(stub, f'service = "{name}" status_code = 503 trace_id = 000102030405060708090a0b0c0d0e0f').entries
    levels = {entry.message: logs_pb2.LogEntry.Level.Name(entry.level) for entry in found}
    assert levels == {"one": "ERROR", "two": "ERROR", "three": "ERROR", '{"order":7}': "WARN"}


def post(service: ServiceProcess, body: bytes, content_type: str, *, gzipped: bool = False) -> bytes:
    request = urllib.request.Request(f"{service.http}/v1/logs", body, {"Content-Type": content_type})
    if gzipped:
        request.add_header("Content-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"\xff\xff", "application/x-protobuf", 400),
        (b"{", "application/json", 400),
        (b"a=b", "text/plain", 415),
    ],
)
def test_bad_otlp_over_http_is_refused_with_the_right_status(
    service: ServiceProcess, body: bytes, content_type: str, status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(service, body, content_type)
    assert caught.value.code == status


def test_a_tail_gives_its_backlog_and_then_all_that_comes_once_and_in_order(
    stub: logs_pb2_grpc.LogServiceStub, name: str
) -> None:
    stub.IngestLogs(batch(name, 5, message="before"))
    request = logs_pb2.TailLogsRequest(filter=f'service = "{name}"', backlog=2, max_count=2 + 40 * 5)
    call = stub.TailLogs(request, timeout=30)
    # Its arrival says that nothing stored from now on is missed.
    call.initial_metadata()
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(stub.IngestLogs, batch(name, 5, message=f"after {n}")) for n in range(40)]
        stub.IngestLogs(batch("somebody else", 5))
        entries = [entry for answer in call for entry in answer.entries]
        assert all(writer.result().accepted_count == 5 for writer in writers)
    assert [entry.message for entry in entries[:2]] == ["before 1", "before 0"]
    assert {entry.message for entry in entries[2:]} == {f"after {n} {m}" for n in range(40) for m in range(5)}
    assert [entry.id for entry in entries[2:]] == sorted(entry.id for entry in entries[2:])


def test_a_tail_ends_after_its_duration_and_when_its_caller_goes(stub: logs_pb2_grpc.LogServiceStub, name: str) -> None:
    request = logs_pb2.TailLogsRequest(filter=f'service = "{name}"', max_duration={"nanos": 300_000_000})
    assert list(stub.TailLogs(request, timeout=10)) == []
    call = stub.TailLogs(logs_pb2.TailLogsRequest(filter=f'service = "{name}"'))
    call.initial_metadata()
    threading.Thread(target=call.cancel).start()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_a_stop_ends_tails_at_once_and_says_so(tmp_path: Path) -> None:
    process = ServiceProcess("logs", tmp_path)
    process.start()
    with grpc.insecure_channel(process.grpc) as channel:
        stub = logs_pb2_grpc.LogServiceStub(channel)
        calls = [stub.TailLogs(logs_pb2.TailLogsRequest()) for _ in range(3)]
        for call in calls:
            call.initial_metadata()
        assert process.stop() == 0, process.log()
        for call in calls:
            with pytest.raises(grpc.RpcError, match="stopping") as caught:
                list(call)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_reflection_describes_every_method(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= {
        "airis.logs.v1.LogService",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        "grpc.health.v1.Health",
    }


def test_http_tells_whether_it_is_alive_ready_and_how_it_fares(service: ServiceProcess) -> None:
    for path, expected in (("/healthz", "alive"), ("/readyz", "ready"), ("/metrics", "rpc_server_duration")):
        with urllib.request.urlopen(service.http + path, timeout=10) as response:
            assert expected in response.read().decode()


def test_what_was_acknowledged_survives_kill_and_a_repeated_request_is_stored_once(tmp_path: Path) -> None:
    process = ServiceProcess("logs", tmp_path)
    process.start()
    try:
        with grpc.insecure_channel(process.grpc) as channel:
            stub = logs_pb2_grpc.LogServiceStub(channel)
            for number in range(5):
                request = batch("survivor", 100, f"request-{number}")
                if number != 1:
                    request.ClearField("wait_for")
                assert [stub.IngestLogs(request).accepted_count for _ in range(2)] == [100, 100]
            process.kill()
        process.start()
        with grpc.insecure_channel(process.grpc) as channel:
            stub = logs_pb2_grpc.LogServiceStub(channel)
            for number in range(5):
                assert stub.IngestLogs(batch("survivor", 100, f"request-{number}")).accepted_count == 100
            stub.IngestLogs(batch("behind the crash", 1))
            counts = logs_pb2.CountLogsRequest(filter="service = survivor")
            assert stub.CountLogs(counts).total_count == 500
            ids = {entry.id for entry in search(stub, "service = survivor", page_size=1000).entries}
            assert len(ids) == 500
    finally:
        assert process.stop() == 0, process.log()
