"""How long figures are kept: never shorter than what they are figures of, in whose place they answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from clickhouse_world import opened

from services.metrics.config import MetricsConfig
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.clickhouse.client import ClickHouse
from services.traces.config import TracesConfig
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore


async def kept_days(clickhouse: ClickHouse, tables: Sequence[str]) -> list[int]:
    rows = await clickhouse.rows(
        "SELECT name, toUInt32(extract(create_table_query, 'TTL .*toIntervalDay\\\\((\\\\d+)\\\\)')) AS days "
        "FROM system.tables WHERE database = 'airis' AND has({tables:Array(String)}, name)",
        {"tables": list(tables)},
        timeout=30.0,
    )
    days = {row["name"]: row["days"] for row in rows}
    return [days[table] for table in tables]


@pytest.mark.parametrize(("raw", "rollup", "kept"), [(365, 180, 365), (90, 180, 180)])
async def test_figures_are_kept_at_least_as_long_as_what_they_are_of(
    tmp_path: Path, raw: int, rollup: int, kept: int
) -> None:
    async with opened(f"chdb://{tmp_path}") as clickhouse:
        metrics = MetricsConfig(raw_retention_days=raw, rollup_retention_days=rollup)
        await ClickHouseMetricStore(clickhouse, metrics).open()
        tables = ["samples", "samples_1m", "samples_1h", "series"]
        assert await kept_days(clickhouse, tables) == [raw, kept, kept, kept + 2]
        traces = TracesConfig(raw_retention_days=raw, rollup_retention_days=rollup)
        await ClickHouseTraceStore(clickhouse, traces).open()
        tables = ["spans", "traces", "span_red_1m", "service_edges_1m"]
        assert await kept_days(clickhouse, tables) == [raw, raw, kept, kept]
