"""What a trace store promises. `worker.py` writes, `query.py` reads. Times are nanoseconds since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.shared.bus.port import Header
from services.shared.filter import Checked
from services.traces.model import (
    Capabilities,
    Edge,
    Latency,
    LatencyQuery,
    OperationInfo,
    ServiceInfo,
    Span,
    SpanColumns,
    SpanKind,
    TraceSearch,
    TraceSummary,
)


class SpanWriter(Protocol):
    """Stores accepted spans."""

    async def write(self, batches: Sequence[tuple[Header, SpanColumns]], token: str, is_repeated: bool = False) -> None:
        """Stores batches as one insert. The same token with the same batches stores nothing again, also after
        a crash in the middle; a store that does not deduplicate shows readers nothing twice.

        Args:
            batches: In the order of the bus.
            token: The same for the same batches.
            is_repeated: Whether an earlier attempt may have been cut off.

        Raises:
            AirisError: Nothing, or only a part, was stored; repeat with the same token.
        """
        ...


class EdgeWriter(Protocol):
    """Keeps which services call which."""

    async def refresh_edges(self, first_minute: int, last_minute: int) -> None:
        """Finds the calls whose called span starts in these minutes (since 1970, both included) and replaces what
        was known of them. Repeated without new spans, it changes nothing.

        Raises:
            ResourceExhaustedError: There are too many spans; ask for fewer minutes.
        """
        ...

    async def newest_minute(self, until: int) -> int | None:
        """The newest minute (since 1970) up to `until` in which a span starts; None if there is none."""
        ...


class TraceReader(Protocol):
    """Answers queries. Each takes the seconds it may use and raises `DeadlineExceededError` beyond them.

    Figures of services, operations and durations outlive the spans: where those are gone, a minute that the range cuts
    counts whole.
    """

    def capabilities(self) -> Capabilities:
        """What the store can do."""
        ...

    async def trace(self, tenant: str, trace_id: str, limit: int, timeout: float) -> list[Span]:
        """The spans of a trace by start time; empty if there are none.

        Raises:
            ResourceExhaustedError: There are more than `limit`, or they are too large together (RESULT_TOO_LARGE).
        """
        ...

    async def outlines(self, tenant: str, traces: Sequence[TraceSummary], timeout: float) -> list[list[Span]]:
        """The spans of several traces, without tags, events and links, in the order of `traces`.

        None of a trace that is too large to be read.
        """
        ...

    async def search(self, search: TraceSearch, spans: Checked | None, timeout: float) -> list[TraceSummary]:
        """Traces that have a matching span which starts in the range, in the order asked for.

        The summaries are those of the whole traces, also of spans outside the range.
        """
        ...

    async def services(
        self, tenant: str, start_ns: int, end_ns: int, after: str, limit: int, timeout: float
    ) -> list[ServiceInfo]:
        """Services that have spans which start in the range, by name, from the one after `after` on."""
        ...

    async def operations(
        self,
        tenant: str,
        service: str,
        start_ns: int,
        end_ns: int,
        after: tuple[str, SpanKind | int],
        limit: int,
        timeout: float,
    ) -> list[OperationInfo]:
        """Operations of a service by name and kind, from the one after `after` on; ("", 0) is the beginning."""
        ...

    async def edges(self, tenant: str, start_ns: int, end_ns: int, limit: int, timeout: float) -> list[Edge]:
        """Calls in the minutes that the range touches, by caller and callee.

        Raises:
            ResourceExhaustedError: There are more than `limit`.
        """
        ...

    async def latency(self, query: LatencyQuery, timeout: float) -> Latency:
        """The figures of the spans that handle calls, or of all when there are none. The step is not 0."""
        ...
