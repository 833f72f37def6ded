"""Data of every signal on its way into ClickHouse, and how much of it is in each table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from airis.logs.v1 import logs_pb2
from trace_world import columns_of

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import LogColumns
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.metrics.config import MetricsConfig
from services.metrics.model import MetricColumns, SeriesRow
from services.metrics.series import series_id
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.bus.port import Header, Position
from services.shared.clickhouse.client import ClickHouse
from services.traces.config import TracesConfig
from services.traces.model import Span
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

NOW = 1_790_000_000_000_000_000
ROWS = 50
# Their moments are long ago, some day.
METRICS = MetricsConfig(raw_retention_days=3650, rollup_retention_days=3650)
TRACES = TracesConfig(raw_retention_days=3650, rollup_retention_days=3650)


@dataclass(frozen=True)
class Signal:
    """One signal's store.

    Attributes:
        open: Makes its tables.
        write_batches: Stores one insert under a token: these batches, each of `ROWS` rows; perhaps as one that was cut
            off before.
        figures: What counts the rows in each table; all are equal when each insert is there once. The first table is
            written, the others are filled from it.
    """

    name: str
    open: Callable[[], Awaitable[None]]
    write_batches: Callable[[str, Sequence[int], bool], Awaitable[object]]
    figures: dict[str, str]

    async def write(self, number: int, is_repeated: bool = False) -> None:
        """Stores insert number n, of one batch, under a token of its own."""
        await self.write_batches(f"token-{number}", [number], is_repeated)


def signals(clickhouse: ClickHouse) -> list[Signal]:
    """All of them on one pool."""
    metrics = ClickHouseMetricStore(clickhouse, METRICS)
    logs = ClickHouseLogStore(clickhouse, LogsConfig(raw_retention_days=3650))
    traces = ClickHouseTraceStore(clickhouse, TRACES)
    return [
        Signal(
            "metrics",
            metrics.open,
            lambda token, numbers, again: metrics.write([(header(n), points(n)) for n in numbers], token, again),
            {"samples": "count()", "samples_1m": "sum(count)", "samples_1h": "sum(count)"},
        ),
        Signal(
            "logs",
            logs.open,
            lambda token, numbers, again: logs.write(
                [(Position(n + 1), header(n), _entries(n)) for n in numbers], token, again
            ),
            {"logs": "count()", "logs_1m": "sum(count)"},
        ),
        Signal(
            "traces",
            traces.open,
            lambda token, numbers, again: traces.write(
                [(header(n), columns_of(_spans(n), NOW)) for n in numbers], token, again
            ),
            {"spans": "count()", "traces": "sum(span_count)", "span_red_1m": "sum(count)"},
        ),
    ]


async def stored(clickhouse: ClickHouse, signal: Signal) -> dict[str, int]:
    """The rows in each table of a signal."""
    return {
        table: (await clickhouse.rows(f"SELECT {figure} AS n FROM airis.{table}", timeout=30))[0]["n"]
        for table, figure in signal.figures.items()
    }


def header(number: int) -> Header:
    """That of insert number n."""
    return Header("default", convert.UNARY, NOW, ROWS, request_id=f"request-{number}")


def points(number: int, metric: str = "cpu") -> MetricColumns:
    """Points of one series, a second apart."""
    first = NOW // 1_000_000 + number * ROWS * 1000
    identity = series_id("default", metric, "GAUGE", "", {"host": "a"})
    times = pa.array([first + row * 1000 for row in range(ROWS)], pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    samples = pa.table(
        {
            "tenant": ["default"] * ROWS,
            "metric": [metric] * ROWS,
            "series_id": pa.array([identity] * ROWS, pa.uint64()),
            "timestamp": times,
            "start_time": pa.array([0] * ROWS, pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            "value": [float(row) for row in range(ROWS)],
        }
    )
    row = SeriesRow("default", metric, identity, "GAUGE", "", {"host": "a"}, "")
    return MetricColumns(samples, pa.table({"tenant": pa.array([], pa.string())}), [row])


def _entries(number: int) -> LogColumns:
    request = logs_pb2.IngestLogsRequest()
    for row in range(ROWS):
        entry = request.entries.add(message=f"line {row} of {number}", level=2, service="shop")
        entry.timestamp.FromNanoseconds(NOW - (number * ROWS + row) * 1_000_000)
    records = convert.read(convert.UNARY, [request.SerializeToString()]).items
    return Checker(LogsConfig()).check(records, "default", NOW).columns


def _spans(number: int) -> list[Span]:
    start = NOW - (number * ROWS + 100) * 1_000_000
    return [
        Span(f"{number + 1:032x}", f"{row + 1:016x}", "", "GET /", "web", start + row, start + row + 1000)
        for row in range(ROWS)
    ]
