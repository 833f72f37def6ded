"""The critical path of traces that one can draw. One column of a diagram is one nanosecond unless it says more."""

from __future__ import annotations

import gc
import random
import time

import pytest

from services.traces.critical_path import critical_path
from services.traces.model import CriticalPath, PathWarning, Span, SpanKind, StatusCode, WarningKind

INTERNAL, SERVER, CLIENT = SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT
PRODUCER, CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER


def span(
    name: str,
    parent: str,
    start: int,
    end: int | None,
    *,
    service: str = "shop",
    kind: SpanKind = INTERNAL,
    status: StatusCode = StatusCode.UNSPECIFIED,
    span_id: str = "",
) -> Span:
    return Span("trace", span_id or name, parent, name, service, start, end, kind, status)


def stretches(path: CriticalPath) -> list[tuple[str, int, int]]:
    return [(s.operation_name, s.start_ns, s.start_ns + s.duration_ns) for s in path.segments]


def path_of(*spans: Span) -> list[tuple[str, int, int]]:
    return stretches(critical_path(spans))


def warnings_of(*spans: Span) -> list[tuple[WarningKind, str]]:
    return [(warning.kind, warning.span_id) for warning in critical_path(spans).warnings]


def test_a_trace_without_spans_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one span"):
        critical_path([])


def test_a_single_span_is_its_own_path() -> None:
    path = critical_path([span("a", "", 5, 15)])
    assert (path.trace_id, path.start_ns, path.duration_ns, path.warnings) == ("trace", 5, 10, ())
    assert stretches(path) == [("a", 5, 15)]


def test_time_between_sequential_children_is_the_parents() -> None:
    # root |--------------------|
    # a      |-----|
    # b               |---|
    assert path_of(span("root", "", 0, 20), span("a", "root", 2, 8), span("b", "root", 11, 15)) == [
        ("root", 0, 2),
        ("a", 2, 8),
        ("root", 8, 11),
        ("b", 11, 15),
        ("root", 15, 20),
    ]


def test_of_parallel_children_the_last_to_finish_counts() -> None:
    # root  |--------------------|
    # fast    |------|
    # slow    |---------------|
    spans = [span("root", "", 0, 20), span("fast", "root", 2, 8), span("slow", "root", 2, 17)]
    assert path_of(*spans) == [("root", 0, 2), ("slow", 2, 17), ("root", 17, 20)]


def test_a_child_that_overlaps_the_start_of_its_successor_did_not_cause_it() -> None:
    # root |----------------------------|
    # a         |------|
    # b         |---------|
    # c                  |----------|
    assert path_of(
        span("root", "", 0, 29),
        span("a", "root", 5, 12),
        span("b", "root", 5, 15),
        span("c", "root", 14, 25),
    ) == [("root", 0, 5), ("a", 5, 12), ("root", 12, 14), ("c", 14, 25), ("root", 25, 29)]


def test_children_that_touch_follow_each_other() -> None:
    # root |---------|
    # a    |----|
    # b         |----|
    spans = [span("root", "", 0, 10), span("a", "root", 0, 5), span("b", "root", 5, 10)]
    assert path_of(*spans) == [("a", 0, 5), ("b", 5, 10)]


def test_the_path_leads_through_grandchildren() -> None:
    # gateway |--------------------|
    # client    |----------------|
    # server      |------------|
    # query          |------|
    assert path_of(
        span("gateway", "", 0, 20, service="gateway", kind=SERVER),
        span("client", "gateway", 2, 18, service="gateway", kind=CLIENT),
        span("server", "client", 4, 16, service="orders", kind=SERVER),
        span("query", "server", 7, 13, service="orders"),
    ) == [
        ("gateway", 0, 2),
        ("client", 2, 4),
        ("server", 4, 7),
        ("query", 7, 13),
        ("server", 13, 16),
        ("client", 16, 18),
        ("gateway", 18, 20),
    ]


def test_asynchronous_work_that_ends_the_trace_is_on_the_path_and_the_wait_for_it_is_its_parents() -> None:
    # request |------------|
    # send       |--|
    # handle              |-----------|      (the message waited from 6 to 12)
    assert path_of(
        span("request", "", 0, 13, kind=SERVER),
        span("send", "request", 3, 6, kind=PRODUCER),
        span("handle", "send", 12, 24, service="mail", kind=CONSUMER),
    ) == [("request", 0, 3), ("send", 3, 12), ("handle", 12, 24)]


def test_asynchronous_work_that_starts_after_everything_else_ended_leaves_no_gap() -> None:
    # request |----|
    # send      |-|
    # handle               |-----|
    assert path_of(
        span("request", "", 0, 5, kind=SERVER),
        span("send", "request", 2, 4, kind=PRODUCER),
        span("handle", "send", 13, 19, service="mail", kind=CONSUMER),
    ) == [("request", 0, 2), ("send", 2, 13), ("handle", 13, 19)]


def test_asynchronous_work_is_not_on_the_path_if_nothing_waits_for_it() -> None:
    # root   |--------------------|
    # step     |------|
    # async        |--------|             (its parent `step` ended without it)
    assert path_of(
        span("root", "", 0, 20),
        span("step", "root", 2, 9),
        span("async", "step", 6, 15),
    ) == [("root", 0, 2), ("step", 2, 9), ("root", 9, 20)]


def test_a_consumer_that_outlives_its_parent_in_another_service_is_not_waited_for() -> None:
    # root   |--------------------|
    # send     |------|
    # handle       |--------|
    assert path_of(
        span("root", "", 0, 20),
        span("send", "root", 2, 9, kind=PRODUCER),
        span("handle", "send", 6, 15, service="mail", kind=CONSUMER),
    ) == [("root", 0, 2), ("send", 2, 9), ("root", 9, 20)]


def test_a_server_that_ends_just_after_its_client_was_waited_for() -> None:
    # root   |--------------------|
    # client   |----------|
    # server     |---------|            (the span ends once the answer is out)
    # query        |-------|
    assert path_of(
        span("root", "", 0, 20),
        span("client", "root", 2, 13, kind=CLIENT),
        span("server", "client", 4, 14, service="orders", kind=SERVER),
        span("query", "server", 6, 14, service="orders"),
    ) == [("root", 0, 2), ("client", 2, 4), ("server", 4, 6), ("query", 6, 13), ("root", 13, 20)]


def test_fire_and_forget_that_ends_the_trace_starts_at_its_parents_call() -> None:
    # root |---------|
    # task     |------------|
    assert path_of(span("root", "", 0, 10), span("task", "root", 4, 17)) == [("root", 0, 4), ("task", 4, 17)]


def test_a_chain_of_asynchronous_work_is_followed_back_to_the_root() -> None:
    # root |---|
    # one     |---|
    # two           |---|       (a sibling that `one` had ended before)
    # three             |----|  (started by two)
    assert path_of(
        span("root", "", 0, 4),
        span("one", "root", 3, 7),
        span("two", "root", 9, 13),
        span("three", "two", 13, 18),
    ) == [("root", 0, 3), ("one", 3, 7), ("root", 7, 9), ("two", 9, 13), ("three", 13, 18)]


def test_a_server_whose_clock_is_ahead_is_moved_to_the_middle_of_its_client() -> None:
    # client |---------|
    # server                  |----|      (by its own clock)
    # server    |----|                    (by the client's)
    spans = [
        span("client", "", 0, 10, kind=CLIENT),
        span("server", "client", 1000, 1006, service="orders", kind=SERVER),
        span("query", "server", 1002, 1004, service="orders"),
    ]
    assert path_of(*spans) == [
        ("client", 0, 2),
        ("server", 2, 4),
        ("query", 4, 6),
        ("server", 6, 8),
        ("client", 8, 10),
    ]
    assert warnings_of(*spans) == [(WarningKind.CLOCK_SKEW, "server")]
    assert critical_path(spans).duration_ns == 10


def test_a_server_whose_clock_is_behind_is_moved_to_the_middle_of_its_client() -> None:
    spans = [
        span("client", "", 100, 110, kind=CLIENT),
        span("server", "client", 97, 103, service="orders", kind=SERVER),
    ]
    assert path_of(*spans) == [("client", 100, 102), ("server", 102, 108), ("client", 108, 110)]
    assert warnings_of(*spans) == [(WarningKind.CLOCK_SKEW, "server")]


def test_a_moved_server_that_cannot_be_in_the_very_middle_is_the_earlier_of_the_two_moments() -> None:
    spans = [
        span("client", "", 0, 11, kind=CLIENT),
        span("server", "client", 50, 56, service="orders", kind=SERVER),
    ]
    assert path_of(*spans) == [("client", 0, 2), ("server", 2, 8), ("client", 8, 11)]


def test_a_child_before_its_parent_that_does_not_fit_into_it_is_moved_to_its_start() -> None:
    spans = [
        span("client", "", 100, 110, kind=CLIENT),
        span("server", "client", 50, 70, service="orders", kind=SERVER),
    ]
    assert path_of(*spans) == [("server", 100, 120)]
    assert warnings_of(*spans) == [(WarningKind.CLOCK_SKEW, "server")]


def test_a_call_back_into_a_service_whose_clock_is_right_is_not_moved_with_the_skewed_caller() -> None:
    # shop's clock is right, that of orders is 1000 ahead and that of stock too
    spans = [
        span("client", "", 0, 20, kind=CLIENT),
        span("orders", "client", 1004, 1016, service="orders", kind=SERVER),
        span("callback", "orders", 6, 8, service="shop", kind=SERVER),
        span("stock", "orders", 1010, 1012, service="stock", kind=SERVER),
    ]
    assert path_of(*spans) == [
        ("client", 0, 4),
        ("orders", 4, 6),
        ("callback", 6, 8),
        ("orders", 8, 10),
        ("stock", 10, 12),
        ("orders", 12, 16),
        ("client", 16, 20),
    ]
    assert warnings_of(*spans) == [(WarningKind.CLOCK_SKEW, "orders")]


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(span("b", "a", 5, 30, service="mail"), id="starts-within-and-ends-after"),
        pytest.param(span("b", "a", 15, 18, service="mail", kind=CONSUMER), id="consumer-starts-after"),
        pytest.param(span("b", "a", 15, 40, service="mail", kind=SERVER), id="server-too-long-to-fit"),
        pytest.param(span("b", "a", 15, 18, kind=SERVER), id="same-service"),
        pytest.param(span("b", "a", -5, 18, service="mail", kind=CONSUMER), id="consumer-waited"),
    ],
)
def test_what_something_else_than_a_clock_explains_is_not_moved(child: Span) -> None:
    path = critical_path([span("a", "", 0, 10, kind=CLIENT), child])
    assert path.warnings == ()
    assert path.start_ns + path.duration_ns == max(10, child.end_ns or 0)
    assert path.start_ns == min(0, child.start_ns)


def test_a_server_that_starts_after_its_caller_gave_up_is_not_moved() -> None:
    client = span("client", "", 0, 10, kind=CLIENT, status=StatusCode.ERROR)
    late = span("server", "client", 15, 18, service="orders", kind=SERVER)
    failed = span("server", "client", 15, 18, service="orders", kind=SERVER, status=StatusCode.ERROR)
    assert path_of(client, late) == [("client", 0, 15), ("server", 15, 18)]
    assert warnings_of(client, failed) == [(WarningKind.CLOCK_SKEW, "server")]


def test_an_unfinished_span_ends_with_its_trace() -> None:
    # root  |--------------|
    # a       |----|
    # hung            |---?
    spans = [span("root", "", 0, 15), span("a", "root", 2, 7), span("hung", "root", 10, None)]
    assert path_of(*spans) == [("root", 0, 2), ("a", 2, 7), ("root", 7, 10), ("hung", 10, 15)]
    assert warnings_of(*spans) == [(WarningKind.UNFINISHED, "hung")]


def test_an_unfinished_root_ends_with_the_last_of_its_descendants() -> None:
    spans = [span("root", "", 0, None), span("a", "root", 2, 7)]
    assert path_of(*spans) == [("root", 0, 2), ("a", 2, 7)]
    assert warnings_of(*spans) == [(WarningKind.UNFINISHED, "root")]


def test_a_known_end_counts_before_an_assumed_one() -> None:
    # root |----?
    # hung   |--?
    # done     |---|
    spans = [span("root", "", 0, None), span("hung", "root", 1, None), span("done", "root", 4, 9)]
    assert path_of(*spans) == [("root", 0, 4), ("done", 4, 9)]


def test_a_trace_of_one_unfinished_span_has_no_duration() -> None:
    path = critical_path([span("root", "", 7, None)])
    assert (path.start_ns, path.duration_ns, path.segments) == (7, 0, ())
    assert path.warnings == (PathWarning(WarningKind.UNFINISHED, "root"),)


def test_a_span_whose_parent_is_missing_is_a_child_of_the_first_span() -> None:
    # root |----------|
    # lost    |----|       (its parent was never sent)
    spans = [span("root", "", 0, 11), span("lost", "gone", 3, 8)]
    assert path_of(*spans) == [("root", 0, 3), ("lost", 3, 8), ("root", 8, 11)]
    assert warnings_of(*spans) == [(WarningKind.MISSING_PARENT, "lost")]


def test_without_a_root_the_earliest_span_is_the_first() -> None:
    spans = [span("late", "gone", 3, 8), span("early", "gone", 0, 11)]
    assert path_of(*spans) == [("early", 0, 3), ("late", 3, 8), ("early", 8, 11)]
    assert warnings_of(*spans) == [
        (WarningKind.MISSING_PARENT, "early"),
        (WarningKind.MISSING_PARENT, "late"),
    ]


def test_time_before_the_root_belongs_to_what_ran_then() -> None:
    # lost  |------|
    # root       |-----|
    spans = [span("lost", "gone", -5, 3), span("root", "", 0, 10)]
    assert path_of(*spans) == [("lost", -5, 3), ("root", 3, 10)]


def test_time_between_two_roots_is_the_first_ones() -> None:
    # one |----|
    # two            |----|
    spans = [span("one", "", 0, 5), span("two", "", 11, 16)]
    assert path_of(*spans) == [("one", 0, 11), ("two", 11, 16)]
    assert warnings_of(*spans) == []


def test_a_cycle_is_cut_at_its_earliest_span() -> None:
    spans = [span("a", "c", 0, 12), span("b", "a", 2, 9), span("c", "b", 4, 6)]
    assert path_of(*spans) == [("a", 0, 2), ("b", 2, 4), ("c", 4, 6), ("b", 6, 9), ("a", 9, 12)]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "a")]


def test_a_span_that_is_its_own_parent_is_a_child_of_the_first_span() -> None:
    spans = [span("root", "", 0, 10), span("self", "self", 2, 6)]
    assert path_of(*spans) == [("root", 0, 2), ("self", 2, 6), ("root", 6, 10)]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "self")]


def test_a_span_that_was_stored_twice_counts_once() -> None:
    spans = [span("root", "", 0, 10), span("a", "root", 2, 6), span("a", "root", 2, 6)]
    assert path_of(*spans) == [("root", 0, 2), ("a", 2, 6), ("root", 6, 10)]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "a")]


def test_the_final_version_of_a_span_replaces_the_unfinished_one() -> None:
    spans = [span("root", "", 0, 10), span("a", "root", 2, None), span("a", "root", 2, 6)]
    assert path_of(*spans) == [("root", 0, 2), ("a", 2, 6), ("root", 6, 10)]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "a")]


def test_a_client_and_a_server_that_share_an_id_are_parent_and_child() -> None:
    # client |----------|  id x
    # server   |------|    id x, as Zipkin has it
    # query      |--|      below x, in the server's service
    # encode  |-|          below x, in the client's service
    spans = [
        span("client", "", 0, 12, service="shop", kind=CLIENT, span_id="x"),
        span("server", "", 3, 10, service="orders", kind=SERVER, span_id="x"),
        span("query", "x", 5, 8, service="orders"),
        span("encode", "x", 1, 3, service="shop"),
    ]
    assert path_of(*spans) == [
        ("client", 0, 1),
        ("encode", 1, 3),
        ("server", 3, 5),
        ("query", 5, 8),
        ("server", 8, 10),
        ("client", 10, 12),
    ]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "x")]


def test_a_span_that_ends_before_it_starts_takes_no_time() -> None:
    spans = [span("root", "", 0, 10), span("a", "root", 5, 3)]
    assert path_of(*spans) == [("root", 0, 10)]
    assert warnings_of(*spans) == [(WarningKind.MALFORMED, "a")]


def test_of_children_with_the_same_times_one_is_taken_whatever_their_order() -> None:
    spans = [span("root", "", 0, 10), span("a", "root", 2, 8), span("b", "root", 2, 8)]
    assert path_of(*spans) == path_of(*reversed(spans)) == [("root", 0, 2), ("a", 2, 8), ("root", 8, 10)]


def test_a_chain_as_deep_as_a_trace_may_be_is_walked() -> None:
    depth = 10_000
    spans = [span(f"{i:05}", f"{i - 1:05}" if i else "", i, 3 * depth - i) for i in range(depth)]
    path = critical_path(spans)
    assert len(path.segments) == 2 * depth - 1
    assert sum(segment.duration_ns for segment in path.segments) == path.duration_ns == 3 * depth


def _seconds(spans: list[Span]) -> float:
    def once() -> float:
        before = time.process_time()
        critical_path(spans)
        return time.process_time() - before

    # A collection walks all that the test run keeps, which is nothing of ours and takes longer than ours.
    gc.disable()
    try:
        return min(once() for _ in range(3))
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", ["chain", "wide", "asynchronous", "reversed", "cycle", "early"])
def test_eight_times_the_spans_take_nowhere_near_sixty_four_times_the_time(shape: str) -> None:
    def trace(count: int) -> list[Span]:
        spans = []
        for i in range(count):
            parent = "" if i == 0 else f"{i - 1}"
            start, end = i, 3 * count - i
            if shape == "wide":
                parent, start, end = "0" if i else "", 2 * i if i else 0, 2 * i + 1 if i else 2 * count
            elif shape == "asynchronous":
                start, end = 10 * i, 10 * i + 5
            elif shape == "reversed":
                start, end = -i, count + i
            elif shape == "cycle":
                parent = f"{(i + 1) % count}"
            elif shape == "early":
                parent = parent if i < count // 2 else f"{count // 2 - 1}"
                start = i if i < count // 2 else -i
            spans.append(span(f"{i}", parent, start, end))
        random.Random(1).shuffle(spans)
        return spans

    assert _seconds(trace(8_000)) < 32 * _seconds(trace(1_000))
