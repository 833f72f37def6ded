"""A question costs ClickHouse no more statements than it must: in-process, the driver may run many for its settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.shared.clickhouse.client import ClickHouse

_COUNT = "SELECT value AS n FROM system.events WHERE event = 'Query'"


def test_a_query_is_one_statement(tmp_path: Path) -> None:
    async def ask() -> int:
        clickhouse = ClickHouse(f"chdb://{tmp_path}", query_threads=1)
        await clickhouse.open()
        # The first one opens the client of its thread.
        for _ in range(2):
            (before,) = await clickhouse.rows(_COUNT, timeout=30.0)
        (after,) = await clickhouse.rows(_COUNT, timeout=30.0)
        await clickhouse.close()
        return int(after["n"] - before["n"])

    assert asyncio.run(ask()) == 1


def test_limits_hold_though_they_are_part_of_the_text(tmp_path: Path) -> None:
    async def ask() -> list[str]:
        clickhouse = ClickHouse(f"chdb://{tmp_path}", query_threads=1)
        await clickhouse.open()
        rows = await clickhouse.rows(
            "SELECT name, value FROM system.settings "
            "WHERE name IN ('max_result_rows', 'max_execution_time', 'result_overflow_mode') AND changed ORDER BY name",
            timeout=30.0,
        )
        await clickhouse.close()
        return [row["name"] for row in rows if row["value"] not in ("", "0")]

    assert asyncio.run(ask()) == ["max_execution_time", "max_result_rows", "result_overflow_mode"]
