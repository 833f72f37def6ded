"""An insert of many months, and one of more text than a column of small offsets holds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_signals import NOW, ROWS, signals, stored
from clickhouse_world import ENGINES, dsn_of, opened

from services.shared.clickhouse import blocks

# The server allows 100, if nothing else is said.
MONTHS = 101


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_insert_may_touch_as_many_months_as_data_is_kept(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    times = pa.array([NOW // 10**9 + number * 31 * 86_400 for number in range(MONTHS)], pa.int64())
    rows = pa.table({"tenant": ["default"] * MONTHS, "metric": ["cpu"] * MONTHS, "timestamp": times})
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        await signals(clickhouse)[0].open()
        await clickhouse.insert("distributions", rows)
        (found,) = await clickhouse.rows("SELECT uniq(_partition_id) AS n FROM airis.distributions", timeout=60)
    assert found["n"] == MONTHS


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_insert_of_more_text_than_small_offsets_reach_is_the_same_to_a_repetition_of_less(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            with monkeypatch.context() as little:
                # In place of 2 GiB, which would take many times that.
                little.setattr(blocks, "_MOST_SMALL_TEXT", 0)
                await signal.write_batches("token", [1, 2, 3], False)
            await signal.write_batches("token", [2, 3], False)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, 3 * ROWS), signal.name
