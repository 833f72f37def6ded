"""Spans on the wire, in each dialect, come back from the store as a plain reading of the same bytes has them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airis.traces.v1 import traces_pb2
from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from trace_world import CONFIG, TENANT, TIMEOUT, trace_store

from services.shared.bus.port import Header
from services.shared.errors import InvalidArgumentError
from services.traces import convert
from services.traces.ingest import Checker
from services.traces.model import AttributeValue, Event, Link, Span, SpanKind, StatusCode
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

NOW = 1_790_000_000_000_000_000
KEYS = ["a", "b", "http.status", "ключ", 'quote"\\', "event", "k\n"]
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

_runs = itertools.count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseTraceStore]:
    folder: Path = tmp_path_factory.mktemp("traces")
    with trace_store(folder / "clickhouse") as (opened, _):
        yield opened


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
doubles = st.floats(allow_nan=True)


@st.composite
def any_values(draw: Any, depth: int = 0) -> common_pb2.AnyValue:
    kinds = ["string", "int", "double", "bool", "bytes", "none"] + (["array", "map"] if depth < 2 else [])
    match draw(st.sampled_from(kinds)):
        case "string":
            return common_pb2.AnyValue(string_value=draw(texts))
        case "int":
            return common_pb2.AnyValue(int_value=draw(st.integers(-(2**63), 2**63 - 1)))
        case "double":
            return common_pb2.AnyValue(double_value=draw(doubles))
        case "bool":
            return common_pb2.AnyValue(bool_value=draw(st.booleans()))
        case "bytes":
            return common_pb2.AnyValue(bytes_value=draw(st.binary(max_size=5)))
        case "array":
            items = draw(st.lists(any_values(depth + 1), max_size=3))
            return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=items))
        case "map":
            return common_pb2.AnyValue(kvlist_value=common_pb2.KeyValueList(values=draw(key_values(depth + 1))))
    return common_pb2.AnyValue()


def key_values(depth: int = 0) -> Any:
    keyed = st.dictionaries(st.sampled_from(KEYS), any_values(depth), max_size=4)
    return keyed.map(lambda found: [common_pb2.KeyValue(key=key, value=value) for key, value in found.items()])


def plain(value: common_pb2.AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case kind:
            found: AttributeValue = getattr(value, kind)
            return found


def attributes(pairs: Any) -> dict[str, AttributeValue]:
    return {pair.key: plain(pair.value) for pair in pairs}


def same(left: AttributeValue, right: AttributeValue) -> bool:
    """Equality that tells types apart and takes NaN as itself."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def assert_same(found: Span, expected: Span) -> None:
    for name in ("trace_id", "span_id", "parent_span_id", "operation_name", "service_name", "start_ns", "end_ns"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("kind", "status_code", "status_message"):
        assert getattr(found, name) == getattr(expected, name), name
    assert same(found.tags, expected.tags), (found.tags, expected.tags)
    assert [event.timestamp_ns for event in found.events] == [event.timestamp_ns for event in expected.events]
    assert same([e.fields for e in found.events], [e.fields for e in expected.events])
    assert [(link.trace_id, link.span_id) for link in found.links] == [(k.trace_id, k.span_id) for k in expected.links]
    assert same([link.tags for link in found.links], [link.tags for link in expected.links])


async def through_the_store(store: ClickHouseTraceStore, message_type: str, payload: bytes) -> list[Span]:
    decoded = convert.read(message_type, [payload]).items
    checked = Checker(CONFIG).check(decoded, TENANT, NOW)
    assert not checked.rejected
    header = Header(TENANT, message_type, NOW, decoded.count)
    await store.write([(header, checked.columns)], f"round-{next(_runs)}")
    ids = dict.fromkeys(checked.columns.spans.column("trace_id").to_pylist())
    return [span for each in ids for span in await store.trace(TENANT, each, 1000, TIMEOUT)]


@st.composite
def otlp_requests(draw: Any) -> trace_service_pb2.ExportTraceServiceRequest:
    request = trace_service_pb2.ExportTraceServiceRequest()
    number = itertools.count(1)
    trace_id = b"\xab" + next(_runs).to_bytes(11, "big") + draw(st.binary(min_size=4, max_size=4))
    for _ in range(draw(st.integers(1, 3))):
        resource = request.resource_spans.add()
        if draw(st.booleans()):
            resource.resource.attributes.extend(draw(key_values()))
        if draw(st.booleans()):
            resource.resource.attributes.add(key="service.name").value.string_value = draw(st.sampled_from(["a", ""]))
        for _ in range(draw(st.integers(0, 2))):
            scoped = resource.scope_spans.add()
            if draw(st.booleans()):
                scoped.scope.name, scoped.scope.version = draw(st.sampled_from([("", ""), ("lib", ""), ("lib", "1")]))
                scoped.scope.attributes.extend(draw(key_values()))
            for _ in range(draw(st.integers(0, 3))):
                start = NOW - draw(st.integers(0, 10**15))
                span = scoped.spans.add(
                    trace_id=trace_id,
                    span_id=next(number).to_bytes(8, "big"),
                    parent_span_id=draw(st.sampled_from([b"", bytes(8), b"\x00\xff\x10abcde"])),
                    name=draw(st.sampled_from(["GET /", "조회"])),
                    kind=draw(st.integers(0, 5)),
                    start_time_unix_nano=start,
                    end_time_unix_nano=draw(st.sampled_from([0, start, start + 1, start + 10**9])),
                    trace_state=draw(st.sampled_from(["", "a=b"])),
                    attributes=draw(key_values()),
                )
                if draw(st.booleans()):
                    span.status.code, span.status.message = draw(st.integers(0, 2)), draw(texts)
                for _ in range(draw(st.integers(0, 2))):
                    time = draw(st.sampled_from([0, start]))
                    span.events.add(
                        time_unix_nano=time, name=draw(st.sampled_from(["", "retry"])), attributes=draw(key_values())
                    )
                for _ in range(draw(st.integers(0, 2))):
                    span.links.add(trace_id=b"\xcd" * 16, span_id=b"\x0e" * 8, attributes=draw(key_values()))
    return request


def otlp_reference(request: trace_service_pb2.ExportTraceServiceRequest) -> dict[str, Span]:
    found = {}
    for resource in request.resource_spans:
        shared = attributes(resource.resource.attributes)
        service = str(shared.pop("service.name", "") or "unknown_service")
        for scoped in resource.scope_spans:
            scope = attributes(scoped.scope.attributes)
            named = {"otel.scope.name": scoped.scope.name, "otel.scope.version": scoped.scope.version}
            scope = {key: text for key, text in named.items() if text} | scope
            for span in scoped.spans:
                state = {"w3c.tracestate": span.trace_state} if span.trace_state else {}
                span_id = span.span_id.hex()
                found[span_id] = Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span_id,
                    parent_span_id=span.parent_span_id.hex() if any(span.parent_span_id) else "",
                    operation_name=span.name,
                    service_name=service,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano or None,
                    kind=SpanKind(span.kind or 1),
                    status_code=StatusCode(span.status.code),
                    status_message=span.status.message,
                    tags=shared | scope | state | attributes(span.attributes),
                    events=tuple(
                        Event(
                            event.time_unix_nano,
                            attributes(event.attributes) | ({"event": event.name} if event.name else {}),
                        )
                        for event in span.events
                    ),
                    links=tuple(
                        Link(link.trace_id.hex(), link.span_id.hex(), attributes(link.attributes))
                        for link in span.links
                    ),
                )
    return found


@EXAMPLES
@given(otlp_requests())
def test_otlp_spans_come_back_as_they_were_sent(
    store: ClickHouseTraceStore, request: trace_service_pb2.ExportTraceServiceRequest
) -> None:
    expected = otlp_reference(request)
    found = asyncio.run(through_the_store(store, convert.OTLP, request.SerializeToString()))
    assert {span.span_id for span in found} == expected.keys()
    for span in found:
        assert_same(span, expected[span.span_id])


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_maps = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4)


def to_value(item: Any) -> struct_pb2.Value:
    match item:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=item)
        case str():
            return struct_pb2.Value(string_value=item)
        case float():
            return struct_pb2.Value(number_value=item)
        case list():
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[to_value(each) for each in item]))
    return struct_pb2.Value(struct_value=struct_pb2.Struct(fields={key: to_value(each) for key, each in item.items()}))


def moment(nanoseconds: int) -> Timestamp:
    found = Timestamp()
    found.FromNanoseconds(nanoseconds)
    return found


@st.composite
def airis_spans(draw: Any) -> list[traces_pb2.Span]:
    trace_id = f"{0xEE:02x}{next(_runs):030x}"
    found = []
    for number in range(draw(st.integers(1, 4))):
        start = NOW - draw(st.integers(0, 10**15))
        end = draw(st.sampled_from([None, start, start + 10**9]))
        span = traces_pb2.Span(
            trace_id=trace_id,
            span_id=f"{number + 1:016x}",
            parent_span_id=draw(st.sampled_from(["", "00000000000000aa"])),
            operation_name=draw(st.sampled_from(["GET /", "조회"])),
            service_name=draw(st.sampled_from(["shop", "결제"])),
            kind=draw(st.integers(0, 5)),
            start_time=moment(start),
            end_time=None if end is None else moment(end),
            tags={key: to_value(item) for key, item in draw(json_maps).items()},
        )
        if draw(st.booleans()):
            span.status.code, span.status.message = draw(st.integers(0, 2)), draw(texts)
        for _ in range(draw(st.integers(0, 2))):
            log = span.logs.add(fields={key: to_value(item) for key, item in draw(json_maps).items()})
            if draw(st.booleans()):
                log.timestamp.CopyFrom(moment(start))
        for _ in range(draw(st.integers(0, 2))):
            span.links.add(
                trace_id="cd" * 16,
                span_id="0e" * 8,
                tags={key: to_value(item) for key, item in draw(json_maps).items()},
            )
        found.append(span)
    return found


@EXAMPLES
@given(airis_spans(), st.booleans())
def test_our_own_spans_come_back_as_they_were_sent(
    store: ClickHouseTraceStore, spans: list[traces_pb2.Span], streamed: bool
) -> None:
    if streamed:
        batch = traces_pb2.StreamSpansRequest.Batch(sequence=1, spans=spans)
        payload = traces_pb2.StreamSpansRequest(batch=batch).SerializeToString()
    else:
        payload = traces_pb2.IngestSpansRequest(spans=spans).SerializeToString()
    found = asyncio.run(through_the_store(store, convert.STREAM if streamed else convert.UNARY, payload))
    expected = {span.span_id: span for span in spans}
    for span in spans:
        span.kind = span.kind or traces_pb2.Span.INTERNAL
        span.status.SetInParent()
    assert len(found) == len(spans)
    for each in found:
        assert convert.span(each) == expected[each.span_id]


def test_what_json_cannot_carry_leaves_as_text_and_never_as_a_wrong_number() -> None:
    assert convert.value(2**53).number_value == 2**53
    assert convert.value(2**53 + 1).string_value == str(2**53 + 1)
    assert convert.value(-(2**63)).string_value == str(-(2**63))
    assert convert.value(b"\x00\xff").string_value == base64.b64encode(b"\x00\xff").decode()
    assert convert.value(float("nan")).string_value == "NaN"
    assert convert.value(float("-inf")).string_value == "-Infinity"
    assert convert.value({"a": [True, None]}) == to_value({"a": [True, None]})


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_bytes_that_are_no_request_are_refused_or_read_and_never_crash(payload: bytes) -> None:
    for message_type in (convert.UNARY, convert.STREAM, convert.OTLP):
        with suppress(InvalidArgumentError):
            Checker(CONFIG).check(convert.read(message_type, [payload]).items, TENANT, NOW)
