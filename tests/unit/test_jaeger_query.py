"""What Jaeger asks of its storage, as our filter: names are no filters, and attributes match by their text."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from jaeger.storage.v2 import trace_storage_pb2

from services.shared.errors import InvalidArgumentError
from services.shared.filter import matches, read_filter
from services.traces import jaeger_query, otlp_spans
from services.traces.model import Span, SpanKind, StatusCode
from services.traces.query import SCHEMA

NOW = 1_790_000_000_000_000_000
DAY = 86_400 * 1_000_000_000
NAMES = [
    "plain", 'a "b" c', "back\\slash", "*", "a*", "\\*", "NOT x", "a OR b", "결제 서비스", "line\nbreak", "t\tab", "'",
]  # fmt: skip


def query(**fields: Any) -> trace_storage_pb2.TraceQueryParameters:
    attributes = fields.pop("attributes", {})
    made = trace_storage_pb2.TraceQueryParameters(**fields)
    for key, value in attributes.items():
        message = otlp_spans.any_value(value).SerializeToString()
        made.attributes.add(key=key, value=trace_storage_pb2.AnyValue.FromString(message))
    return made


def holds(asked: trace_storage_pb2.TraceQueryParameters, **record: Any) -> bool:
    whole = {"service": "s", "operation": "o", "duration": 5, "status": 0, "kind": 1, "tags": {}, **record}
    return matches(read_filter(jaeger_query.filter_text(asked), SCHEMA), whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_or_a_text_matches_itself_only(name: str) -> None:
    for other in NAMES:
        same = other == name
        assert holds(query(service_name=name), service=other) == same
        assert holds(query(operation_name=name), operation=other) == same
        assert holds(query(attributes={"k": name}), tags={"k": other}) == same
        assert holds(query(attributes={name: "v"}), tags={other: "v"}) == same


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("500", 500), (500, "500"), (500, 500), ("0", 0), ("-7", -7), ("0.5", 0.5), (0.5, 0.5), ("true", True),
        (False, "false"), (True, True), ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_an_attribute_matches_what_is_written_as_it_is(asked: Any, stored: Any) -> None:
    assert holds(query(attributes={"k": asked}), tags={"k": stored})


@pytest.mark.parametrize(
    ("asked", "stored"), [("500", 501), ("007", 7), ("1_0", 10), ("nan", 0), ("true", False), ("x", 1), ("1e5", "10")]
)
def test_an_attribute_does_not_match_another_value(asked: str, stored: Any) -> None:
    assert not holds(query(attributes={"k": asked}), tags={"k": stored})


def test_what_jaeger_shows_as_tags_of_its_own_can_be_asked_for() -> None:
    for key, text, record in (
        ("error", "true", {"status": int(StatusCode.ERROR)}),
        ("error", "false", {"status": int(StatusCode.OK)}),
        ("otel.status_code", "ERROR", {"status": int(StatusCode.ERROR)}),
        ("span.kind", "server", {"kind": int(SpanKind.SERVER)}),
    ):
        assert holds(query(attributes={key: text}), **record)
        assert not holds(query(attributes={key: text}), status=2 if text == "false" else 0, kind=3)


def test_bounds_of_the_duration_are_included() -> None:
    both = query(duration_min=Duration(nanos=5), duration_max=Duration(nanos=7))
    assert [holds(both, duration=number) for number in (4, 5, 7, 8, None)] == [False, True, True, False, False]


def test_nothing_asked_is_everything_kept() -> None:
    zero_in_go = Timestamp(seconds=-62_135_596_800)
    search = jaeger_query.search("t", query(start_time_min=zero_in_go, start_time_max=zero_in_go), NOW, 90)
    assert (search.filter, search.start_ns, search.end_ns, search.limit) == ("", NOW - 90 * DAY, NOW + DAY, 20)
    assert jaeger_query.search("t", query(search_depth=100_000), NOW, 90).limit == jaeger_query.MAX_TRACES


def test_what_cannot_be_asked_is_refused() -> None:
    for refused in (
        lambda: jaeger_query.filter_text(query(attributes={"k": ["a"]})),
        lambda: jaeger_query.trace_id(b"x" * 8),
        lambda: jaeger_query.span_kind("sideways"),
        lambda: jaeger_query.time_range(Timestamp(seconds=5), Timestamp(seconds=5), NOW, 90),
    ):
        with pytest.raises(InvalidArgumentError):
            refused()


def test_a_trace_is_cut_into_parts_that_a_go_client_takes() -> None:
    spans = [
        Span("a" * 32, f"{n + 1:016x}", "", "op", f"s{n % 3}", NOW + n, NOW + n + 1, tags={"text": "x" * 100_000})
        for n in range(60)
    ]
    parts = list(jaeger_query.parts(spans))
    assert len(parts) == 3
    assert all(0 < part.ByteSize() < 4 * 1024 * 1024 for part in parts)
    found = [
        (each.start_time_unix_nano, resource.resource.attributes[0].value.string_value)
        for part in parts
        for resource in part.resource_spans
        for each in resource.scope_spans[0].spans
    ]
    assert sorted(found) == [(span.start_ns, span.service_name) for span in spans]


def test_many_long_names_of_services_count_as_the_size_of_a_part() -> None:
    spans = [
        Span("a" * 32, f"{n + 1:016x}", "", "op", f"{n:05}{'가' * 250}", NOW + n, NOW + n + 1) for n in range(6000)
    ]
    parts = list(jaeger_query.parts(spans))
    assert all(part.ByteSize() < 4 * 1024 * 1024 for part in parts)
    assert sum(len(part.resource_spans) for part in parts) == len(spans)


class ComparedName(str):
    """A name that counts how often one is compared with it."""

    count = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        ComparedName.count += 1
        return super().__eq__(other)


def test_a_span_is_put_to_its_service_without_a_look_at_all_others() -> None:
    spans = [
        Span("a" * 32, f"{n + 1:016x}", "", "op", ComparedName(f"s{n % 1000}"), NOW + n, NOW + n + 1)
        for n in range(2000)
    ]
    (part,) = jaeger_query.parts(spans)
    assert [len(each.scope_spans[0].spans) for each in part.resource_spans] == [2] * 1000
    assert ComparedName.count < 10 * len(spans)
