"""LogService."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import grpc
from airis.client.calls import Calls
from airis.client.dialect import IngestDialect
from airis.client.paging import Paged
from airis.client.signals.ingest import Ingesting
from airis.client.signals.resources import Resources, Shape
from airis.client.times import Length, Moment, duration, timestamp
from airis.logs.v1 import logs_pb2, logs_pb2_grpc

_SERVICE = logs_pb2.DESCRIPTOR.services_by_name["LogService"]

DIALECT: IngestDialect[logs_pb2.LogEntry] = IngestDialect(
    items="entries",
    stream_method="StreamLogs",
    stream_request=logs_pb2.StreamLogsRequest,
    stream_response=logs_pb2.StreamLogsResponse,
    unary_method="IngestLogs",
    unary_request=logs_pb2.IngestLogsRequest,
    unary_response=logs_pb2.IngestLogsResponse,
)


class Logs(Ingesting[logs_pb2.LogEntry, logs_pb2.IngestLogsResponse]):
    """Sends, searches and counts logs. Each call raises `AirisError` when it fails.

    Attributes:
        pipelines: The parsing pipelines.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        calls = Calls(logs_pb2_grpc.LogServiceStub(channel), _SERVICE, channel)
        super().__init__(calls, DIALECT, logs_pb2.IngestLogsResponse)
        self.pipelines: Resources[logs_pb2.LogPipeline] = Resources(
            calls, Shape(logs_pb2, logs_pb2.LogPipeline, "LogPipeline", "LogPipelines", "log_pipeline", "log_pipelines")
        )

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
    ) -> Paged[logs_pb2.SearchLogsResponse, logs_pb2.LogEntry]:
        """Finds entries; `pages()` has the highlights too.

        Args:
            filter: `level >= WARN AND service = "pay" "timed out"`; empty: all.
            start: The first moment; None: an hour before the end.
            end: The last moment, not included; None: now.
            order_by: "timestamp desc" (as if empty) or "timestamp asc".
            page_size: Entries a page; 0: 50.
            page_token: Where to go on.
            timeout: Seconds for each page; None: the contract's.
        """

        async def fetch(token: str) -> logs_pb2.SearchLogsResponse:
            request = logs_pb2.SearchLogsRequest(
                filter=filter,
                start_time=timestamp(start),
                end_time=timestamp(end),
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("SearchLogs", request, logs_pb2.SearchLogsResponse, timeout)

        return Paged(fetch, "entries", page_token)

    async def tail(
        self,
        filter: str = "",
        *,
        backlog: int = 0,
        max_count: int = 0,
        max_duration: Length | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[logs_pb2.LogEntry]:
        """Entries as they come, after `backlog` older ones; without limits it goes on for ever."""
        request = logs_pb2.TailLogsRequest(
            filter=filter, backlog=backlog, max_count=max_count, max_duration=duration(max_duration)
        )
        async for response in self._calls.stream("TailLogs", request, logs_pb2.TailLogsResponse, timeout):
            for entry in response.entries:
                yield entry

    async def count(
        self,
        filter: str = "",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Length | None = None,
        group_by: Iterable[str] = (),
        timeout: float | None = None,
    ) -> logs_pb2.CountLogsResponse:
        """Counts entries over time, grouped by `level`, `service` or `labels.<key>`."""
        request = logs_pb2.CountLogsRequest(
            filter=filter,
            start_time=timestamp(start),
            end_time=timestamp(end),
            step=duration(step),
            group_by=group_by,
        )
        return await self._calls.unary("CountLogs", request, logs_pb2.CountLogsResponse, timeout)

    def patterns(
        self,
        filter: str = "",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[logs_pb2.ListLogPatternsResponse, logs_pb2.LogPattern]:
        """The templates that messages fall into, the most frequent first."""

        async def fetch(token: str) -> logs_pb2.ListLogPatternsResponse:
            request = logs_pb2.ListLogPatternsRequest(
                filter=filter,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("ListLogPatterns", request, logs_pb2.ListLogPatternsResponse, timeout)

        return Paged(fetch, "patterns", page_token)

    def anomalies(
        self,
        filter: str = "",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Length | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Paged[logs_pb2.ListLogAnomaliesResponse, logs_pb2.LogAnomaly]:
        """The steps in which far more or fewer entries came than is usual, the strongest first."""

        async def fetch(token: str) -> logs_pb2.ListLogAnomaliesResponse:
            request = logs_pb2.ListLogAnomaliesRequest(
                filter=filter,
                start_time=timestamp(start),
                end_time=timestamp(end),
                step=duration(step),
                page_size=page_size,
                page_token=token,
            )
            return await self._calls.unary("ListLogAnomalies", request, logs_pb2.ListLogAnomaliesResponse, timeout)

        return Paged(fetch, "anomalies", page_token)
