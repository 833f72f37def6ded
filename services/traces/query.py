"""What goes out: check what is asked against what the store can do, call the store, analyse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.shared.errors import (
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnimplementedError,
)
from services.shared.filter import Field, Kind, Schema, TypedColumns, read_filter
from services.shared.filter.tree import Predicate, Test
from services.shared.one_at_a_time import OneAtATime
from services.traces import analysis
from services.traces.critical_path import critical_path
from services.traces.model import (
    Bottleneck,
    CriticalPath,
    Latency,
    LatencyQuery,
    OperationInfo,
    ServiceInfo,
    ServiceMap,
    Span,
    SpanKind,
    StatusCode,
    TraceComparison,
    TraceOrder,
    TraceSearch,
    TraceSummary,
)
from services.traces.store.port import TraceReader

SCHEMA = Schema.of(
    [
        Field("service", Kind.STRING),
        Field("operation", Kind.STRING),
        Field("duration", Kind.DURATION, column="duration_ns", nullable=True),
        Field(
            "status",
            Kind.ENUM,
            column="status_code",
            enum=tuple((code.name, code.value) for code in StatusCode if code is not StatusCode.UNSPECIFIED),
        ),
        Field("kind", Kind.ENUM, enum=tuple((kind.name, kind.value) for kind in SpanKind)),
        Field("start_time", Kind.TIMESTAMP),
        Field("trace_id", Kind.ID),
        Field("span_id", Kind.ID),
        Field("tags", Kind.TYPED_MAP, columns=TypedColumns.of("tag", rest="tag_encoded")),
    ],
    full_text=["operation"],
)

MAX_TRACE_SPANS = 10_000
SAMPLED_TRACES = 100

_MAX_SAMPLED_SPANS = 50_000
_MAX_SERVICES = 10_000
_MAX_EDGES = 10_000
_MAX_STEPS = 11_000
_WANTED_STEPS = 60
_MINUTE_NS = 60_000_000_000
_STEPS = tuple(minutes * _MINUTE_NS for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440))


def choose_step(start_ns: int, end_ns: int) -> int:
    """A round step, in nanoseconds, that gives about 60 points for a range."""
    wanted = (end_ns - start_ns) / _WANTED_STEPS
    return next((step for step in _STEPS if step >= wanted), -(-int(wanted) // _STEPS[-1]) * _STEPS[-1])


def read_order(text: str) -> TraceOrder:
    """The order that a text names. Raises `InvalidArgumentError` for one that is unknown."""
    normal = " ".join(text.lower().split()) or TraceOrder.NEWEST.value
    for order in TraceOrder:
        if order.value == normal:
            return order
    known = ", ".join(f'"{order.value}"' for order in TraceOrder)
    raise InvalidArgumentError(
        f"order_by must be one of {known}.", violations=(FieldViolation("order_by", f"must be one of {known}"),)
    )


class TraceQuery:
    """Answers questions. Each takes the seconds that it may use.

    Args:
        reader: The store.
    """

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        self._analyses = OneAtATime()

    async def trace(self, tenant: str, trace_id: str, timeout: float) -> list[Span]:
        """All spans of a trace by start time; the case of its id does not count.

        Raises:
            NotFoundError: There are none.
            ResourceExhaustedError: There are more than 10,000, or they are too large together (RESULT_TOO_LARGE).
        """
        spans = await self._reader.trace(tenant, trace_id.lower(), MAX_TRACE_SPANS, timeout)
        if not spans:
            raise NotFoundError(
                f"There is no trace {trace_id.lower()}. It may be older than what is kept, or not stored yet.",
                resource=("trace", f"traces/{trace_id.lower()}"),
            )
        return spans

    async def search(self, search: TraceSearch, timeout: float) -> list[TraceSummary]:
        """Finds traces.

        Raises:
            InvalidArgumentError: The filter is wrong.
            UnimplementedError: The store does not know the order.
        """
        if search.order not in self._reader.capabilities().orders:
            raise UnimplementedError(f'The configured store cannot order by "{search.order.value}".')
        return await self._reader.search(search, read_filter(search.filter, SCHEMA), timeout)

    async def services(
        self, tenant: str, start_ns: int, end_ns: int, after: str, limit: int, timeout: float
    ) -> list[ServiceInfo]:
        """Services by name, after one."""
        self._require_figures()
        return await self._reader.services(tenant, start_ns, end_ns, after, limit, timeout)

    async def operations(
        self,
        tenant: str,
        service: str,
        start_ns: int,
        end_ns: int,
        after: tuple[str, int],
        limit: int,
        timeout: float,
    ) -> list[OperationInfo]:
        """Operations of a service by name and kind, after one."""
        self._require_figures()
        return await self._reader.operations(tenant, service, start_ns, end_ns, after, limit, timeout)

    async def service_map(self, tenant: str, start_ns: int, end_ns: int, timeout: float) -> ServiceMap:
        """Which services call which.

        Raises:
            ResourceExhaustedError: There are too many of them.
        """
        if not self._reader.capabilities().service_map:
            raise UnimplementedError("The configured store does not keep a service map.")
        services, edges = await asyncio.gather(
            self._reader.services(tenant, start_ns, end_ns, "", _MAX_SERVICES + 1, timeout),
            self._reader.edges(tenant, start_ns, end_ns, _MAX_EDGES, timeout),
        )
        if len(services) > _MAX_SERVICES:
            raise ResourceExhaustedError(
                f"The service map has more than {_MAX_SERVICES} services. Ask for a shorter range.",
                reason="RESULT_TOO_LARGE",
            )
        return ServiceMap(tuple(services), tuple(edges))

    async def latency(self, query: LatencyQuery, timeout: float) -> Latency:
        """Rate, errors and durations over time.

        Raises:
            InvalidArgumentError: The step is no whole number of minutes, or gives too many points.
        """
        self._require_figures()
        step = query.step_ns or choose_step(query.start_ns, query.end_ns)
        problem = ""
        if step % _MINUTE_NS:
            problem = "must be a whole number of minutes"
        elif (query.end_ns - query.start_ns) // step > _MAX_STEPS:
            problem = f"gives more than {_MAX_STEPS} points"
        if problem:
            raise InvalidArgumentError(f"step {problem}.", violations=(FieldViolation("step", problem),))
        return await self._reader.latency(replace(query, step_ns=step), timeout)

    async def critical_path(self, tenant: str, trace_id: str, timeout: float) -> CriticalPath:
        """The critical path of a trace. Raises what `trace` does."""
        spans = await self.trace(tenant, trace_id, timeout)
        return await self._analyses.run(critical_path, spans)

    async def bottlenecks(
        self, tenant: str, service: str, start_ns: int, end_ns: int, timeout: float
    ) -> tuple[list[Bottleneck], int]:
        """What most time on the critical paths of a service's newest traces goes to, and how many were looked at."""
        takes_part = Predicate(SCHEMA.fields["service"], None, Test.EQUAL, service)
        newest = TraceSearch(tenant, "", start_ns, end_ns, TraceOrder.NEWEST, None, SAMPLED_TRACES)
        found = await self._reader.search(newest, takes_part, timeout)
        sample = _within(found, _MAX_SAMPLED_SPANS)
        traces = await self._reader.outlines(tenant, sample, timeout)
        return await self._analyses.run(_bottlenecks, traces), sum(bool(spans) for spans in traces)

    async def compare(self, tenant: str, base_id: str, other_id: str, timeout: float) -> TraceComparison:
        """How the operations of two traces differ. Raises what `trace` does."""
        base, other = await asyncio.gather(self.trace(tenant, base_id, timeout), self.trace(tenant, other_id, timeout))
        return await self._analyses.run(analysis.compare, base, other)

    def _require_figures(self) -> None:
        if not self._reader.capabilities().figures:
            raise UnimplementedError("The configured store does not keep figures of services.")


def _bottlenecks(traces: Sequence[Sequence[Span]]) -> list[Bottleneck]:
    return analysis.bottlenecks(critical_path(spans) for spans in traces if spans)


def _within(traces: Sequence[TraceSummary], most_spans: int) -> list[TraceSummary]:
    """The first traces that have so many spans together; one that alone is too large is left out."""
    chosen, spans = [], 0
    for trace in traces:
        if trace.span_count <= MAX_TRACE_SPANS and spans + trace.span_count <= most_spans:
            chosen.append(trace)
            spans += trace.span_count
    return chosen
