"""Wire to columns agrees with a plain reading of the same bytes by upb, for every field and kind of value."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from typing import Any

import pytest
from airis.logs.v1 import logs_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import LogColumns, LogEntry
from services.logs.store.adapters.clickhouse import _entry
from services.shared.bus.port import Header
from services.shared.errors import InvalidArgumentError

NOW = 1_790_000_000_123_456_789
DAY = 86_400_000_000_000
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
KEYS = st.sampled_from(["a", "b", "service.name", "서버", "http.response.status_code", "enduser.id", "url.full", ""])
OTLP_KEYS = KEYS | st.sampled_from(["exception.stacktrace", "http.request.method", "otel.scope.name", "event_name"])
TIMES = st.sampled_from([0, NOW, NOW - DAY, NOW - 90 * DAY, NOW - 90 * DAY - 1, NOW + DAY, NOW + DAY + 1, 1])
IDS = st.sampled_from(["", "0af7651916cd43dd8448eb211c80319c", "0AF7651916CD43DD", "b7ad6b7169203331", "0" * 32, "xyz"])
SERVICES = st.sampled_from(["", "결제", "pay", "s" * 255, "가" * 255, "s" * 256])
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, 1e308, math.nan, math.inf])


@st.composite
def any_values(draw: st.DrawFn, depth: int = 0) -> common_pb2.AnyValue:
    value = common_pb2.AnyValue()
    kinds = ["string", "bool", "int", "double", "bytes", "none"] + (["array", "kvlist"] if depth < 3 else [])
    match draw(st.sampled_from(kinds)):
        case "string":
            value.string_value = draw(TEXT)
        case "bool":
            value.bool_value = draw(st.booleans())
        case "int":
            value.int_value = draw(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 600))
        case "double":
            value.double_value = draw(st.floats())
        case "bytes":
            value.bytes_value = draw(st.binary(max_size=4))
        case "array":
            value.array_value.SetInParent()
            for item in draw(st.lists(any_values(depth + 1), max_size=2)):
                value.array_value.values.append(item)
        case "kvlist":
            value.kvlist_value.SetInParent()
            for key, item in draw(st.dictionaries(KEYS, any_values(depth + 1), max_size=2)).items():
                value.kvlist_value.values.add(key=key).value.CopyFrom(item)
    return value


ATTRIBUTES = st.dictionaries(OTLP_KEYS, any_values(), max_size=4)


def plain(value: common_pb2.AnyValue) -> Any:
    """The value as our dialect gives it."""
    match value.WhichOneof("value"):
        case "int_value":
            return value.int_value if abs(value.int_value) <= 2**53 else str(value.int_value)
        case "double_value":
            number = value.double_value
            return (
                number if math.isfinite(number) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, "NaN")
            )
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        case None:
            return None
        case field:
            return getattr(value, field)


def check(message_type: str, payload: bytes) -> tuple[LogColumns, dict[int, str]]:
    checker = Checker(LogsConfig())
    records = convert.read(message_type, [payload]).items
    checked = checker.check(records, "default", NOW)
    # A replay of the same bytes, knowing what was refused, gives the same columns.
    header = Header("default", message_type, NOW, records.count, rejected=tuple(sorted(checked.rejected)))
    again = checker.columns(convert.read(message_type, [payload]).items, header)
    # As text: a NaN is not equal to itself.
    assert repr(again.entries.to_pylist()) == repr(checked.columns.entries.to_pylist())
    return checked.columns, {index: violation.reason for index, violation in checked.rejected.items()}


def stored(columns: LogColumns) -> list[tuple[int, LogEntry]]:
    rows = columns.entries.append_column("time", columns.entries.column("timestamp").cast("int64"))
    return [(row["index"], _entry({**row, "ingest_position": 0})) for row in rows.drop_columns("timestamp").to_pylist()]


def answered(entry: LogEntry) -> dict[str, Any]:
    """The metadata as a client gets it, in Python."""
    message = convert.log_entry(entry)
    return {key: from_value(value) for key, value in message.metadata.items()}


def from_value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: from_value(item) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case "null_value" | None:
            return None
        case field:
            return getattr(value, field)


def fits(entry: logs_pb2.LogEntry) -> bool:
    time = entry.timestamp.ToNanoseconds() if entry.HasField("timestamp") else NOW
    return (
        NOW - 90 * DAY <= time <= NOW + DAY
        and entry.message != ""
        and 0 <= entry.level <= 5
        and len(entry.service) <= 255
        and re.fullmatch("([0-9a-fA-F]{32})?", entry.trace_id) is not None
        and entry.trace_id != "0" * 32
        and re.fullmatch("([0-9a-fA-F]{16})?", entry.span_id) is not None
        and math.isfinite(entry.duration_ms)
        and all(1 <= len(key) <= 255 for key in entry.labels)
    )


@st.composite
def json_values(draw: st.DrawFn) -> Any:
    leaves = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
    return draw(
        st.recursive(leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2))
    )


def to_value(plain_value: Any, target: Any) -> None:
    match plain_value:
        case None:
            target.null_value = 0
        case bool():
            target.bool_value = plain_value
        case float():
            target.number_value = plain_value
        case str():
            target.string_value = plain_value
        case list():
            target.list_value.SetInParent()
            for item in plain_value:
                to_value(item, target.list_value.values.add())
        case dict():
            target.struct_value.SetInParent()
            for key, item in plain_value.items():
                to_value(item, target.struct_value.fields[key])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_our_dialect(data: st.DataObject) -> None:
    request = logs_pb2.IngestLogsRequest(request_id=data.draw(TEXT), wait_for=data.draw(st.integers(0, 2)))
    for _ in range(data.draw(st.integers(0, 5))):
        entry = request.entries.add(
            message=data.draw(TEXT),
            level=data.draw(st.integers(-1, 6)),
            service=data.draw(SERVICES),
            trace_id=data.draw(IDS),
            span_id=data.draw(IDS),
            labels=data.draw(st.dictionaries(KEYS, TEXT, max_size=3)),
            stack_trace=data.draw(TEXT),
            user_id=data.draw(TEXT),
            request_id=data.draw(TEXT),
            duration_ms=data.draw(NUMBERS),
            status_code=data.draw(st.integers(-(2**31), 2**31 - 1)),
            url=data.draw(TEXT),
            method=data.draw(TEXT),
            id="made by the client",
        )
        if time := data.draw(TIMES):
            entry.timestamp.FromNanoseconds(time)
        for key, value in data.draw(st.dictionaries(KEYS, json_values(), max_size=3)).items():
            to_value(value, entry.metadata[key])
    payload = request.SerializeToString()
    fields = convert.read(convert.UNARY, [payload]).fields[0]
    assert fields == {"request_id": request.request_id, "wait_for": request.wait_for}
    columns, rejected = check(convert.UNARY, payload)
    assert set(rejected) == {index for index, entry in enumerate(request.entries) if not fits(entry)}
    found = stored(columns)
    assert [index for index, _ in found] == [i for i, entry in enumerate(request.entries) if fits(entry)]
    for index, entry in found:
        sent = logs_pb2.LogEntry()
        sent.CopyFrom(request.entries[index])
        sent.id = "0" * 16
        sent.level = sent.level or 2
        sent.trace_id, sent.span_id = sent.trace_id.lower(), sent.span_id.lower()
        if not sent.HasField("timestamp"):
            sent.timestamp.FromNanoseconds(NOW)
        assert convert.log_entry(entry) == sent


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.lists(TEXT.filter(bool), max_size=3))
def test_a_stream_message_is_read_as_a_unary_one(sequence: int, messages: list[str]) -> None:
    entries = [logs_pb2.LogEntry(message=message) for message in messages]
    batch = logs_pb2.StreamLogsRequest(batch={"sequence": sequence, "entries": entries}).SerializeToString()
    unary = logs_pb2.IngestLogsRequest(entries=entries).SerializeToString()
    assert convert.read(convert.STREAM, [batch]).fields[0] == {"sequence": sequence}
    assert check(convert.STREAM, batch)[0].entries.equals(check(convert.UNARY, unary)[0].entries)


def test_of_a_map_key_that_is_twice_on_the_wire_the_last_counts() -> None:
    first, second = (
        logs_pb2.LogEntry(labels={"host": value}, metadata={"k": {"string_value": value}}).SerializeToString()
        for value in ("old", "new")
    )
    body = logs_pb2.LogEntry(message="m").SerializeToString() + first + second
    columns, _ = check(convert.UNARY, b"\x0a" + bytes([len(body)]) + body)
    ((_, entry),) = stored(columns)
    assert (entry.labels, entry.metadata) == ({"host": "new"}, {"k": "new"})


LEVELS = {0: None, **{n: max(1, (n - 1) // 4) for n in range(1, 25)}}
TEXT_LEVELS = {"debug": 1, " Warning ": 3, "ERROR": 4, "critical": 5, "나쁨": 2, "": 2, "TRACE": 1}
NAMES = {1: "DEBUG", 2: "INFO", 3: "WARN", 4: "ERROR", 5: "FATAL"}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_otlp(data: st.DataObject) -> None:
    request = logs_service_pb2.ExportLogsServiceRequest()
    for _ in range(data.draw(st.integers(0, 2))):
        resource = request.resource_logs.add()
        if data.draw(st.booleans()):
            resource.resource.SetInParent()
            _fill(resource.resource.attributes, data.draw(ATTRIBUTES))
        for _ in range(data.draw(st.integers(0, 2))):
            scope = resource.scope_logs.add()
            if data.draw(st.booleans()):
                scope.scope.name, scope.scope.version = data.draw(TEXT), data.draw(TEXT)
                _fill(scope.scope.attributes, data.draw(ATTRIBUTES))
            for _ in range(data.draw(st.integers(0, 3))):
                record = scope.log_records.add(
                    time_unix_nano=data.draw(TIMES | st.just(2**64 - 1)),
                    observed_time_unix_nano=data.draw(TIMES),
                    severity_number=data.draw(st.integers(-1, 25)),
                    severity_text=data.draw(st.sampled_from(list(TEXT_LEVELS))),
                    event_name=data.draw(TEXT),
                    trace_id=data.draw(st.sampled_from([b"", b"\xab" * 16, bytes(16), b"short"])),
                    span_id=data.draw(st.sampled_from([b"", b"\x01\xcd" * 4, bytes(8), b"too long an id"])),
                )
                _fill(record.attributes, data.draw(ATTRIBUTES))
                if data.draw(st.booleans()):
                    record.body.CopyFrom(data.draw(any_values()))
    columns, rejected = check(convert.OTLP, request.SerializeToString())
    records = [(r, s, x) for r in request.resource_logs for s in r.scope_logs for x in s.log_records]
    expected = [_expected(*each) for each in records]
    assert rejected == {index: reason for index, (reason, _) in enumerate(expected) if reason}
    found = stored(columns)
    assert [index for index, _ in found] == [index for index, (reason, _) in enumerate(expected) if not reason]
    for index, entry in found:
        metadata, fields = expected[index][1]
        assert answered(entry) == metadata
        assert {name: getattr(entry, name) for name in fields} == fields


def _fill(target: Any, attributes: dict[str, common_pb2.AnyValue]) -> None:
    for key, value in attributes.items():
        target.add(key=key).value.CopyFrom(value)


def _expected(resource: Any, scope: Any, record: Any) -> tuple[str, Any]:
    time = record.time_unix_nano or record.observed_time_unix_nano or NOW
    number = record.severity_number
    level = TEXT_LEVELS[record.severity_text] if number == 0 else LEVELS.get(number, -1)
    shared = {pair.key: pair.value for pair in resource.resource.attributes}
    texts = {key: value.string_value for key, value in shared.items() if value.WhichOneof("value") == "string_value"}
    if not NOW - 90 * DAY <= time <= NOW + DAY:
        return "TIMESTAMP_OUT_OF_RANGE", None
    if level == -1:
        return "UNKNOWN_ENUM_VALUE", None
    if "" in texts:
        return "LABEL_LIMIT_EXCEEDED", None
    typed: dict[str, Any] = {key: value for key, value in shared.items() if key not in texts}
    named = {"otel.scope.version": scope.scope.version, "otel.scope.name": scope.scope.name}
    typed |= {key: common_pb2.AnyValue(string_value=text) for key, text in named.items() if text}
    typed |= {pair.key: pair.value for pair in scope.scope.attributes}
    if record.severity_text and record.severity_text.upper() != NAMES[level]:
        typed["severity_text"] = common_pb2.AnyValue(string_value=record.severity_text)
    if record.event_name:
        typed["event_name"] = common_pb2.AnyValue(string_value=record.event_name)
    typed |= {pair.key: pair.value for pair in record.attributes}

    def field(key: str, kind: str) -> Any:
        value = typed.get(key)
        return getattr(value, kind) if value is not None and value.WhichOneof("value") == kind else None

    stack_trace = field("exception.stacktrace", "string_value")
    if stack_trace is not None:
        del typed["exception.stacktrace"]
    code = field("http.response.status_code", "int_value") or 0
    body = _body_text(record.body)
    return "", (
        {key: plain(value) for key, value in typed.items()},
        {
            "timestamp": time,
            "level": level,
            "message": body or record.event_name or record.severity_text or NAMES[level],
            "service": texts.get("service.name", ""),
            "labels": texts,
            "trace_id": record.trace_id.hex() if len(record.trace_id) == 16 and any(record.trace_id) else "",
            "span_id": record.span_id.hex() if len(record.span_id) == 8 and any(record.span_id) else "",
            "stack_trace": stack_trace or "",
            "user_id": field("enduser.id", "string_value") or "",
            "url": field("url.full", "string_value") or "",
            "method": field("http.request.method", "string_value") or "",
            "status_code": code if -(2**31) <= code < 2**31 else 0,
        },
    )


def _body_text(body: common_pb2.AnyValue) -> str:
    match body.WhichOneof("value"):
        case None:
            return ""
        case "string_value":
            return body.string_value
        case "bool_value":
            return "true" if body.bool_value else "false"
        case "int_value":
            return str(body.int_value)
        case "double_value":
            return convert.read(convert.OTLP, [_with_double(body)]).items.table.column("message")[0].as_py()
        case "bytes_value":
            return base64.b64encode(body.bytes_value).decode()
        case _:
            return json.dumps(plain(body), ensure_ascii=False, separators=(",", ":"))


def _with_double(body: common_pb2.AnyValue) -> bytes:
    # How many digits a double's text has is Arrow's choice; that it is the same number is checked here.
    request = logs_service_pb2.ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.CopyFrom(body)
    text = convert.read(convert.OTLP, [request.SerializeToString()]).items.table.column("message")[0].as_py()
    assert float(text) == body.double_value or math.isnan(body.double_value)
    return request.SerializeToString()


@pytest.mark.parametrize("message_type", [convert.UNARY, convert.STREAM, convert.OTLP])
@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(message_type: str, payload: bytes) -> None:
    with contextlib.suppress(InvalidArgumentError):
        check(message_type, payload)


def test_malformed_values_within_values_are_refused() -> None:
    inner = common_pb2.AnyValue(array_value={"values": [{"string_value": "abcd"}]}).SerializeToString()
    request = logs_service_pb2.ExportLogsServiceRequest()
    attribute = request.resource_logs.add().scope_logs.add().log_records.add().attributes.add(key="k")
    attribute.value.array_value.values.add(string_value="abcd")
    payload = request.SerializeToString()
    assert inner[-4:] in payload
    for broken in (payload.replace(b"abcd", b"\xff\xff\xff\xff"), payload.replace(b"\x0a\x04abcd", b"\x0a\x09abcd")):
        with pytest.raises(InvalidArgumentError):
            convert.read(convert.OTLP, [broken])
