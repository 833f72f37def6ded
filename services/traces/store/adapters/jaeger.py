"""Traces in a Jaeger v2: written over OTLP, read over its query API.

Jaeger keeps spans and finds traces; it counts nothing, knows no calls between services, and keeps an insert that is
repeated twice, so that reading drops what is there twice. `Capabilities` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pyarrow as pa
import structlog

from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError, UnimplementedError
from services.shared.filter import Checked
from services.shared.rpc.limits import MAX_MESSAGE_BYTES
from services.traces.config import JaegerConfig
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
    TraceOrder,
    TraceSearch,
    TraceSummary,
)
from services.traces.store.adapters import jaeger_export
from services.traces.store.adapters.jaeger_client import Jaeger, TooLargeError
from services.traces.store.adapters.jaeger_search import NewestFirst
from services.traces.store.adapters.jaeger_spans import spans_of, unrepeated

logger = structlog.get_logger(__name__)

_MAX_OUTLINE_SPANS = 200_000
_OUTLINES_AT_ONCE = 4
# Copies, which a repeated insert leaves, are dropped whenever a trace holds that many times the spans it may have.
_COPIES = 4
# An answer has 32 MiB at most.
_MAX_TRACE_BYTES = _COPIES * MAX_MESSAGE_BYTES


class JaegerTraceStore:
    """Implements `SpanWriter` and `TraceReader`.

    Args:
        jaeger: The connections.
        config: What may be asked of it.
    """

    def __init__(self, jaeger: Jaeger, config: JaegerConfig) -> None:
        self._jaeger = jaeger
        self._config = config

    async def open(self) -> None:
        """Nothing: Jaeger brings its tables up to date, and applies its own retention."""

    async def load_ids(self, into: RecentIds) -> None:
        """Nothing: Jaeger keeps no ids of requests."""

    async def write(self, batches: Sequence[tuple[Header, SpanColumns]], token: str, is_repeated: bool = False) -> None:
        """See `SpanWriter.write`. Repeated, Jaeger keeps it twice, and readers see it once."""
        table = pa.concat_tables([columns.spans for _, columns in batches])
        requests = jaeger_export.requests(table, self._config.max_message_bytes)
        refused = 0
        # The bus hands out one insert at a time: one thread makes the requests.
        while (request := await asyncio.to_thread(next, requests, None)) is not None:
            try:
                refused += await self._jaeger.export(request, self._config.write_timeout)
            except DeadlineExceededError as error:
                raise UnavailableError(error.message, retry_after=1.0) from error
            except TooLargeError as error:
                raise TooLargeError(
                    f"{error.message} Raise max_recv_msg_size_mib of Jaeger's OTLP receiver, or lower "
                    f"traces.jaeger.max_message_bytes, which is {self._config.max_message_bytes}."
                ) from error
        if refused:
            logger.error("spans_refused", store="jaeger", spans=refused)

    def capabilities(self) -> Capabilities:
        """See `TraceReader.capabilities`."""
        return Capabilities(frozenset({TraceOrder.NEWEST}))

    async def trace(self, tenant: str, trace_id: str, limit: int, timeout: float) -> list[Span]:
        """See `TraceReader.trace`."""
        found: list[Span] = []
        size = 0
        async with aclosing(self._jaeger.trace(trace_id, timeout)) as parts:
            async for part in parts:
                size += part.ByteSize()
                if size > _MAX_TRACE_BYTES:
                    raise ResourceExhaustedError(
                        f"The trace has more than {_MAX_TRACE_BYTES >> 20} MiB, repeated spans included; at most so "
                        "much can be read.",
                        reason="RESULT_TOO_LARGE",
                    )
                found += spans_of(tenant, part)
                if len(found) > limit * _COPIES:
                    found = _within(limit, found)
        return _within(limit, found)

    async def outlines(self, tenant: str, traces: Sequence[TraceSummary], timeout: float) -> list[list[Span]]:
        """See `TraceReader.outlines`."""
        turns = asyncio.Semaphore(_OUTLINES_AT_ONCE)

        async def outline(trace: TraceSummary) -> list[Span]:
            async with turns:
                try:
                    spans = await self.trace(tenant, trace.trace_id, _MAX_OUTLINE_SPANS, timeout)
                except ResourceExhaustedError as error:
                    # The others are looked at.
                    logger.warning("trace_left_out", store="jaeger", trace_id=trace.trace_id, error=error.message)
                    return []
            return [replace(span, status_message="", tags={}, events=(), links=()) for span in spans]

        return list(await asyncio.gather(*map(outline, traces)))

    async def search(self, search: TraceSearch, spans: Checked | None, timeout: float) -> list[TraceSummary]:
        """See `TraceReader.search`.

        Raises:
            UnimplementedError: The order is not NEWEST.
        """
        if search.order is not TraceOrder.NEWEST:
            raise _unable(f'order by "{search.order.value}"')
        return await NewestFirst(self._jaeger, search, spans, self._config.search_depth).page(timeout)

    async def services(
        self, tenant: str, start_ns: int, end_ns: int, after: str, limit: int, timeout: float
    ) -> list[ServiceInfo]:
        """Raises `UnimplementedError`: Jaeger counts no spans, and names the services of all tenants together."""
        raise _unable("count the spans of services")

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
        """Raises `UnimplementedError`: Jaeger counts no spans."""
        raise _unable("count the spans of operations")

    async def edges(self, tenant: str, start_ns: int, end_ns: int, limit: int, timeout: float) -> list[Edge]:
        """Raises `UnimplementedError`: Jaeger counts the calls of all tenants together."""
        raise _unable("keep a service map of one tenant")

    async def latency(self, query: LatencyQuery, timeout: float) -> Latency:
        """Raises `UnimplementedError`: Jaeger keeps no durations of services."""
        raise _unable("keep durations of services")


def _within(limit: int, found: list[Span]) -> list[Span]:
    """The spans without their copies. Raises: ResourceExhaustedError."""
    spans = unrepeated(found)
    if len(spans) > limit:
        raise ResourceExhaustedError(
            f"The trace has {len(spans)} spans or more; at most {limit} can be read.", reason="RESULT_TOO_LARGE"
        )
    return spans


def _unable(what: str) -> UnimplementedError:
    return UnimplementedError(f"Jaeger as the trace store cannot {what}. Use ClickHouse for that.")
