"""Exact searches on a Jaeger, which knows few conditions, no order and no pages.

Jaeger is asked for the traces of a stretch of time with those conditions of the filter that it knows. As long as it
gives fewer traces than it may, it gave all, and the filter and the order are applied here; otherwise it is asked for a
shorter stretch. Stretches go from the newest to the oldest, and end as soon as the page is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from jaeger.api_v3 import query_service_pb2

from services.shared.errors import DeadlineExceededError, ResourceExhaustedError
from services.shared.filter import Checked, matches
from services.shared.filter.tree import AllOf, Predicate, Test
from services.traces.model import Span, StatusCode, TraceSearch, TraceSummary
from services.traces.store.adapters.jaeger_client import Jaeger
from services.traces.store.adapters.jaeger_spans import TENANT, by_trace, spans_of, unrepeated

_FIRST_WINDOW_NS = 4_000_000_000
_WINDOW_GROWTH = 16
_MICROSECOND = 1_000
# Backends have meanings of their own for these.
_SPECIAL = ("error", "span.", "otel.", "airis.")


class NewestFirst:
    """One page of a search.

    Args:
        jaeger: Where.
        search: The question; its order is NEWEST.
        tree: What one span must match.
        depth: Traces that Jaeger may give at once.
    """

    def __init__(self, jaeger: Jaeger, search: TraceSearch, tree: Checked | None, depth: int) -> None:
        self._jaeger = jaeger
        self._search = search
        self._tree = tree
        self._depth = depth
        self._seen: set[str] = set()
        self._found: list[TraceSummary] = []

    async def page(self, timeout: float) -> list[TraceSummary]:
        """The traces, in order.

        Raises:
            ResourceExhaustedError: Too many traces have spans in the same microsecond (RESULT_TOO_LARGE).
            DeadlineExceededError: It takes longer than `timeout` seconds.
        """
        search = self._search
        monotonic = asyncio.get_running_loop().time
        ends = monotonic() + timeout
        begin, width = search.end_ns, _FIRST_WINDOW_NS
        while begin > search.start_ns:
            start = max(search.start_ns, begin - width)
            left = ends - monotonic()
            if left <= 0:
                raise DeadlineExceededError("The search took longer than its deadline. Ask for a shorter range.")
            if not await self._look(start, begin, left):
                width = (begin - start) // 2
                if width < _MICROSECOND:
                    raise ResourceExhaustedError(
                        f"More than {self._depth} traces have spans within a microsecond. Narrow the filter.",
                        reason="RESULT_TOO_LARGE",
                    )
                continue
            begin, width = start, width * _WINDOW_GROWTH
            # A trace does not start after its spans: what starts since `begin` was found.
            done = [trace for trace in self._found if trace.start_ns >= begin]
            if len(done) >= search.limit:
                return _ordered(done)[: search.limit]
        return _ordered(self._found)[: search.limit]

    async def _look(self, start: int, end: int, timeout: float) -> bool:
        """Looks at the traces that have spans in a stretch; whether Jaeger gave all."""
        count = 0
        query = _query(self._search.tenant, self._tree, start, end, self._depth)
        async for trace_id, parts in by_trace(self._jaeger.find(query, timeout)):
            count += 1
            if trace_id in self._seen:
                continue
            spans = unrepeated(span for part in parts for span in spans_of(self._search.tenant, part))
            self._seen.add(trace_id)
            if self._is_wanted(spans):
                self._found.append(summary(spans))
            await asyncio.sleep(0)
        return count < self._depth

    def _is_wanted(self, spans: Sequence[Span]) -> bool:
        search = self._search
        in_range = any(
            search.start_ns <= span.start_ns < search.end_ns and matches(self._tree, _record(span)) for span in spans
        )
        if not in_range or search.after is None:
            return in_range
        return (-spans[0].start_ns, spans[0].trace_id) > (-search.after[0], search.after[1])


def summary(spans: Sequence[Span]) -> TraceSummary:
    """What is known of a trace, of its spans by start time."""
    first = min(spans, key=lambda span: (span.parent_span_id != "", span.start_ns))
    start = spans[0].start_ns
    return TraceSummary(
        trace_id=first.trace_id,
        root_service_name=first.service_name,
        root_operation_name=first.operation_name,
        start_ns=start,
        duration_ns=max(span.start_ns if span.end_ns is None else span.end_ns for span in spans) - start,
        span_count=len(spans),
        error_count=sum(span.status_code is StatusCode.ERROR for span in spans),
        services=tuple(sorted({span.service_name for span in spans})),
    )


def _ordered(traces: list[TraceSummary]) -> list[TraceSummary]:
    return sorted(traces, key=lambda trace: (-trace.start_ns, trace.trace_id))


def _record(span: Span) -> Mapping[str, Any]:
    return {
        "service": span.service_name,
        "operation": span.operation_name,
        "duration": None if span.end_ns is None else span.end_ns - span.start_ns,
        "status": int(span.status_code),
        "kind": int(span.kind),
        "start_time": span.start_ns,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "tags": span.tags,
    }


def _query(
    tenant: str,
    tree: Checked | None,
    start: int,
    end: int,
    depth: int,
) -> query_service_pb2.TraceQueryParameters:
    """At least what matches: what Jaeger gives beyond is left out afterwards."""
    query = query_service_pb2.TraceQueryParameters(
        attributes={TENANT: tenant},
        start_time_min=_timestamp(start),
        start_time_max=_timestamp(end),
        search_depth=depth,
        raw_traces=True,
    )
    for predicate in _required(tree):
        match predicate.field.name, predicate.test, predicate.value:
            case "service", Test.EQUAL, str(name):
                query.service_name = name
            case "operation", Test.EQUAL, str(name):
                query.operation_name = name
            case "tags", Test.EQUAL, str(text) if predicate.key and not predicate.key.startswith(_SPECIAL):
                query.attributes[predicate.key] = text
            case "duration", (Test.GREATER | Test.GREATER_OR_EQUAL), int(least) if least >= _MICROSECOND:
                query.duration_min.CopyFrom(_duration(least // _MICROSECOND * _MICROSECOND))
    return query


def _required(tree: Checked | None) -> Iterator[Predicate]:
    """What every matching span passes."""
    if isinstance(tree, Predicate):
        yield tree
    elif isinstance(tree, AllOf):
        for operand in tree.operands:
            yield from _required(operand)


def _timestamp(nanoseconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def _duration(nanoseconds: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)
