"""What was accepted is stored, whatever the limits of the worker are."""

from __future__ import annotations

from airis.metrics.v1 import metrics_pb2

from services.metrics import convert
from services.metrics.config import MetricsConfig
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
