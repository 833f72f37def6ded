"""Bytes that break readers: each gets an answer, and what is stored can be read again by any client."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf import json_format, struct_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from services.logs import convert as logs
from services.metrics import convert as metrics
from services.shared.bus.intake import Receipt
from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.rpc import attributes
from services.shared.rpc.ingest_stream import rejections
from services.traces import convert as traces
from services.traces.typed_text import decode_any_value

READERS: list[tuple[Any, Any]] = [
    (metrics, metrics_pb2.IngestMetricsRequest),
    (logs, logs_pb2.IngestLogsRequest),
    (traces, traces_pb2.IngestSpansRequest),
]


@pytest.mark.parametrize(("service", "message"), READERS)
@pytest.mark.parametrize("payload", [b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0a" + b"\xff" * 8 + b"\x7f", b"\x0a\x05a"])
def test_a_length_beyond_the_message_is_malformed_whatever_it_is(service: Any, message: Any, payload: bytes) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        service.read(message.DESCRIPTOR.full_name, [payload])
    assert caught.value.reason == "MALFORMED_REQUEST"


def test_an_entry_of_a_map_may_leave_out_its_value() -> None:
    # Field 9 is `tags`; its entry has the key "c" and no value, which stands for the default.
    payload = b"\x0a\x05\x4a\x03\x0a\x01c"
    assert len(traces_pb2.IngestSpansRequest.FromString(payload).spans[0].tags) == 1
    spans = traces.read(traces_pb2.IngestSpansRequest.DESCRIPTOR.full_name, [payload]).items
    assert spans.table.column("tag_count").to_pylist() == [1]


def test_a_number_that_json_lacks_within_a_list_is_kept_by_name() -> None:
    values = [struct_pb2.Value(number_value=number) for number in (math.nan, math.inf, -math.inf, 1.5)]
    entry = logs_pb2.LogEntry(message="m")
    entry.metadata["numbers"].CopyFrom(struct_pb2.Value(list_value=struct_pb2.ListValue(values=values)))
    payload = logs_pb2.IngestLogsRequest(entries=[entry]).SerializeToString()
    records = logs.read(logs_pb2.IngestLogsRequest.DESCRIPTOR.full_name, [payload]).items
    ((_, encoded),) = records.table.column("metadata_encoded").to_pylist()[0]
    assert attributes.plain_value(encoded) == ["NaN", "Infinity", "-Infinity", 1.5]


def test_a_number_that_json_lacks_is_kept_by_name_in_what_is_known_of_a_series() -> None:
    metric = metrics_pb2.Metric(name="m")
    metric.metadata["number"].number_value = math.inf
    payload = metrics_pb2.IngestMetricsRequest(metrics=[metric]).SerializeToString()
    points = metrics.read(metrics_pb2.IngestMetricsRequest.DESCRIPTOR.full_name, [payload]).items
    assert json.loads(points.metrics.column("metadata").to_pylist()[0]) == {"number": "Infinity"}


def nested(levels: int, as_map: bool) -> common_pb2.AnyValue:
    value = common_pb2.AnyValue(string_value="deep")
    for _ in range(levels):
        outer = common_pb2.AnyValue()
        if as_map:
            outer.kvlist_value.values.add(key="k").value.CopyFrom(value)
        else:
            outer.array_value.values.append(value)
        value = outer
    return value


def depth(value: struct_pb2.Value) -> tuple[int, str]:
    levels = 0
    while (kind := value.WhichOneof("kind")) != "string_value":
        value = value.list_value.values[0] if kind == "list_value" else value.struct_value.fields["k"]
        levels += 1
    return levels, value.string_value


@pytest.mark.parametrize(("levels", "as_map"), [(1, False), (24, True), (51, False), (33, True)])
def test_what_is_nested_deeply_is_stored_and_read_again(levels: int, as_map: bool) -> None:
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "m"
    record.attributes.add(key="a").value.CopyFrom(nested(levels, as_map))
    records = logs.read(
        logs_service_pb2.ExportLogsServiceRequest.DESCRIPTOR.full_name, [request.SerializeToString()]
    ).items
    ((_, encoded),) = records.table.column("metadata_encoded").to_pylist()[0]
    plain: Any = attributes.plain_value(encoded)
    from_logs = json_format.ParseDict(plain, struct_pb2.Value())
    answer = logs_pb2.SearchLogsResponse(entries=[logs_pb2.LogEntry(metadata={"a": from_logs})])
    assert logs_pb2.SearchLogsResponse.FromString(answer.SerializeToString()) == answer
    from_traces = traces.value(decode_any_value(encoded))
    tags = {"a": from_traces}
    trace = traces_pb2.Trace(spans=[traces_pb2.Span(logs=[traces_pb2.Span.Log(fields=tags)])])
    assert traces_pb2.Trace.FromString(trace.SerializeToString()) == trace
    for value in (from_logs, from_traces):
        shown, text = depth(value)
        assert shown == min(levels, attributes.MAX_LEVELS)
        if levels == shown:
            assert text == "deep"
            continue
        rest: Any = json.loads(text)
        for _ in range(levels - shown):
            rest = rest["k"] if as_map else rest[0]
        assert rest == "deep"


@pytest.mark.parametrize(("service", "message"), READERS)
def test_millions_of_empty_items_are_refused_before_they_are_built(service: Any, message: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        service.read(message.DESCRIPTOR.full_name, [b"\x0a\x00" * 2_000_000])
    assert caught.value.reason == "SIZE_LIMIT_EXCEEDED"


def test_many_rejections_make_a_small_answer() -> None:
    violation = FieldViolation("metrics[0].value", "must be a finite number", "NON_FINITE_VALUE")
    answer = metrics_pb2.IngestMetricsResponse(
        rejections=rejections(Receipt(0, dict.fromkeys(range(100_000), violation), ""), "metrics.airis")
    )
    assert answer.ByteSize() < 4 * 1024 * 1024
    assert len(answer.rejections) == 100_000
    assert answer.rejections[0].status.details
    assert answer.rejections[-1].status.message == "NON_FINITE_VALUE"
