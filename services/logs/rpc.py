"""The servicer: convert, call ingest or query, convert back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

from airis.logs.v1 import logs_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs import convert
from services.logs.ingest import LogIngest
from services.logs.model import Cursor, Selection
from services.logs.query import LogQuery
from services.logs.tail import LogTail
from services.shared.errors import FieldViolation, InvalidArgumentError, UnimplementedError
from services.shared.rpc import pages, times
from services.shared.rpc.context import Context, remaining, tenant
from services.shared.rpc.ingest_methods import IngestContract, IngestMethods
from services.shared.rpc.watching import Limits, tell_begun

DOMAIN = "logs.airis"
RAW = frozenset({"IngestLogs", "StreamLogs"})

_DEFAULT_PAGE = 50
# Entries of a search that are read before it is known how large they are.
_FIRST_SLICE = 100
_SECOND_NS = 1_000_000_000
# The store adds one to it.
_LATEST_NS = 2**63 - 1
_LEAST_ANOMALY_STEP = 10 * _SECOND_NS
_ANOMALY_STEP = 60 * _SECOND_NS

INGEST = IngestContract(
    DOMAIN,
    unary=(logs_pb2.IngestLogsRequest, logs_pb2.IngestLogsResponse),
    stream=(logs_pb2.StreamLogsRequest, logs_pb2.StreamLogsResponse),
    otlp=(logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    refused="rejected_log_records",
)


class LogServicer:
    """Answers `airis.logs.v1.LogService`.

    Args:
        ingest: Takes entries.
        query: Answers questions.
        tail: Follows entries.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, ingest: LogIngest, query: LogQuery, tail: LogTail, clock: Callable[[], int]) -> None:
        self.ingest = IngestMethods(INGEST, ingest)
        self._query = query
        self._tail = tail
        self._clock = clock

    async def IngestLogs(self, payload: bytes, context: Context) -> logs_pb2.IngestLogsResponse:
        return await self.ingest.unary(payload)

    def StreamLogs(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[logs_pb2.StreamLogsResponse]:
        return self.ingest.stream(requests)

    async def SearchLogs(self, request: logs_pb2.SearchLogsRequest, context: Context) -> logs_pb2.SearchLogsResponse:
        size = request.page_size or _DEFAULT_PAGE
        chosen, further = self._page(request, int, int)
        after = Cursor(*further) if further else None
        page = convert.Chunk()
        limit = min(size + 1, _FIRST_SLICE)
        while True:
            query = convert.search_query(request, chosen, limit, after)
            found = await self._query.search(query, remaining())
            size_before = page.size
            taken = page.take(found.entries[: size - len(page.entries)])
            if taken < len(found.entries) or len(found.entries) < limit:
                break
            after = Cursor(page.entries[-1].timestamp, page.entries[-1].ingest_position)
            # By those just read: behind large entries, small ones would else be read a few at a time.
            fit = page.room((page.size - size_before) / taken)
            limit = min(max(fit, 1), size + 1 - len(page.entries))
        token = ""
        if taken < len(found.entries):
            last = page.entries[-1]
            cursor = [chosen.start, chosen.end, last.timestamp, last.ingest_position]
            token = pages.encode_page_token(request, cursor)
        highlights = await self._query.highlights(page.entries, found.terms, remaining())
        return logs_pb2.SearchLogsResponse(
            entries=page.messages,
            next_page_token=token,
            highlights=[convert.highlights(spans) for spans in highlights],
        )

    async def TailLogs(
        self, request: logs_pb2.TailLogsRequest, context: Context
    ) -> AsyncIterator[logs_pb2.TailLogsResponse]:
        limits = Limits.of(request, context, rest_count=100, rest_seconds=60.0)
        now = self._clock()
        recent = Selection(tenant(), request.filter, now - times.HOUR_NS, now + 1)
        followed = await self._tail.follow(recent, request.backlog, limits.seconds)
        # Nothing which is stored from now on is missed.
        await tell_begun(context)
        left = limits.count
        async for entries in followed:
            for chunk in convert.fitting(entries[:left]):
                yield logs_pb2.TailLogsResponse(entries=chunk)
            if left is not None:
                left -= len(entries)
                if left <= 0:
                    return

    async def CountLogs(self, request: logs_pb2.CountLogsRequest, context: Context) -> logs_pb2.CountLogsResponse:
        query = convert.count_query(request, tenant(), self._clock())
        return convert.count_response(await self._query.count(query, remaining()))

    async def ListLogPatterns(
        self, request: logs_pb2.ListLogPatternsRequest, context: Context
    ) -> logs_pb2.ListLogPatternsResponse:
        chosen, first, end = self._slice(request)
        found, sampled = await self._query.patterns(chosen, remaining())
        return logs_pb2.ListLogPatternsResponse(
            patterns=[convert.log_pattern(pattern) for pattern in found[first:end]],
            next_page_token=_next_slice(request, chosen, end) if end < len(found) else "",
            sampled_count=sampled,
        )

    async def ListLogAnomalies(
        self, request: logs_pb2.ListLogAnomaliesRequest, context: Context
    ) -> logs_pb2.ListLogAnomaliesResponse:
        step = times.duration_ns(request.step) or _ANOMALY_STEP
        if step < _LEAST_ANOMALY_STEP:
            raise InvalidArgumentError(
                "step must be at least 10 s.", violations=(FieldViolation("step", "must be at least 10 s"),)
            )
        chosen, first, end = self._slice(request)
        found = await self._query.anomalies(chosen, step, remaining())
        return logs_pb2.ListLogAnomaliesResponse(
            anomalies=[convert.log_anomaly(anomaly) for anomaly in found[first:end]],
            next_page_token=_next_slice(request, chosen, end) if end < len(found) else "",
        )

    async def CreateLogPipeline(self, request: logs_pb2.CreateLogPipelineRequest, context: Context) -> NoReturn:
        _refuse_pipelines()

    async def GetLogPipeline(self, request: logs_pb2.GetLogPipelineRequest, context: Context) -> NoReturn:
        _refuse_pipelines()

    async def ListLogPipelines(self, request: logs_pb2.ListLogPipelinesRequest, context: Context) -> NoReturn:
        _refuse_pipelines()

    async def UpdateLogPipeline(self, request: logs_pb2.UpdateLogPipelineRequest, context: Context) -> NoReturn:
        _refuse_pipelines()

    async def DeleteLogPipeline(self, request: logs_pb2.DeleteLogPipelineRequest, context: Context) -> NoReturn:
        _refuse_pipelines()

    def _page(self, request: Any, *types: type) -> tuple[Selection, list[int]]:
        """The entries that a request is about, and where to go on. The first page fixes the range for all."""
        cursor = pages.decode_page_token(request, int, int, *types)
        if cursor is None:
            return convert.selection(request, tenant(), self._clock()), []
        start, end, *further = cursor
        if not 0 <= start < end < _LATEST_NS or any(value >= _LATEST_NS for value in further):
            raise pages.invalid_page_token()
        return Selection(tenant(), request.filter, start, end), further

    def _slice(self, request: Any) -> tuple[Selection, int, int]:
        chosen, further = self._page(request, int)
        first = further[0] if further else 0
        return chosen, first, first + (request.page_size or _DEFAULT_PAGE)


def _next_slice(request: Any, chosen: Selection, end: int) -> str:
    return pages.encode_page_token(request, [chosen.start, chosen.end, end])


def _refuse_pipelines() -> NoReturn:
    raise UnimplementedError(
        "Parsing pipelines are not part of this version. Send entries with their fields in `labels` and `metadata`."
    )
