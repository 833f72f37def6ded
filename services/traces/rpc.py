"""The servicer: convert, call ingest or query, convert back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from airis.traces.v1 import traces_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.errors import ResourceExhaustedError
from services.shared.rpc import pages, times
from services.shared.rpc.context import Context, remaining, tenant
from services.shared.rpc.ingest_methods import IngestContract, IngestMethods
from services.shared.rpc.limits import MAX_MESSAGE_BYTES
from services.traces import convert
from services.traces.ingest import SpanIngest
from services.traces.model import LatencyQuery, Span, TraceOrder, TraceSearch
from services.traces.query import TraceQuery, read_order

DOMAIN = "traces.airis"
RAW = frozenset({"IngestSpans", "StreamSpans"})

_DEFAULT_PAGE = 100
_DEFAULT_TRACES = 20
_DEFAULT_BOTTLENECKS = 20

INGEST = IngestContract(
    DOMAIN,
    unary=(traces_pb2.IngestSpansRequest, traces_pb2.IngestSpansResponse),
    stream=(traces_pb2.StreamSpansRequest, traces_pb2.StreamSpansResponse),
    otlp=(trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    refused="rejected_spans",
)


class TraceServicer:
    """Answers `airis.traces.v1.TraceService`.

    Args:
        ingest: Takes spans.
        query: Answers questions.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, ingest: SpanIngest, query: TraceQuery, clock: Callable[[], int]) -> None:
        self.ingest = IngestMethods(INGEST, ingest)
        self._query = query
        self._clock = clock

    async def IngestSpans(self, payload: bytes, context: Context) -> traces_pb2.IngestSpansResponse:
        return await self.ingest.unary(payload)

    def StreamSpans(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[traces_pb2.StreamSpansResponse]:
        return self.ingest.stream(requests)

    async def GetTrace(self, request: traces_pb2.GetTraceRequest, context: Context) -> traces_pb2.Trace:
        spans = await self._query.trace(tenant(), request.trace_id, remaining())
        return await asyncio.to_thread(_bounded_trace, spans)

    async def SearchTraces(
        self, request: traces_pb2.SearchTracesRequest, context: Context
    ) -> traces_pb2.SearchTracesResponse:
        size = request.page_size or _DEFAULT_TRACES
        start, end, *key = self._cursor(request, int, str) or self._range(request)
        order = read_order(request.order_by)
        after = (key[0], key[1]) if key else None
        search = TraceSearch(tenant(), request.filter, start, end, order, after, size + 1)
        found = await self._query.search(search, remaining())
        token = ""
        if len(found) > size:
            last = found[size - 1]
            reached = last.duration_ns if order is TraceOrder.LONGEST else last.start_ns
            token = pages.encode_page_token(request, [start, end, reached, last.trace_id])
        return traces_pb2.SearchTracesResponse(
            traces=[convert.summary(trace) for trace in found[:size]], next_page_token=token
        )

    async def ListServices(
        self, request: traces_pb2.ListServicesRequest, context: Context
    ) -> traces_pb2.ListServicesResponse:
        size = request.page_size or _DEFAULT_PAGE
        start, end, after = self._cursor(request, str) or (*self._range(request), "")
        found = await self._query.services(tenant(), start, end, after, size + 1, remaining())
        token = ""
        if len(found) > size:
            token = pages.encode_page_token(request, [start, end, found[size - 1].service])
        return traces_pb2.ListServicesResponse(
            services=[convert.service(item) for item in found[:size]], next_page_token=token
        )

    async def ListOperations(
        self, request: traces_pb2.ListOperationsRequest, context: Context
    ) -> traces_pb2.ListOperationsResponse:
        size = request.page_size or _DEFAULT_PAGE
        start, end, name, kind = self._cursor(request, str, int) or (*self._range(request), "", 0)
        found = await self._query.operations(tenant(), request.service, start, end, (name, kind), size + 1, remaining())
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = pages.encode_page_token(request, [start, end, last.operation, int(last.kind)])
        return traces_pb2.ListOperationsResponse(
            operations=[convert.operation(item) for item in found[:size]], next_page_token=token
        )

    async def GetServiceMap(self, request: traces_pb2.GetServiceMapRequest, context: Context) -> traces_pb2.ServiceMap:
        start, end = self._range(request)
        return convert.service_map(await self._query.service_map(tenant(), start, end, remaining()))

    async def GetLatency(
        self, request: traces_pb2.GetLatencyRequest, context: Context
    ) -> traces_pb2.GetLatencyResponse:
        start, end = self._range(request)
        step = times.duration_ns(request.step)
        query = LatencyQuery(tenant(), request.service, request.operation, start, end, step)
        return convert.latency(await self._query.latency(query, remaining()))

    async def GetCriticalPath(
        self, request: traces_pb2.GetCriticalPathRequest, context: Context
    ) -> traces_pb2.CriticalPath:
        found = await self._query.critical_path(tenant(), request.trace_id, remaining())
        return convert.critical_path(found)

    async def ListBottlenecks(
        self, request: traces_pb2.ListBottlenecksRequest, context: Context
    ) -> traces_pb2.ListBottlenecksResponse:
        size = request.page_size or _DEFAULT_BOTTLENECKS
        start, end, begin = self._cursor(request, int) or (*self._range(request), 0)
        found, sampled = await self._query.bottlenecks(tenant(), request.service, start, end, remaining())
        following = begin + size
        return traces_pb2.ListBottlenecksResponse(
            bottlenecks=[convert.bottleneck(item) for item in found[begin:following]],
            next_page_token=pages.encode_page_token(request, [start, end, following]) if len(found) > following else "",
            sampled_trace_count=sampled,
        )

    async def CompareTraces(
        self, request: traces_pb2.CompareTracesRequest, context: Context
    ) -> traces_pb2.CompareTracesResponse:
        found = await self._query.compare(tenant(), request.base_trace_id, request.other_trace_id, remaining())
        return convert.comparison(found)

    def _range(self, request: Any) -> tuple[int, int]:
        return convert.time_range(request, self._clock())

    def _cursor(self, request: Any, *types: type) -> list[Any] | None:
        """The range that the first page had, and where to go on."""
        cursor = pages.decode_page_token(request, int, int, *types)
        if cursor is not None and (
            not 0 <= cursor[0] < cursor[1] < 2**63
            or any(isinstance(part, int) and part >= 2**63 for part in cursor[2:])
        ):
            raise pages.invalid_page_token()
        return cursor


def _bounded_trace(spans: Sequence[Span]) -> traces_pb2.Trace:
    answer = convert.trace(spans)
    if answer.ByteSize() > MAX_MESSAGE_BYTES:
        raise ResourceExhaustedError(
            f"The trace has more than {MAX_MESSAGE_BYTES >> 20} MiB. Send spans with fewer and shorter tags and logs.",
            reason="RESULT_TOO_LARGE",
        )
    return answer
