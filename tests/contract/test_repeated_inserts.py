"""An insert that is repeated under its token stores nothing again, also if only a part of it is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_signals import ROWS, signals, stored
from clickhouse_world import ENGINES, dsn_of, opened


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_repetition_without_the_batches_that_are_known_by_their_ids_stores_nothing(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await signal.write_batches("token", [1, 2, 3], False)
            for left in ([2, 3], [3], [1], [1, 2, 3]):
                await signal.write_batches("token", left, False)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, 3 * ROWS), signal.name


@pytest.mark.parametrize("engine", ENGINES)
async def test_every_table_remembers_as_many_inserts(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """To fill one takes minutes; that a table keeps to its window is ClickHouse's own."""
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
        rows = await clickhouse.rows(
            "SELECT name, extract(create_table_query, 'non_replicated_deduplication_window = (\\\\d+)') AS window "
            "FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'",
            {"database": clickhouse.database},
            timeout=30,
        )
    windows = {row["name"]: row["window"] for row in rows}
    assert {windows.pop(table) for table in ("migrations", "service_edges_1m")} == {""}
    assert windows == dict.fromkeys(windows, "10000")
