"""A result that is bounded in bytes is refused beyond them, also where ClickHouse itself has it in less room."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_world import ENGINES, dsn_of, opened

from services.shared.errors import ResourceExhaustedError

MOST = 1024 * 1024
TOO_LARGE = {
    "plain texts": "SELECT leftPad(toString(number), 1000, 'x') AS text FROM numbers({rows})",
    "one text in a dictionary": "SELECT toLowCardinality(materialize(repeat('x', 1000))) AS text FROM numbers({rows})",
    "keys in a dictionary": "SELECT CAST(map(repeat('k', 1000), toString(number)), "
    "'Map(LowCardinality(String), String)') AS texts FROM numbers({rows})",
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", TOO_LARGE)
async def test_a_result_of_more_bytes_than_allowed_is_refused(
    engine: str, how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        small, large = (TOO_LARGE[how].format(rows=rows) for rows in (500, 5000))
        assert (await clickhouse.query(small, timeout=30, max_bytes=MOST)).num_rows == 500
        with pytest.raises(ResourceExhaustedError) as refused:
            await clickhouse.query(large, timeout=30, max_bytes=MOST)
        assert refused.value.reason == "RESULT_TOO_LARGE"
        assert (await clickhouse.query(large, timeout=30)).num_rows == 5000
