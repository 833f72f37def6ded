"""Bottlenecks over critical paths, and the comparison of two traces."""

from __future__ import annotations

import pytest

from services.traces.analysis import bottlenecks, compare
from services.traces.critical_path import critical_path
from services.traces.model import Bottleneck, Span, SpanDifference, SpanKind


def span(
    span_id: str,
    parent: str,
    operation: str,
    start: int,
    end: int | None,
    *,
    service: str = "shop",
    kind: SpanKind = SpanKind.INTERNAL,
) -> Span:
    return Span("trace", span_id, parent, operation, service, start, end, kind)


def test_bottlenecks_sum_the_self_times_of_all_paths_and_say_on_how_many_they_lie() -> None:
    one = critical_path(
        [
            span("r", "", "checkout", 0, 100),
            span("a", "r", "query", 10, 40, service="db"),
            span("b", "r", "query", 50, 80, service="db"),
        ]
    )
    two = critical_path([span("r", "", "checkout", 0, 100)])
    assert bottlenecks([one, two]) == [
        Bottleneck("shop", "checkout", 140, 0.7, 2),
        Bottleneck("db", "query", 60, 0.3, 1),
    ]


def test_operations_off_the_critical_path_are_no_bottleneck() -> None:
    path = critical_path([span("r", "", "r", 0, 10), span("a", "r", "fast", 0, 4), span("b", "r", "slow", 0, 10)])
    assert [found.operation_name for found in bottlenecks([path])] == ["slow"]


def test_equal_bottlenecks_are_in_order_of_their_names_and_services_are_told_apart() -> None:
    path = critical_path(
        [
            span("r", "", "get", 0, 10, service="b"),
            span("a", "r", "get", 0, 5, service="a"),
        ]
    )
    assert [(found.service_name, found.self_time_ns) for found in bottlenecks([path])] == [("a", 5), ("b", 5)]


def test_no_paths_or_empty_paths_have_no_bottlenecks() -> None:
    assert bottlenecks([]) == []
    assert bottlenecks([critical_path([span("r", "", "r", 3, None)])]) == []


def test_self_time_is_a_spans_time_less_the_union_of_its_childrens() -> None:
    # root  |--------------------|
    # a        |-----|
    # b           |-----|
    # late                     |------|
    trace = [
        span("root", "", "root", 0, 20),
        span("a", "root", "step", 3, 9),
        span("b", "root", "step", 6, 12),
        span("late", "root", "late", 17, 25),
    ]
    found = compare(trace, trace)
    assert (found.base_duration_ns, found.other_duration_ns) == (25, 25)
    assert found.differences == (
        SpanDifference("shop", "late", 1, 1, 8, 8),
        SpanDifference("shop", "root", 1, 1, 8, 8),
        SpanDifference("shop", "step", 2, 2, 12, 12),
    )


def test_the_largest_change_of_self_time_comes_first_whichever_way_it_went() -> None:
    base = [span("r", "", "root", 0, 20), span("a", "r", "slower", 0, 2), span("b", "r", "gone", 5, 15)]
    other = [span("r", "", "root", 100, 120), span("a", "r", "slower", 100, 106), span("c", "r", "new", 106, 107)]
    found = compare(base, other)
    assert found.differences == (
        SpanDifference("shop", "gone", 1, 0, 10, 0),
        SpanDifference("shop", "root", 1, 1, 8, 13),
        SpanDifference("shop", "slower", 1, 1, 2, 6),
        SpanDifference("shop", "new", 0, 1, 0, 1),
    )


def test_a_comparison_corrects_clocks_ends_unfinished_spans_and_counts_repeated_spans_once() -> None:
    base = [
        span("c", "", "call", 0, 10, kind=SpanKind.CLIENT),
        span("s", "c", "serve", 500, 506, service="db", kind=SpanKind.SERVER),
        span("s", "c", "serve", 500, 506, service="db", kind=SpanKind.SERVER),
    ]
    other = [
        span("c", "", "call", 0, 10, kind=SpanKind.CLIENT),
        span("s", "c", "serve", 3, None, service="db", kind=SpanKind.SERVER),
    ]
    found = compare(base, other)
    assert (found.base_duration_ns, found.other_duration_ns) == (10, 10)
    assert found.differences == (
        SpanDifference("db", "serve", 1, 1, 6, 7),
        SpanDifference("shop", "call", 1, 1, 4, 3),
    )


def test_a_comparison_with_a_trace_without_spans_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one span"):
        compare([span("r", "", "r", 0, 1)], [])
