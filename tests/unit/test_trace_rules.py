"""What is refused of a batch of spans, and why; which minutes become stale; what a query may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airis.traces.v1 import traces_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.bus.ingest import Checked
from services.shared.bus.port import Header
from services.shared.errors import InvalidArgumentError
from services.traces import convert
from services.traces.config import TracesConfig
from services.traces.ingest import Checker
from services.traces.model import Capabilities, LatencyQuery, SpanColumns, TraceOrder
from services.traces.query import TraceQuery, choose_step, read_order
from services.traces.stale_minutes import StaleMinutes
from services.traces.store.port import TraceReader

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
NOW = 1_790_000_000 * SECOND

Change = Callable[[traces_pb2.Span], object]


def span(change: Change = lambda _: None) -> traces_pb2.Span:
    made = traces_pb2.Span(
        trace_id="ab" * 16, span_id="cd" * 8, operation_name="GET /", service_name="shop", kind=traces_pb2.Span.SERVER
    )
    made.start_time.FromNanoseconds(NOW)
    made.end_time.FromNanoseconds(NOW + SECOND)
    change(made)
    return made


def check(*spans: traces_pb2.Span, config: TracesConfig | None = None) -> Checked[SpanColumns]:
    payload = traces_pb2.IngestSpansRequest(spans=spans).SerializeToString()
    decoded = convert.read(convert.UNARY, [payload]).items
    return Checker(config or TracesConfig()).check(decoded, "default", NOW)


def starts(nanoseconds: int) -> Change:
    def change(made: traces_pb2.Span) -> None:
        made.start_time.FromNanoseconds(nanoseconds)
        made.ClearField("end_time")

    return change


def ends(nanoseconds: int) -> Change:
    return lambda made: made.end_time.FromNanoseconds(nanoseconds)


def sets(**fields: Any) -> Change:
    def change(made: traces_pb2.Span) -> None:
        for name, value in fields.items():
            setattr(made, name, value)

    return change


def has_tags(count: int) -> Change:
    def change(made: traces_pb2.Span) -> None:
        for number in range(count):
            made.tags[f"k{number}"].bool_value = True

    return change


def has_link(trace_id: str, span_id: str) -> Change:
    return lambda made: made.links.add(trace_id=trace_id, span_id=span_id)


REFUSED: dict[str, tuple[Change, str, str]] = {
    "no trace id": (sets(trace_id=""), "trace_id", "INVALID_ID"),
    "short trace id": (sets(trace_id="ab" * 15), "trace_id", "INVALID_ID"),
    "trace id with a line end": (sets(trace_id="ab" * 16 + "\n"), "trace_id", "INVALID_ID"),
    "trace id not hex": (sets(trace_id="xy" * 16), "trace_id", "INVALID_ID"),
    "trace id of zeros": (sets(trace_id="0" * 32), "trace_id", "INVALID_ID"),
    "no span id": (sets(span_id=""), "span_id", "INVALID_ID"),
    "span id of zeros": (sets(span_id="0" * 16), "span_id", "INVALID_ID"),
    "long parent": (sets(parent_span_id="a" * 17), "parent_span_id", "INVALID_ID"),
    "parent of zeros": (sets(parent_span_id="0" * 16), "parent_span_id", "INVALID_ID"),
    "no operation": (sets(operation_name=""), "operation_name", "INVALID_NAME"),
    "long operation": (sets(operation_name="é" * 1025), "operation_name", "SIZE_LIMIT_EXCEEDED"),
    "no service": (sets(service_name=""), "service_name", "INVALID_NAME"),
    "long service": (sets(service_name="s" * 256), "service_name", "SIZE_LIMIT_EXCEEDED"),
    "unknown kind": (sets(kind=6), "kind", "UNKNOWN_ENUM_VALUE"),
    "negative kind": (sets(kind=-1), "kind", "UNKNOWN_ENUM_VALUE"),
    "unknown status": (lambda m: setattr(m.status, "code", 3), "status.code", "UNKNOWN_ENUM_VALUE"),
    "long message": (lambda m: setattr(m.status, "message", "m" * 4097), "status.message", "SIZE_LIMIT_EXCEEDED"),
    "no start": (lambda m: m.ClearField("start_time"), "start_time", "INVALID_FIELD"),
    "too old": (starts(NOW - 90 * DAY - 1), "start_time", "TIMESTAMP_OUT_OF_RANGE"),
    "too far ahead": (starts(NOW + DAY + 1), "start_time", "TIMESTAMP_OUT_OF_RANGE"),
    "before its start": (ends(NOW - 1), "end_time", "NEGATIVE_DURATION"),
    "an end far ahead": (ends(NOW + DAY + 1), "end_time", "TIMESTAMP_OUT_OF_RANGE"),
    "too many tags": (has_tags(257), "tags", "LABEL_LIMIT_EXCEEDED"),
    "too many logs": (lambda m: [m.logs.add() for _ in range(257)], "logs", "SIZE_LIMIT_EXCEEDED"),
    "too many links": (
        lambda m: [m.links.add(trace_id="ab" * 16, span_id="cd" * 8) for _ in range(257)],
        "links",
        "SIZE_LIMIT_EXCEEDED",
    ),
    "link to no trace": (has_link("ab", "cd" * 8), "links", "INVALID_ID"),
    "link to no span": (has_link("ab" * 16, ""), "links", "INVALID_ID"),
}
ACCEPTED: dict[str, Change] = {
    "capital ids": sets(trace_id="AB" * 16, span_id="CD" * 8, parent_span_id="EF" * 8),
    "longest texts": sets(operation_name="é" * 1024, service_name="é" * 255),
    "no kind": sets(kind=0),
    "no end": lambda made: made.ClearField("end_time"),
    "no duration": ends(NOW),
    "oldest": starts(NOW - 90 * DAY),
    "furthest ahead": starts(NOW + DAY),
    "most tags": has_tags(256),
    "most logs": lambda made: [made.logs.add() for _ in range(256)],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_span_that_breaks_a_rule_is_refused_alone_and_named(name: str) -> None:
    change, field, reason = REFUSED[name]
    checked = check(span(), span(change), span())
    assert list(checked.rejected) == [1]
    assert checked.rejected[1].field == f"spans[1].{field}"
    assert checked.rejected[1].reason == reason
    assert checked.columns.spans.num_rows == 2


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_span_at_the_limits_is_accepted(name: str) -> None:
    assert check(span(ACCEPTED[name])).rejected == {}


def test_ids_are_kept_in_lower_case() -> None:
    columns = check(
        span(sets(trace_id="AB" * 16, span_id="CD" * 8, parent_span_id="EF" * 8)), span(has_link("AB" * 16, "CD" * 8))
    ).columns.spans
    first, second = columns.to_pylist()
    assert (first["trace_id"], first["span_id"], first["parent_span_id"]) == ("ab" * 16, "cd" * 8, "ef" * 8)
    assert (second["link_trace_id"], second["link_span_id"]) == (["ab" * 16], ["cd" * 8])


def test_the_first_broken_rule_is_told_when_there_are_several() -> None:
    checked = check(span(sets(trace_id="", operation_name="")))
    assert checked.rejected[0].field == "spans[0].trace_id"


def test_a_replayed_batch_is_not_judged_again() -> None:
    payload = traces_pb2.IngestSpansRequest(spans=[span(), span(starts(NOW - 100 * DAY))]).SerializeToString()
    decoded = convert.read(convert.UNARY, [payload]).items
    checker = Checker(TracesConfig())
    assert checker.columns(decoded, Header("default", convert.UNARY, NOW, 2)).spans.num_rows == 2
    assert checker.columns(decoded, Header("default", convert.UNARY, NOW, 1, rejected=(0,))).spans.num_rows == 1


def test_a_request_with_too_many_spans_is_refused_whole() -> None:
    with pytest.raises(InvalidArgumentError, match="at most 2"):
        check(span(), span(), span(), config=TracesConfig(max_items=2))


@pytest.mark.parametrize(
    ("trace_id", "span_id", "parent", "refused"),
    [
        (b"\xab" * 16, b"\xcd" * 8, b"", ""),
        (b"\xab" * 16, b"\xcd" * 8, bytes(8), ""),
        (b"\xab" * 8, b"\xcd" * 8, b"", "trace_id"),
        (bytes(16), b"\xcd" * 8, b"", "trace_id"),
        (b"\xab" * 16, b"\xcd" * 7, b"", "span_id"),
        (b"\xab" * 16, b"\xcd" * 8, b"\xef", "parent_span_id"),
    ],
)
def test_otlp_ids_of_a_wrong_length_are_refused(trace_id: bytes, span_id: bytes, parent: bytes, refused: str) -> None:
    request = trace_service_pb2.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=trace_id, span_id=span_id, parent_span_id=parent, name="op", start_time_unix_nano=NOW
    )
    decoded = convert.read(convert.OTLP, [request.SerializeToString()]).items
    rejected = Checker(TracesConfig()).check(decoded, "default", NOW).rejected
    assert [violation.field for violation in rejected.values()] == ([f"spans[0].{refused}"] if refused else [])


def test_otlp_times_beyond_an_int64_are_out_of_range_and_do_not_wrap() -> None:
    request = trace_service_pb2.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"\xab" * 16, span_id=b"\xcd" * 8, name="op", start_time_unix_nano=2**64 - 1
    )
    decoded = convert.read(convert.OTLP, [request.SerializeToString()]).items
    rejected = Checker(TracesConfig()).check(decoded, "default", NOW).rejected
    assert rejected[0].reason == "TIMESTAMP_OUT_OF_RANGE"


def test_minutes_are_stale_in_which_a_span_or_what_it_calls_may_start() -> None:
    stale = StaleMinutes(longest_call=600)
    at = NOW // MINUTE * MINUTE + 30 * SECOND
    stale.mark_spans(check(span(starts(at))).columns.spans)
    minute = at // MINUTE
    assert stale.take(10) == (minute, minute)
    assert stale.take(10) is None

    def long_call(made: traces_pb2.Span) -> None:
        made.start_time.FromNanoseconds(at)
        made.end_time.FromNanoseconds(at + 2 * MINUTE)

    stale.mark_spans(check(span(long_call)).columns.spans)
    assert stale.take(10) == (minute, minute + 2)

    def endless(made: traces_pb2.Span) -> None:
        made.start_time.FromNanoseconds(at)
        made.end_time.FromNanoseconds(at + DAY // 2)

    stale.mark_spans(check(span(endless)).columns.spans)
    assert stale.take(100) == (minute, minute + 10)


def test_a_span_at_the_edge_of_a_minute_makes_the_next_one_stale_too_for_clocks_differ() -> None:
    stale = StaleMinutes(longest_call=600)
    minute = NOW // MINUTE
    stale.mark_spans(check(span(starts(minute * MINUTE + SECOND))).columns.spans)
    assert stale.take(10) == (minute - 1, minute)


def test_stale_minutes_are_taken_newest_first_in_runs_and_are_bounded() -> None:
    stale = StaleMinutes(longest_call=600, capacity=6)
    stale.mark([1, 2, 3, 7, 8, 9])
    assert stale.take(2) == (8, 9)
    assert stale.take(5) == (7, 7)
    assert stale.take(5) == (1, 3)
    stale.mark(range(100))
    stale.mark_spans(check(span()).columns.spans)
    assert len(stale) == 6


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", TraceOrder.NEWEST),
        ("start_time desc", TraceOrder.NEWEST),
        (" start_time  ASC ", TraceOrder.OLDEST),
        ("duration desc", TraceOrder.LONGEST),
    ],
)
def test_an_order_is_read(text: str, order: TraceOrder) -> None:
    assert read_order(text) is order


@pytest.mark.parametrize("text", ["duration asc", "name", "start_time desc, duration desc"])
def test_an_unknown_order_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="duration desc"):
        read_order(text)


@pytest.mark.parametrize(
    ("length", "step"), [(MINUTE, 1), (60 * MINUTE, 1), (61 * MINUTE, 2), (DAY, 30), (90 * DAY, 2880)]
)
def test_the_chosen_step_gives_about_sixty_points(length: int, step: int) -> None:
    assert choose_step(NOW - length, NOW) == step * MINUTE
    assert length // (step * MINUTE) <= 60


@pytest.mark.parametrize("step", [SECOND, MINUTE + 1, -MINUTE // 2])
async def test_a_step_of_no_whole_minutes_is_refused(step: int, unreachable: TraceReader) -> None:
    with pytest.raises(InvalidArgumentError, match="step"):
        await TraceQuery(unreachable).latency(LatencyQuery("default", "s", "", NOW - DAY, NOW, step), 1.0)


async def test_a_step_that_gives_too_many_points_is_refused(unreachable: TraceReader) -> None:
    with pytest.raises(InvalidArgumentError, match="step"):
        await TraceQuery(unreachable).latency(LatencyQuery("default", "s", "", NOW - 90 * DAY, NOW, MINUTE), 1.0)


@pytest.fixture
def unreachable() -> Any:
    """A reader that is able to answer, and must not be asked."""

    class Reader:
        def capabilities(self) -> Capabilities:
            return Capabilities(frozenset(TraceOrder), figures=True, service_map=True)

    return Reader()
