"""Traces in ClickHouse, in-process or as a server: one SQL, two DSNs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pyarrow as pa

from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.ids import StoredIds
from services.shared.clickhouse.inserts import Inserts, Rollup, Source
from services.shared.clickhouse.migrations import migrate
from services.shared.errors import ResourceExhaustedError
from services.shared.filter import Checked
from services.shared.retention import DAY_NS
from services.traces import span_rows
from services.traces.config import TracesConfig
from services.traces.model import (
    Capabilities,
    DurationQuantiles,
    Edge,
    Latency,
    LatencyPoint,
    LatencyQuery,
    OperationInfo,
    ServiceInfo,
    Span,
    SpanColumns,
    SpanKind,
    TraceOrder,
    TraceSearch,
    TraceSummary,
)
from services.traces.store.adapters import clickhouse_sql

_IDS_TABLE = "span_known_ids"
_SPANS = Source(
    "spans",
    "tenant, service, start_time, trace_id, span_id",
    "start_time",
    (
        Rollup("traces", "spans_to_traces", "tenant, trace_id", "tenant, trace_id", "span_count"),
        Rollup(
            "span_red_1m",
            "spans_to_red_1m",
            "tenant, service, operation, kind, minute",
            "tenant, service, operation, kind, toStartOfMinute(start_time)",
            "count",
        ),
    ),
)

_FIRST_WINDOW_NS = 4_000_000_000
_WINDOW_GROWTH = 16
_START_SECONDS = 30.0
_MAX_OUTLINE_SPANS = 200_000
# An answer has 32 MiB at most, and in protobuf spans take up to an eighth more than in columns.
_MAX_TRACE_BYTES = 28 * 1024 * 1024


class ClickHouseTraceStore:
    """Implements `SpanWriter`, `EdgeWriter` and `TraceReader`.

    Args:
        clickhouse: An open pool.
        config: The retention, and how late a caller may be.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, clickhouse: ClickHouse, config: TracesConfig, clock: Callable[[], int] = time.time_ns) -> None:
        self._clickhouse = clickhouse
        self._config = config
        self._clock = clock
        self._inserts = Inserts(clickhouse, config.raw_retention_days)
        self.ids = StoredIds(clickhouse, _IDS_TABLE)

    async def open(self) -> None:
        """Brings the tables up to date and applies the retention."""
        await migrate(self._clickhouse, "traces", files("services.traces.store") / "sql")
        await self._inserts.open()
        raw, rollup = self._config.raw_retention_days, self._config.rollup_days
        for table, column, days in (
            ("spans", "start_time", raw),
            ("traces", "last", raw),
            ("span_red_1m", "minute", rollup),
            ("service_edges_1m", "minute", rollup),
        ):
            await self._clickhouse.retain(table, column, days)

    async def load_ids(self, into: RecentIds) -> None:
        """Reads back the ids of stored requests."""
        await self.ids.load(into)

    async def write(self, batches: Sequence[tuple[Header, SpanColumns]], token: str, is_repeated: bool = False) -> None:
        """See `SpanWriter.write`."""
        spans = pa.concat_tables([columns.spans for _, columns in batches])
        await self._inserts.store(_SPANS, spans, token, is_repeated)
        await self.ids.write([header for header, _ in batches])

    async def refresh_edges(self, first_minute: int, last_minute: int) -> None:
        """See `EdgeWriter.refresh_edges`."""
        await self._clickhouse.command(
            *clickhouse_sql.refresh_edges(first_minute, last_minute, self._config.edge_lateness)
        )

    async def newest_minute(self, until: int) -> int | None:
        """See `EdgeWriter.newest_minute`."""
        (row,) = await self._clickhouse.rows(*clickhouse_sql.newest_minute(until), timeout=_START_SECONDS)
        return int(row["newest"]) if row["minutes"] else None

    def capabilities(self) -> Capabilities:
        """See `TraceReader.capabilities`."""
        return Capabilities(frozenset(TraceOrder), figures=True, service_map=True, deduplicates=True)

    async def trace(self, tenant: str, trace_id: str, limit: int, timeout: float) -> list[Span]:
        """See `TraceReader.trace`."""
        statement = clickhouse_sql.trace(tenant, trace_id, limit + 1)
        try:
            rows = await self._clickhouse.rows(*statement, timeout=timeout, max_bytes=_MAX_TRACE_BYTES)
        except ResourceExhaustedError as error:
            if error.reason != "RESULT_TOO_LARGE":
                raise
            raise ResourceExhaustedError(
                f"The trace cannot be read: its spans have more than {_MAX_TRACE_BYTES >> 20} MiB together, or reading "
                "them needs more memory than is allowed. Send spans with fewer and shorter tags and logs.",
                reason="RESULT_TOO_LARGE",
            ) from error
        if len(rows) > limit:
            raise ResourceExhaustedError(
                f"The trace has more than {limit} spans; at most so many can be read.", reason="RESULT_TOO_LARGE"
            )
        return await asyncio.to_thread(lambda: [span_rows.whole(row) for row in rows])

    async def outlines(self, tenant: str, traces: Sequence[TraceSummary], timeout: float) -> list[list[Span]]:
        """See `TraceReader.outlines`."""
        if not traces:
            return []
        first = min(trace.start_ns for trace in traces)
        last = max(trace.start_ns + trace.duration_ns for trace in traces)
        table = await self._clickhouse.query(
            *clickhouse_sql.outlines(tenant, [trace.trace_id for trace in traces], first, last),
            timeout=timeout,
            max_rows=_MAX_OUTLINE_SPANS,
        )

        def found() -> list[list[Span]]:
            spans: dict[str, list[Span]] = {trace.trace_id: [] for trace in traces}
            for row in table.to_pylist():
                spans[row["trace_id"]].append(span_rows.outline(row))
            return list(spans.values())

        return await asyncio.to_thread(found)

    async def search(self, search: TraceSearch, spans: Checked | None, timeout: float) -> list[TraceSummary]:
        """See `TraceReader.search`."""
        begin, width = search.start_ns, _FIRST_WINDOW_NS
        newest_first = search.order is TraceOrder.NEWEST
        # Where a page goes on, no later trace is wanted: all that are wanted start up to there.
        latest = search.after[0] if newest_first and search.after is not None else search.end_ns
        while True:
            # A trace does not start after its spans: the traces since `begin` are found by the spans since `begin`.
            if newest_first:
                begin = max(search.start_ns, latest - width)
            rows = await self._clickhouse.rows(*clickhouse_sql.search(search, spans, begin), timeout=timeout)
            if len(rows) >= search.limit or begin == search.start_ns:
                return [_summary(row) for row in rows]
            # Most often few are missing: as much wider as what was found lets expect, and half as wide again.
            expected = math.ceil(1.5 * search.limit / len(rows)) if rows else _WINDOW_GROWTH
            width *= min(max(expected, 2), _WINDOW_GROWTH)

    async def services(
        self, tenant: str, start_ns: int, end_ns: int, after: str, limit: int, timeout: float
    ) -> list[ServiceInfo]:
        """See `TraceReader.services`."""
        statement = clickhouse_sql.services(tenant, *self._known(start_ns, end_ns), after, limit)
        rows = await self._clickhouse.rows(*statement, timeout=timeout)
        return [ServiceInfo(row["service"], row["spans"], row["errors"]) for row in rows]

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
        """See `TraceReader.operations`."""
        begin, end = self._known(start_ns, end_ns)
        statement = clickhouse_sql.operations(tenant, service, begin, end, (after[0], int(after[1])), limit)
        rows = await self._clickhouse.rows(*statement, timeout=timeout)
        return [
            OperationInfo(
                row["operation"], SpanKind(row["kind"]), row["spans"], row["errors"], _quantiles(row["durations"])
            )
            for row in rows
        ]

    async def edges(self, tenant: str, start_ns: int, end_ns: int, limit: int, timeout: float) -> list[Edge]:
        """See `TraceReader.edges`."""
        statement = clickhouse_sql.edges(tenant, start_ns, end_ns, limit + 1)
        rows = await self._clickhouse.rows(*statement, timeout=timeout)
        if len(rows) > limit:
            raise ResourceExhaustedError(
                f"The service map has more than {limit} edges. Ask for a shorter range.", reason="RESULT_TOO_LARGE"
            )
        return [
            Edge(row["caller"], row["callee"], row["calls"], row["errors"], _quantiles(row["quantiles"]))
            for row in rows
        ]

    async def latency(self, query: LatencyQuery, timeout: float) -> Latency:
        """See `TraceReader.latency`."""
        start, end = self._known(query.start_ns, query.end_ns)
        query = replace(query, start_ns=start, end_ns=end)
        rows = await self._clickhouse.rows(*clickhouse_sql.latency(query), timeout=timeout)
        handling = [row for row in rows if row["handles"]] or rows
        points = []
        total = LatencyPoint(query.start_ns, 0.0, 0.0, DurationQuantiles(0, 0, 0))
        for row in handling:
            begin = query.start_ns if row["is_total"] else row["step"] * 1_000_000_000
            end = query.end_ns if row["is_total"] else begin + query.step_ns
            # A step that the range cuts short lasts only as long as the range is in it.
            seconds = (min(end, query.end_ns) - max(begin, query.start_ns)) / 1e9
            errors, spans = row["errors"], row["spans"]
            point = LatencyPoint(begin, spans / seconds, errors / spans, _quantiles(row["durations"]))
            if row["is_total"]:
                total = replace(point, timestamp_ns=query.start_ns)
            else:
                points.append(point)
        return Latency(tuple(points), total, query.step_ns)

    def _known(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        """A range whose figures are known: of a minute that it cuts all, where the minute's spans are gone."""
        width = clickhouse_sql.MINUTE_NS
        first, last = start_ns // width * width, end_ns // width * width
        oldest = self._clock() - self._config.raw_retention_days * DAY_NS
        return first if start_ns < oldest else start_ns, -(-end_ns // width) * width if last < oldest else end_ns


def _summary(row: dict[str, Any]) -> TraceSummary:
    service, operation = row["origin"].values()
    return TraceSummary(
        trace_id=row["trace_id"],
        root_service_name=service,
        root_operation_name=operation,
        start_ns=row["started"],
        duration_ns=row["duration"],
        span_count=row["spans"],
        error_count=row["errors"],
        services=tuple(row["names"]),
    )


def _quantiles(nanoseconds: Sequence[float]) -> DurationQuantiles:
    """Of no finished spans they are not a number; that is shown as no time."""
    return DurationQuantiles(*(0 if math.isnan(value) else round(value) for value in nanoseconds))
