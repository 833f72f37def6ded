"""The servicer: convert, call ingest or query, convert back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from airis.metrics.v1 import metrics_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from services.metrics import convert
from services.metrics.ingest import MetricIngest
from services.metrics.query import MetricQuery
from services.shared.rpc import pages, times
from services.shared.rpc.context import QUERY_SECONDS, Context, remaining, tenant
from services.shared.rpc.ingest_methods import IngestContract, IngestMethods
from services.shared.rpc.watching import Limits, ticks

DOMAIN = "metrics.airis"
RAW = frozenset({"IngestMetrics", "StreamMetrics"})

_DEFAULT_PAGE = 100
_WATCH_INTERVAL = 10.0

INGEST = IngestContract(
    DOMAIN,
    unary=(metrics_pb2.IngestMetricsRequest, metrics_pb2.IngestMetricsResponse),
    stream=(metrics_pb2.StreamMetricsRequest, metrics_pb2.StreamMetricsResponse),
    otlp=(metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
    refused="rejected_data_points",
)


class MetricsServicer:
    """Answers `airis.metrics.v1.MetricsService`.

    Args:
        ingest: Takes points.
        query: Answers questions.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, ingest: MetricIngest, query: MetricQuery, clock: Callable[[], int]) -> None:
        self.ingest = IngestMethods(INGEST, ingest)
        self._query = query
        self._clock = clock

    async def IngestMetrics(self, payload: bytes, context: Context) -> metrics_pb2.IngestMetricsResponse:
        return await self.ingest.unary(payload)

    def StreamMetrics(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[metrics_pb2.StreamMetricsResponse]:
        return self.ingest.stream(requests)

    async def QueryMetrics(
        self, request: metrics_pb2.QueryMetricsRequest, context: Context
    ) -> metrics_pb2.QueryMetricsResponse:
        now = self._clock()
        query = convert.range_query(request, tenant(), now)
        result = await self._query.query(query, now // times.MILLISECOND_NS, remaining())
        return convert.query_response(result)

    async def ListMetrics(
        self, request: metrics_pb2.ListMetricsRequest, context: Context
    ) -> metrics_pb2.ListMetricsResponse:
        size = request.page_size or _DEFAULT_PAGE
        (after,) = pages.decode_page_token(request, str) or [""]
        found = await self._query.metrics(tenant(), request.filter, after, size + 1, remaining())
        return metrics_pb2.ListMetricsResponse(
            metrics=[convert.metric_descriptor(item) for item in found[:size]],
            next_page_token=pages.encode_page_token(request, [found[size - 1].metric]) if len(found) > size else "",
        )

    async def ListLabels(
        self, request: metrics_pb2.ListLabelsRequest, context: Context
    ) -> metrics_pb2.ListLabelsResponse:
        size = request.page_size or _DEFAULT_PAGE
        (after,) = pages.decode_page_token(request, str) or [""]
        found = await self._query.labels(tenant(), request.metric, request.filter, after, size + 1, remaining())
        return metrics_pb2.ListLabelsResponse(
            labels=[convert.label(item) for item in found[:size]],
            next_page_token=pages.encode_page_token(request, [found[size - 1].key]) if len(found) > size else "",
        )

    async def ListSeries(
        self, request: metrics_pb2.ListSeriesRequest, context: Context
    ) -> metrics_pb2.ListSeriesResponse:
        size = request.page_size or _DEFAULT_PAGE
        (after,) = pages.decode_page_token(request, int) or [-1]
        found = await self._query.series(tenant(), request.metric, request.filter, after, size + 1, remaining())
        return metrics_pb2.ListSeriesResponse(
            series=[convert.series(item) for item in found[:size]],
            next_page_token=pages.encode_page_token(request, [found[size - 1].series_id]) if len(found) > size else "",
        )

    async def WatchMetrics(
        self, request: metrics_pb2.WatchMetricsRequest, context: Context
    ) -> AsyncIterator[metrics_pb2.WatchMetricsResponse]:
        limits = Limits.of(request, context, rest_count=10, rest_seconds=60.0)
        interval = times.duration_ns(request.interval) / 1e9 or _WATCH_INTERVAL
        asked = convert.range_query(request.query, tenant(), self._clock())
        width_ns = (asked.end - asked.start) * times.MILLISECOND_NS
        async for _ in ticks(interval, limits, asyncio.get_running_loop().time):
            now = self._clock()
            query = metrics_pb2.QueryMetricsRequest()
            query.CopyFrom(request.query)
            query.start_time.CopyFrom(times.to_timestamp(now - width_ns))
            query.end_time.CopyFrom(times.to_timestamp(now))
            result = await self._query.query(
                convert.range_query(query, tenant(), now), now // times.MILLISECOND_NS, QUERY_SECONDS
            )
            yield metrics_pb2.WatchMetricsResponse(
                result=convert.query_response(result), evaluation_time=times.to_timestamp(now)
            )
