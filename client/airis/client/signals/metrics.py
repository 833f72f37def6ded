"""MetricsService."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import grpc
from airis.client.calls import Calls
from airis.client.dialect import IngestDialect
from airis.client.paging import Paged
from airis.client.signals.ingest import Ingesting
from airis.client.times import Length, Moment, duration, timestamp
from airis.common.v1 import aggregation_pb2
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc

Aggregation = aggregation_pb2.Aggregation.Function

_SERVICE = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"]

DIALECT: IngestDialect[metrics_pb2.Metric] = IngestDialect(
    items="metrics",
    stream_method="StreamMetrics",
    stream_request=metrics_pb2.StreamMetricsRequest,
    stream_response=metrics_pb2.StreamMetricsResponse,
    unary_method="IngestMetrics",
    unary_request=metrics_pb2.IngestMetricsRequest,
    unary_response=metrics_pb2.IngestMetricsResponse,
)


class Metrics(Ingesting[metrics_pb2.Metric, metrics_pb2.IngestMetricsResponse]):
    """Sends, lists and queries metrics. Each call raises `AirisError` when it fails."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        calls = Calls(metrics_pb2_grpc.MetricsServiceStub(channel), _SERVICE, channel)
        super().__init__(calls, DIALECT, metrics_pb2.IngestMetricsResponse)

    async def query(
        self,
        metric: str,
        *,
        filter: str = "",
        start: Moment | None = None,
        end: Moment | None = None,
        step: Length | None = None,
        aggregation: Aggregation = aggregation_pb2.Aggregation.FUNCTION_UNSPECIFIED,
        quantile: float = 0.0,
        group_by: Iterable[str] = (),
        max_series: int = 0,
        timeout: float | None = None,
    ) -> metrics_pb2.QueryMetricsResponse:
        """Computes series of one metric over time.

        Args:
            metric: Its name.
            filter: Which series: `host = "a" AND NOT path : "/health"`; empty: all.
            start: The first moment; None: an hour before the end.
            end: The last moment, not included; None: now.
            step: The distance of the points; None: chosen to give about 120.
            aggregation: How the values of a step become one; unspecified: AVG.
            quantile: For QUANTILE, 0 to 1.
            group_by: The labels that keep groups apart.
            max_series: Groups at most; 0: 1,000.
            timeout: Seconds; None: the contract's.
        """
        request = query_request(
            metric,
            filter=filter,
            start=start,
            end=end,
            step=step,
            aggregation=aggregation,
            quantile=quantile,
            group_by=group_by,
            max_series=max_series,
        )
        return await self._calls.unary("QueryMetrics", request, metrics_pb2.QueryMetricsResponse, timeout)

    def list(
        self, *, filter: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[metrics_pb2.ListMetricsResponse, metrics_pb2.MetricDescriptor]:
        """The metrics that have data, by name; `filter` is over `metric`, `kind`, `unit` and `labels.<key>`."""

        async def fetch(token: str) -> metrics_pb2.ListMetricsResponse:
            request = metrics_pb2.ListMetricsRequest(filter=filter, page_size=page_size, page_token=token)
            return await self._calls.unary("ListMetrics", request, metrics_pb2.ListMetricsResponse, timeout)

        return Paged(fetch, "metrics", page_token)

    def labels(
        self, metric: str, *, filter: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[metrics_pb2.ListLabelsResponse, metrics_pb2.ListLabelsResponse.Label]:
        """The labels of a metric with their values."""

        async def fetch(token: str) -> metrics_pb2.ListLabelsResponse:
            request = metrics_pb2.ListLabelsRequest(metric=metric, filter=filter, page_size=page_size, page_token=token)
            return await self._calls.unary("ListLabels", request, metrics_pb2.ListLabelsResponse, timeout)

        return Paged(fetch, "labels", page_token)

    def series(
        self, metric: str, *, filter: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[metrics_pb2.ListSeriesResponse, metrics_pb2.Series]:
        """The series of a metric."""

        async def fetch(token: str) -> metrics_pb2.ListSeriesResponse:
            request = metrics_pb2.ListSeriesRequest(metric=metric, filter=filter, page_size=page_size, page_token=token)
            return await self._calls.unary("ListSeries", request, metrics_pb2.ListSeriesResponse, timeout)

        return Paged(fetch, "series", page_token)

    def watch(
        self,
        query: metrics_pb2.QueryMetricsRequest,
        *,
        interval: Length | None = None,
        max_count: int = 0,
        max_duration: Length | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[metrics_pb2.WatchMetricsResponse]:
        """The results of a query as time advances.

        Args:
            query: What to ask, see `query_request`; its range gives the length of each result's.
            interval: The time between results, 1 s or more; None: 10 s.
            max_count: Results at most; 0: no limit.
            max_duration: Ends after this time; None: no limit.
            timeout: Seconds; None: no limit.
        """
        request = metrics_pb2.WatchMetricsRequest(
            query=query, interval=duration(interval), max_count=max_count, max_duration=duration(max_duration)
        )
        return self._calls.stream("WatchMetrics", request, metrics_pb2.WatchMetricsResponse, timeout)


def query_request(
    metric: str,
    *,
    filter: str = "",
    start: Moment | None = None,
    end: Moment | None = None,
    step: Length | None = None,
    aggregation: Aggregation = aggregation_pb2.Aggregation.FUNCTION_UNSPECIFIED,
    quantile: float = 0.0,
    group_by: Iterable[str] = (),
    max_series: int = 0,
) -> metrics_pb2.QueryMetricsRequest:
    """The request of `Metrics.query`, for `Metrics.watch`."""
    return metrics_pb2.QueryMetricsRequest(
        metric=metric,
        filter=filter,
        start_time=timestamp(start),
        end_time=timestamp(end),
        step=duration(step),
        aggregation=aggregation,
        quantile=quantile,
        group_by=group_by,
        max_series=max_series,
    )
