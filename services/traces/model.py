"""What traces are made of: plain values without I/O or protobuf, as `airis.traces.v1` promises them.

Times are integers, nanoseconds since 1970; durations are integers, nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from services.shared.parts import parts_of

AttributeValue: TypeAlias = (
    "bool | int | float | str | bytes | Sequence[AttributeValue] | Mapping[str, AttributeValue] | None"
)
"""The value of a tag: any JSON value and, as OpenTelemetry has them, exact 64-bit integers and bytes."""


class SpanKind(IntEnum):
    """The side of a call that a span stands for; numbered as in the contract."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class StatusCode(IntEnum):
    """How an operation ended; numbered as in the contract. UNSPECIFIED counts as no error."""

    UNSPECIFIED = 0
    OK = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a span; the field `event` names it."""

    timestamp_ns: int
    fields: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that a span has to do with but that is not its parent. Ids are lowercase hex."""

    trace_id: str
    span_id: str
    tags: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One operation of one service within a trace.

    Args:
        trace_id: 32 lowercase hex digits.
        span_id: 16 lowercase hex digits.
        parent_span_id: The span that caused it; empty: none did.
        end_ns: None: not finished.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    operation_name: str
    service_name: str
    start_ns: int
    end_ns: int | None
    kind: SpanKind = SpanKind.INTERNAL
    status_code: StatusCode = StatusCode.UNSPECIFIED
    status_message: str = ""
    tags: Mapping[str, AttributeValue] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What is known of a trace without its spans. `services` are in order of their names."""

    trace_id: str
    root_service_name: str
    root_operation_name: str
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DurationQuantiles:
    """How long spans took, in nanoseconds: the times that 50, 95 and 99 % do not exceed."""

    p50_ns: int
    p95_ns: int
    p99_ns: int


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A service that sent spans, and how many of them failed."""

    service: str
    span_count: int
    error_count: int


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """An operation of a service."""

    operation: str
    kind: SpanKind
    span_count: int
    error_count: int
    durations: DurationQuantiles


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from one service to another; `durations` are those of the callee."""

    caller: str
    callee: str
    call_count: int
    error_count: int
    durations: DurationQuantiles


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """Which services call which: services by name, edges by caller and callee."""

    services: tuple[ServiceInfo, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """The figures of one step. `rate` is spans per second, `error_ratio` is 0 to 1."""

    timestamp_ns: int
    rate: float
    error_ratio: float
    durations: DurationQuantiles


@dataclass(frozen=True, slots=True)
class Latency:
    """The figures of a service over time: the steps that have spans, in order, and the whole range."""

    points: tuple[LatencyPoint, ...]
    total: LatencyPoint
    step_ns: int


@dataclass(frozen=True, slots=True)
class PathSegment:
    """A stretch of time that one span determines by itself, by the trace's clock."""

    span_id: str
    service_name: str
    operation_name: str
    start_ns: int
    duration_ns: int


class WarningKind(IntEnum):
    """What makes a critical path less certain; numbered as in the contract."""

    CLOCK_SKEW = 1
    UNFINISHED = 2
    MISSING_PARENT = 3
    MALFORMED = 4


@dataclass(frozen=True, slots=True)
class PathWarning:
    """Something about one span of a trace that makes what is said of the trace less certain."""

    kind: WarningKind
    span_id: str


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The chain of spans and self times that determines a trace's duration.

    The segments are in order of time, without gaps or overlaps; their durations sum to `duration_ns`.
    """

    trace_id: str
    start_ns: int
    duration_ns: int
    segments: tuple[PathSegment, ...]
    warnings: tuple[PathWarning, ...]


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """An operation that takes time on critical paths.

    Args:
        self_time_ns: The time on the paths that it determines by itself.
        share: Of all time on the paths, 0 to 1.
        trace_count: On how many of the paths it lies.
    """

    service_name: str
    operation_name: str
    self_time_ns: int
    share: float
    trace_count: int


@dataclass(frozen=True, slots=True)
class SpanDifference:
    """One operation in two traces: how many spans it has, and their time less that of their children."""

    service_name: str
    operation_name: str
    base_span_count: int
    other_span_count: int
    base_self_time_ns: int
    other_self_time_ns: int


@dataclass(frozen=True, slots=True)
class TraceComparison:
    """How the operations of two traces differ, the largest change of self time first."""

    differences: tuple[SpanDifference, ...]
    base_duration_ns: int
    other_duration_ns: int


@dataclass(frozen=True, slots=True)
class Spans:
    """Decoded spans of any dialect, not yet checked.

    Attributes:
        table: One row a span, with the columns

            index           int32   the item's place in the request
            trace_id, span_id, parent_span_id   string   hex as it was sent; empty: absent
            operation, service, status_message  string
            kind, status_code                   int32
            start, end      int64   nanoseconds since 1970, null where absent
            tag_count       int32   the span's own tags
            tag_string, tag_int64, tag_double, tag_bool, tag_encoded   map<string, T>
            event_time      list<int64>, nanoseconds since 1970, 0 where absent
            event_fields    list<map<string, string>>, the values as `typed_text` has them
            link_trace_id, link_span_id         list<string>
            link_tags       list<map<string, string>>, likewise

        dialect_field: How a violation names item i: "spans" gives `spans[i]`.
    """

    table: pa.Table
    dialect_field: str

    @property
    def count(self) -> int:
        """The number of spans."""
        return int(self.table.num_rows)

    @property
    def need_now(self) -> bool:
        """See `Items.need_now`: a span without a start is refused."""
        return False


@dataclass(frozen=True, slots=True)
class SpanColumns:
    """Accepted spans as the store takes them: the columns of its table `spans`."""

    spans: pa.Table

    @property
    def count(self) -> int:
        """The number of spans."""
        return int(self.spans.num_rows)

    def split(self, items: Spans, ends: np.ndarray[Any, np.dtype[np.int64]]) -> list[SpanColumns]:
        """See `Columns.split`."""
        return [SpanColumns(part) for part, _ in parts_of(self.spans, ends)]


class TraceOrder(Enum):
    """How found traces are ordered; equal ones by trace id."""

    NEWEST = "start_time desc"
    OLDEST = "start_time asc"
    LONGEST = "duration desc"


@dataclass(frozen=True, slots=True)
class TraceSearch:
    """A question for traces that have a matching span which starts in a range. `end_ns` is excluded.

    Attributes:
        filter: The text of the filter that one span must match; empty matches all.
        after: The start (or, for LONGEST, the duration) and the id of the last trace of the page before.
        limit: How many at most.
    """

    tenant: str
    filter: str
    start_ns: int
    end_ns: int
    order: TraceOrder
    after: tuple[int, str] | None
    limit: int


@dataclass(frozen=True, slots=True)
class LatencyQuery:
    """A question for a service's figures over time. `end_ns` is excluded; an empty operation means all.

    Attributes:
        step_ns: A multiple of a minute; 0: one that gives about 60 points.
    """

    tenant: str
    service: str
    operation: str
    start_ns: int
    end_ns: int
    step_ns: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a trace store can do. The zero value is the least capable.

    Attributes:
        orders: How it can order what it finds.
        figures: Whether it keeps rates, errors and durations of services and operations.
        service_map: Whether it keeps the calls between services.
        deduplicates: Whether it keeps an insert that is repeated once; where not, only reading drops copies.
    """

    orders: frozenset[TraceOrder] = field(default_factory=frozenset)
    figures: bool = False
    service_map: bool = False
    deduplicates: bool = False
