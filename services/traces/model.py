"""What traces are made of: plain values without I/O or protobuf, as `airis.traces.v1` promises them.

Times are integers, nanoseconds since 1970; durations are integers, nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

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
