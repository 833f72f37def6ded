"""A query that fails, however far it came, leaves nothing to those that come after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_world import ENGINES, dsn_of, opened

from services.shared.errors import AirisError

FAILING = {
    "amid its rows": "SELECT throwIf(number > 100000) FROM numbers(300000)",
    "at its deadline": "SELECT sum(cityHash64(number)) FROM system.numbers",
    "for too many rows": "SELECT number FROM numbers(3000000)",
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", FAILING)
async def test_after_a_query_that_failed_the_next_are_answered(
    engine: str, how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for _ in range(3):
            for _ in range(2):
                with pytest.raises(AirisError):
                    await clickhouse.query(FAILING[how], timeout=0.3)
            for _ in range(4):
                assert await clickhouse.rows("SELECT 1 AS one", timeout=30) == [{"one": 1}]
