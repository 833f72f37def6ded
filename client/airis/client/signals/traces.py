"""TraceService."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

import grpc
from airis.client.calls import Calls
from airis.client.dialect import IngestDialect
from airis.client.paging import Paged
from airis.client.signals.ingest import Ingesting
from airis.client.times import Length, Moment, duration, timestamp
from airis.traces.v1 import traces_pb2, traces_pb2_grpc

_SERVICE = traces_pb2.DESCRIPTOR.services_by_name["TraceService"]

DIALECT: IngestDialect[traces_pb2.Span] = IngestDialect(
    items="spans",
    stream_method="StreamSpans",
    stream_request=traces_pb2.StreamSpansRequest,
    stream_response=traces_pb2.StreamSpansResponse,
    unary_method="IngestSpans",
    unary_request=traces_pb2.IngestSpansRequest,
    unary_response=traces_pb2.IngestSpansResponse,
)


class Traces(Ingesting[traces_pb2.Span, traces_pb2.IngestSpansResponse]):
    """Sends, finds and analyses traces. Each call raises `AirisError` when it fails."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        calls = Calls(traces_pb2_grpc.TraceServiceStub(channel), _SERVICE, channel)
        super().__init__(calls, DIALECT, traces_pb2.IngestSpansResponse)

    async def get(self, trace_id: str, *, timeout: float | None = None) -> traces_pb2.Trace:
        """A trace with its spans. Raises `NotFoundError` if there is none."""
        request = traces_pb2.GetTraceRequest(trace_id=trace_id)
        return await self._calls.unary("GetTrace", request, traces_pb2.Trace, timeout)

    def search(
        self,
        filter: str = "",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[traces_pb2.SearchTracesResponse, traces_pb2.TraceSummary]:
        """Finds traces.

        Args:
            filter: What one span must match: `service = "pay" AND duration > "100ms"`; empty: all.
            start: The first moment; None: an hour before the end.
            end: The last moment, not included; None: now.
            order_by: "start_time desc" (as if empty), "start_time asc" or "duration desc".
            page_size: Traces a page; 0: 20.
            page_token: Where to go on.
            timeout: Seconds for each page; None: the contract's.
        """

        async def fetch(token: str) -> traces_pb2.SearchTracesResponse:
            request = traces_pb2.SearchTracesRequest(
                filter=filter,
                start_time=timestamp(start),
                end_time=timestamp(end),
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("SearchTraces", request, traces_pb2.SearchTracesResponse, timeout)

        return Paged(fetch, "traces", page_token)

    def services(
        self,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[traces_pb2.ListServicesResponse, traces_pb2.Service]:
        """The services that sent spans, by name."""

        async def fetch(token: str) -> traces_pb2.ListServicesResponse:
            request = traces_pb2.ListServicesRequest(
                start_time=timestamp(start), end_time=timestamp(end), page_size=page_size, page_token=token
            )
            return await self._calls.unary("ListServices", request, traces_pb2.ListServicesResponse, timeout)

        return Paged(fetch, "services", page_token)

    def operations(
        self,
        service: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[traces_pb2.ListOperationsResponse, traces_pb2.Operation]:
        """The operations of a service, by name."""

        async def fetch(token: str) -> traces_pb2.ListOperationsResponse:
            request = traces_pb2.ListOperationsRequest(
                service=service,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("ListOperations", request, traces_pb2.ListOperationsResponse, timeout)

        return Paged(fetch, "operations", page_token)

    async def service_map(
        self, *, start: Moment | None = None, end: Moment | None = None, timeout: float | None = None
    ) -> traces_pb2.ServiceMap:
        """Which services call which; how often, with what errors, how long."""
        request = traces_pb2.GetServiceMapRequest(start_time=timestamp(start), end_time=timestamp(end))
        return await self._calls.unary("GetServiceMap", request, traces_pb2.ServiceMap, timeout)

    async def latency(
        self,
        service: str,
        *,
        operation: str = "",
        start: Moment | None = None,
        end: Moment | None = None,
        step: Length | None = None,
        timeout: float | None = None,
    ) -> traces_pb2.GetLatencyResponse:
        """Rate, errors and durations of a service, or of one operation of it, over time."""
        request = traces_pb2.GetLatencyRequest(
            service=service,
            operation=operation,
            start_time=timestamp(start),
            end_time=timestamp(end),
            step=duration(step),
        )
        return await self._calls.unary("GetLatency", request, traces_pb2.GetLatencyResponse, timeout)

    async def critical_path(self, trace_id: str, *, timeout: float | None = None) -> traces_pb2.CriticalPath:
        """The chain of spans that determines a trace's duration. Raises `NotFoundError` if there is no such trace."""
        request = traces_pb2.GetCriticalPathRequest(trace_id=trace_id)
        return await self._calls.unary("GetCriticalPath", request, traces_pb2.CriticalPath, timeout)

    def bottlenecks(
        self,
        service: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[traces_pb2.ListBottlenecksResponse, traces_pb2.Bottleneck]:
        """The operations that take the most time on the critical paths of a service's traces."""

        async def fetch(token: str) -> traces_pb2.ListBottlenecksResponse:
            request = traces_pb2.ListBottlenecksRequest(
                service=service,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("ListBottlenecks", request, traces_pb2.ListBottlenecksResponse, timeout)

        return Paged(fetch, "bottlenecks", page_token)

    async def compare(
        self, base_trace_id: str, other_trace_id: str, *, timeout: float | None = None
    ) -> traces_pb2.CompareTracesResponse:
        """How the operations of two traces differ."""
        request = traces_pb2.CompareTracesRequest(base_trace_id=base_trace_id, other_trace_id=other_trace_id)
        return await self._calls.unary("CompareTraces", request, traces_pb2.CompareTracesResponse, timeout)
