"""What the evaluator asks, answered by the real metrics service over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airis.client import AirisClient
from airis.common.v1 import ingest_pb2
from airis.metrics.v1 import metrics_pb2
from service_process import free_port

from services.alerts.evaluate import group_key
from services.alerts.model import Aggregation, Condition, Source
from services.alerts.signals.adapters.airis_client import ClientSignals
from services.config import Configuration
from services.metrics.app import build
from services.metrics.config import MetricsConfig
from services.shared.errors import InvalidArgumentError, UnavailableError

A, B = group_key({"host": "a"}), group_key({"host": "b"})


@pytest.fixture
async def metrics(tmp_path: Path) -> AsyncIterator[AirisClient]:
    config = MetricsConfig(grpc_port=free_port(), http_port=free_port())
    application = build(Configuration(metrics=config, data_dir=tmp_path))
    await application.start()
    async with AirisClient(f"127.0.0.1:{config.grpc_port}") as client:
        yield client
    await application.stop()


async def test_every_aggregation_of_a_window_is_that_of_exactly_its_points(metrics: AirisClient) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    points = []
    for second in range(120):
        for factor, host in enumerate("ab", 1):
            labels = {"host": host, "zone": "z"}
            point = metrics_pb2.Metric(name="jobs", value=factor * second, labels=labels, kind="COUNTER")
            point.timestamp.FromDatetime(now - timedelta(seconds=120 - second))
            points.append(point)
    await metrics.metrics.ingest(points, wait_for=ingest_pb2.Acknowledgement.QUERYABLE)
    signals = ClientSignals(metrics, timeout=10, max_groups=100)

    async def read(function: Aggregation, end: datetime = now, filter_text: str = "") -> dict[object, float]:
        condition = Condition(
            Source.METRIC, "jobs", filter=filter_text, aggregation=function, quantile=1.0, window=timedelta(minutes=1)
        )
        return dict((await signals.read("default", condition, ["labels.host"], end)).values)

    window = range(60, 120)
    expected = {
        Aggregation.SUM: sum(window),
        Aggregation.AVG: sum(window) / 60,
        Aggregation.MIN: 60,
        Aggregation.MAX: 119,
        Aggregation.COUNT: None,
        Aggregation.LAST: 119,
        Aggregation.RATE: 1.0,
        Aggregation.INCREASE: 60,
        Aggregation.QUANTILE: 119,
    }
    for function, value in expected.items():
        pair = (60, 60) if value is None else (value, 2 * value)
        assert await read(function) == {A: pytest.approx(pair[0]), B: pytest.approx(pair[1])}, function
    assert await read(Aggregation.MAX, filter_text='host = "b"') == {B: 238}
    assert await read(Aggregation.MAX, now - timedelta(seconds=30)) == {A: 89, B: 178}
    assert await read(Aggregation.AVG, now - timedelta(days=1)) == {}
    with pytest.raises(InvalidArgumentError, match="Metrics answered INVALID_ARGUMENT"):
        await read(Aggregation.AVG, filter_text="((")


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    async with AirisClient(f"127.0.0.1:{free_port()}") as client:
        signals = ClientSignals(client, timeout=5, max_groups=100)
        with pytest.raises(UnavailableError, match="Logs answered UNAVAILABLE"):
            await signals.read(
                "default", Condition(Source.LOGS, "x", aggregation=Aggregation.COUNT), [], datetime.now(UTC)
            )
