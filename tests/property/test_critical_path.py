"""The critical path of random small traces, against a reference that asks of each nanosecond who determines it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from services.traces.analysis import bottlenecks, compare
from services.traces.critical_path import critical_path, critical_path_of
from services.traces.model import CriticalPath, Span, SpanKind, StatusCode, WarningKind
from services.traces.tree import build_tree


@dataclass
class Placed:
    """A span as the reference places it."""

    span: Span
    parent: Placed | None = None
    adopted: bool = False
    start: int = 0
    end: int = 0
    depth: int = 0
    moved: bool = False


@st.composite
def traces(draw: st.DrawFn, *, unique: bool = True, maximum: int = 9) -> list[Span]:
    """Spans with integer times below 60: parallel, overlapping, asynchronous, skewed, unfinished, lost, in cycles."""
    count = draw(st.integers(1, maximum))
    tidy = draw(st.booleans())
    spans: list[Span] = []
    for index in range(count):
        if index == 0:
            parent = draw(st.sampled_from(["", "", "", "gone", "0", str(count - 1)]))
        elif tidy:
            parent = str(draw(st.integers(0, index - 1)))
        else:
            numbers = st.integers(0, index - 1).map(str)
            parent = draw(numbers | numbers | st.sampled_from(["", "gone"]) | st.integers(0, count - 1).map(str))
        if tidy and spans:
            above = spans[int(parent)]
            start = above.start_ns + draw(st.integers(-1, 12))
        else:
            start = draw(st.integers(0, 30))
        start += draw(st.sampled_from([0, 0, 0, 0, 25]))
        length = draw(st.integers(-1 if draw(st.integers(0, 9)) == 0 else 0, 15 if index else 30))
        end = None if draw(st.integers(0, 7)) == 0 else start + length
        spans.append(
            Span(
                trace_id="trace",
                span_id=str(index) if unique else str(draw(st.integers(0, count // 2))),
                parent_span_id=parent,
                operation_name=draw(st.sampled_from(["get", "put"])),
                service_name=draw(st.sampled_from("aab" if tidy else "abc")),
                start_ns=start,
                end_ns=end,
                kind=draw(st.sampled_from(SpanKind)),
                status_code=draw(st.sampled_from([StatusCode.OK, StatusCode.ERROR])),
            )
        )
    return spans


def place(spans: Sequence[Span]) -> list[Placed]:
    """Puts each span of a trace without repeated ids where it belongs, one question at a time."""
    placed = [
        Placed(span)
        for span in sorted(
            spans, key=lambda s: (s.start_ns, s.end_ns is None, -(s.end_ns or 0), s.span_id, s.parent_span_id)
        )
    ]
    by_id = {one.span.span_id: one for one in placed}
    for one in placed:
        one.parent = by_id.get(one.span.parent_span_id)

    def ancestors(one: Placed) -> list[Placed]:
        found: list[Placed] = []
        above = one.parent
        while above is not None and above not in found:
            found.append(above)
            above = above.parent
        return found

    for one in placed:  # in order, so that the earliest of a cycle is the first that is found to be in one
        if any(above is one for above in ancestors(one)):
            one.parent = None
    tops = [one for one in placed if one.parent is None]
    roots = [one for one in tops if one.span.parent_span_id == ""]
    first = (roots or tops)[0]
    for one in tops:
        if one is not first:
            one.parent, one.adopted = first, True
    for one in placed:
        one.depth = len(ancestors(one))
        one.start = one.span.start_ns + offset(one)
    known = [one.start + max(one.span.end_ns - one.span.start_ns, 0) for one in placed if one.span.end_ns is not None]
    last = max([one.start for one in placed] + known)
    for one in placed:
        one.end = last if one.span.end_ns is None else one.start + max(one.span.end_ns - one.span.start_ns, 0)
    return placed


def offset(one: Placed) -> int:
    """By how much the clock of a span is corrected; notes whether the span was moved for it."""
    span = one.span
    if one.parent is None or one.adopted:
        return 0
    above, parent = offset(one.parent), one.parent.span
    if parent.service_name == span.service_name:
        return above
    parent_start = parent.start_ns + above
    parent_length = None if parent.end_ns is None else max(parent.end_ns - parent.start_ns, 0)
    length = None if span.end_ns is None else max(span.end_ns - span.start_ns, 0)
    fits = length is not None and parent_length is not None and length <= parent_length

    def possible(start: int) -> bool:
        if start < parent_start and span.kind is SpanKind.CONSUMER:
            return length is None or start + length >= parent_start
        if start < parent_start:
            return False
        call = parent.kind is SpanKind.CLIENT and span.kind is SpanKind.SERVER
        gave_up = parent.status_code is StatusCode.ERROR and span.status_code is not StatusCode.ERROR
        return not (call and fits and not gave_up and start > parent_start + (parent_length or 0))

    fine = [choice for choice in (0, above) if possible(span.start_ns + choice)]
    if fine:
        return min(fine)
    one.moved = True
    middle = (parent_length - length) // 2 if fits and parent_length is not None and length is not None else 0
    if parent.kind is SpanKind.PRODUCER or span.kind is SpanKind.CONSUMER:
        middle = 0
    return parent_start + middle - span.start_ns


def preference(placed: list[Placed], one: Placed) -> tuple[int, bool, int, int, int]:
    finished = one.span.end_ns is not None
    rank = next(index for index, other in enumerate(placed) if other is one)
    return one.end, finished, -one.depth, -one.start, -rank


def determines(placed: list[Placed], moment: int) -> Placed:
    """Which span determines [moment, moment + 1), from the definition."""
    time = max(one.end for one in placed)
    while True:
        begun = [one for one in placed if one.start < time]
        here: Placed | None = max(begun, key=lambda one: preference(placed, one))
        while here is not None and here.start < time:
            if moment >= here.start:
                return determines_within(placed, moment, here, time, here.start, waited_for=False)
            time, here = here.start, here.parent


def determines_within(
    placed: list[Placed], moment: int, here: Placed, entered: int, floor: int, *, waited_for: bool
) -> Placed:
    time = entered
    while True:
        ended: dict[int, tuple[Placed, int]] = {}
        for rank, child in enumerate(placed):
            if child.parent is not here or child.start >= time:
                continue
            end = child.end
            if waited_for and end > entered and awaited(here, child):
                end = entered
            if end <= time:
                ended[rank] = child, end
        if not ended:
            return here
        child, end = max(ended.values(), key=lambda found: preference(placed, found[0]))
        if moment >= end:
            return here
        child_floor = max(child.start, floor)
        if moment >= child_floor:
            return determines_within(placed, moment, child, end, child_floor, waited_for=True)
        time = child_floor


def awaited(parent: Placed, child: Placed) -> bool:
    if child.end <= parent.end:
        return True
    kinds = parent.span.kind, child.span.kind
    messaging = kinds[0] is SpanKind.PRODUCER or kinds[1] is SpanKind.CONSUMER
    other_clock = kinds == (SpanKind.CLIENT, SpanKind.SERVER) or parent.span.service_name != child.span.service_name
    return other_clock and not messaging and not child.adopted and child.start < parent.end


def expanded(path: CriticalPath) -> dict[int, str]:
    return {
        moment: segment.span_id
        for segment in path.segments
        for moment in range(segment.start_ns, segment.start_ns + segment.duration_ns)
    }


@settings(max_examples=200, deadline=None)
@given(traces())
def test_each_nanosecond_belongs_to_the_span_that_determines_it(spans: list[Span]) -> None:
    placed = place(spans)
    start, end = min(one.start for one in placed), max(one.end for one in placed)
    path = critical_path(spans)
    expected = {moment: determines(placed, moment).span.span_id for moment in range(start, end)}
    assert expanded(path) == expected
    assert (path.start_ns, path.duration_ns) == (start, end - start)
    skewed = {warning.span_id for warning in path.warnings if warning.kind is WarningKind.CLOCK_SKEW}
    assert skewed == {one.span.span_id for one in placed if one.moved}
    event(f"segments: {min(len(path.segments), 6)}")
    event(f"warnings: {sorted({warning.kind.name for warning in path.warnings})}")


@settings(max_examples=200, deadline=None)
@given(traces(unique=False, maximum=12) | traces(maximum=12))
def test_segments_cover_the_trace_without_gaps_or_overlaps_and_sum_to_its_duration(spans: list[Span]) -> None:
    path = critical_path(spans)
    assert sum(segment.duration_ns for segment in path.segments) == path.duration_ns
    assert all(segment.duration_ns > 0 for segment in path.segments)
    bounds = [path.start_ns]
    for segment in path.segments:
        assert segment.start_ns == bounds[-1]
        bounds.append(segment.start_ns + segment.duration_ns)
    assert bounds[-1] == path.start_ns + path.duration_ns


@settings(max_examples=200, deadline=None)
@given(traces(maximum=12))
def test_a_stretch_lies_within_its_corrected_span_or_waits_for_one_that_then_starts(spans: list[Span]) -> None:
    tree = build_tree(spans)
    path = critical_path_of(tree)
    nodes = {node.span.span_id: node for node in tree.nodes}
    starts = {node.start_ns for node in tree.nodes}
    for segment in path.segments:
        node, end = nodes[segment.span_id], segment.start_ns + segment.duration_ns
        assert segment.start_ns >= node.start_ns
        assert end <= node.end_ns or end in starts
    assert all(before.span_id != after.span_id for before, after in pairwise(path.segments))


@settings(max_examples=200, deadline=None)
@given(traces(unique=False, maximum=12) | traces(maximum=12), st.randoms(use_true_random=False))
def test_the_order_of_the_spans_does_not_matter(spans: list[Span], shuffler: random.Random) -> None:
    shuffled = list(spans)
    shuffler.shuffle(shuffled)
    assert critical_path(shuffled) == critical_path(spans)
    assert compare(shuffled, spans) == compare(spans, spans)


@settings(max_examples=150, deadline=None)
@given(traces(unique=False), st.integers(-(10**18), 10**18))
def test_a_trace_at_another_time_has_the_same_path_then(spans: list[Span], shift: int) -> None:
    moved = [
        replace(span, start_ns=span.start_ns + shift, end_ns=None if span.end_ns is None else span.end_ns + shift)
        for span in spans
    ]
    path = critical_path(spans)
    segments = tuple(replace(segment, start_ns=segment.start_ns + shift) for segment in path.segments)
    assert critical_path(moved) == replace(path, start_ns=path.start_ns + shift, segments=segments)


@settings(max_examples=150, deadline=None)
@given(traces(unique=False, maximum=12) | traces(maximum=12))
def test_a_repeated_trace_changes_nothing_but_the_warnings(spans: list[Span]) -> None:
    once, twice = critical_path(spans), critical_path([*spans, *spans])
    assert replace(twice, warnings=()) == replace(once, warnings=())
    assert {w for w in twice.warnings if w.kind is not WarningKind.MALFORMED} == {
        w for w in once.warnings if w.kind is not WarningKind.MALFORMED
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(traces(), max_size=4))
def test_bottlenecks_account_for_all_time_on_the_paths(some: list[list[Span]]) -> None:
    paths = [critical_path(spans) for spans in some]
    found = bottlenecks(paths)
    total = sum(path.duration_ns for path in paths)
    assert sum(one.self_time_ns for one in found) == total
    assert abs(sum(one.share for one in found) - (1 if total else 0)) < 1e-9
    assert all(1 <= one.trace_count <= len(paths) for one in found)


@settings(max_examples=150, deadline=None)
@given(traces(), traces())
def test_self_times_are_the_moments_in_which_no_child_ran(base: list[Span], other: list[Span]) -> None:
    def expected(spans: list[Span]) -> dict[tuple[str, str], tuple[int, int]]:
        placed = place(spans)
        figures: dict[tuple[str, str], tuple[int, int]] = {}
        for one in placed:
            own = sum(
                not any(child.parent is one and child.start <= moment < child.end for child in placed)
                for moment in range(one.start, one.end)
            )
            key = one.span.service_name, one.span.operation_name
            count, self_time = figures.get(key, (0, 0))
            figures[key] = count + 1, self_time + own
        return figures

    found = compare(base, other).differences
    assert {
        (one.service_name, one.operation_name): (one.base_span_count, one.base_self_time_ns)
        for one in found
        if one.base_span_count
    } == expected(base)
    assert {
        (one.service_name, one.operation_name): (one.other_span_count, one.other_self_time_ns)
        for one in found
        if one.other_span_count
    } == expected(other)
    changes = [abs(one.other_self_time_ns - one.base_self_time_ns) for one in found]
    assert changes == sorted(changes, reverse=True)
