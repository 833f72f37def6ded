"""The SQL of metric queries, as it was read and agreed. `UPDATE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.metrics.model import Aggregation, RangeQuery
from services.metrics.query import SCHEMA, plan
from services.metrics.store.adapters import clickhouse_sql
from services.shared.filter import read_filter

FOLDER = Path(__file__).parent / "metrics"
HOUR = 3_600_000


def question(aggregation: Aggregation, step: int, filter_text: str = "", group_by: tuple[str, ...] = ()) -> RangeQuery:
    start = 1_790_000_000_000
    return RangeQuery("default", "cpu", filter_text, start, start + 5 * HOUR, step, aggregation, 0.95, group_by, 1000)


CASES = {
    "average_by_host_hourly": question(Aggregation.AVG, HOUR, "", ("host",)),
    "sum_minutely_filtered": question(Aggregation.SUM, 60_000, 'host = "a" AND NOT path : "/health"'),
    "last_raw": question(Aggregation.LAST, 5_000),
    "maximum_over_the_range": question(Aggregation.MAX, 0),
    "rate_by_host": question(Aggregation.RATE, 60_000, "", ("host",)),
    "increase_over_the_range": question(Aggregation.INCREASE, 0),
    "quantile": question(Aggregation.QUANTILE, 60_000, "kind = GAUGE"),
}


@pytest.mark.parametrize("name", CASES)
def test_sql(name: str) -> None:
    query = CASES[name]
    sql, parameters = clickhouse_sql.aggregate(query, plan(query), read_filter(query.filter, SCHEMA))
    text = sql + "\n\n" + "\n".join(f"-- {key} = {parameters[key]!r}" for key in sorted(parameters)) + "\n"
    file = FOLDER / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


def test_every_golden_file_has_a_case() -> None:
    assert {file.stem for file in FOLDER.glob("*.sql")} == set(CASES)
