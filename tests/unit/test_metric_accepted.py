"""What is accepted, and that it is stored, whatever the limits of the worker are."""

from __future__ import annotations

from airis.metrics.v1 import metrics_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from services.metrics import convert
from services.metrics.config import MetricsConfig
from services.metrics.distributions import MOST_BUCKETS
from services.metrics.ingest import Checker
from services.metrics.series import SeriesIndex
from services.shared.bus.port import Header

NOW = 1_790_000_000_000_000_000


def test_a_worker_with_lower_limits_stores_what_was_accepted() -> None:
    request = metrics_pb2.IngestMetricsRequest()
    for count in (1, 10, 65):
        request.metrics.add(name="cpu", value=1.0, labels={f"label{n}": "value" for n in range(count)})
    payload = request.SerializeToString()
    points = convert.read(convert.UNARY, [payload]).items
    checked = Checker(MetricsConfig(max_labels=64), SeriesIndex()).check(points, "default", NOW)
    assert set(checked.rejected) == {2}

    header = Header("default", convert.UNARY, NOW, 2, rejected=tuple(checked.rejected))
    points = convert.read(convert.UNARY, [payload]).items
    stored = Checker(MetricsConfig(max_labels=5), SeriesIndex()).columns(points, header)
    assert stored.samples.equals(checked.columns.samples)
    assert stored.series == checked.columns.series


def test_a_histogram_of_more_buckets_than_anybody_can_read_is_refused() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="latency").exponential_histogram
    metric.aggregation_temporality = 2
    for buckets in (MOST_BUCKETS, MOST_BUCKETS + 1):
        point = metric.data_points.add(time_unix_nano=NOW, count=1)
        point.positive.bucket_counts.extend([0] * (buckets - 1) + [1])
    points = convert.read(convert.OTLP, [request.SerializeToString()]).items
    checked = Checker(MetricsConfig(), SeriesIndex()).check(points, "default", NOW)
    assert {at: violation.reason for at, violation in checked.rejected.items()} == {1: "SIZE_LIMIT_EXCEEDED"}
