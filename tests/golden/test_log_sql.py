"""The SQL of log queries, as it was read and agreed. `UPDATE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import pytest

from services.logs.model import CountQuery, Cursor, SearchQuery, Selection
from services.logs.query import SCHEMA
from services.logs.store.adapters import clickhouse_sql
from services.shared.filter import read_filter
from services.shared.filter.clickhouse import PAIR_INDEX, TEXT_INDEX

FOLDER = Path(__file__).parent / "logs"
MINUTE = 60_000_000_000
START = 1_790_000_040_000_000_000


def selection(text: str = "", start: int = START) -> Selection:
    return Selection("default", text, start, START + 60 * MINUTE)


def search(query: SearchQuery) -> clickhouse_sql.Statement:
    return clickhouse_sql.search(query, read_filter(query.selection.filter, SCHEMA))


def count(query: CountQuery) -> clickhouse_sql.Statement:
    return clickhouse_sql.count(query, read_filter(query.selection.filter, SCHEMA))


CURSOR = Cursor(START + 5, 7 << 24)
CASES = {
    "search_newest": search(SearchQuery(selection('service = "결제" level >= WARN'), True, 51)),
    "search_newest_next_page": search(SearchQuery(selection("timeout"), True, 51, CURSOR)),
    "search_oldest_next_page": search(
        SearchQuery(selection('metadata.code = 5 labels.env != "dev"'), False, 51, CURSOR)
    ),
    "search_backlog": search(SearchQuery(selection(), True, 10, arrived=((0, 9 << 18),))),
    "tail": clickhouse_sql.tail("default", read_filter("서비 -level = DEBUG", SCHEMA), ((1, 2), (9, 12)), 200),
    "count_by_level_from_the_rollup": count(CountQuery(selection("service = a"), MINUTE, ("level", "service"))),
    "count_with_cut_minutes": count(CountQuery(selection("", START - 1), 5 * MINUTE, ("level",))),
    "count_by_label_with_text": count(CountQuery(selection("refused"), 10**9, ("labels.k8s.pod", "service"))),
    "count_in_all": count(CountQuery(selection(), MINUTE, ())),
    "sample": clickhouse_sql.sample(selection("level = ERROR"), read_filter("level = ERROR", SCHEMA), 10_000),
}


@pytest.mark.parametrize("name", CASES)
def test_sql(name: str) -> None:
    sql, parameters = CASES[name]
    text = sql + "\n\n" + "\n".join(f"-- {key} = {parameters[key]!r}" for key in sorted(parameters)) + "\n"
    file = FOLDER / f"{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


def test_every_golden_file_has_a_case() -> None:
    assert {file.stem for file in FOLDER.glob("*.sql")} == set(CASES)


def test_the_message_has_the_index_that_full_text_is_compiled_for() -> None:
    migrations = files("services.logs.store") / "sql"
    assert TEXT_INDEX.format(column="message") in (migrations / "0001_logs.sql").read_text()
    added = PAIR_INDEX.format(column="message").replace("INDEX ", "ADD INDEX IF NOT EXISTS ", 1)
    assert added in (migrations / "0006_cheaper_pairs.sql").read_text()
