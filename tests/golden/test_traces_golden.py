"""The SQL of each trace query in `traces/sql.json`, character by character.

After a change that is meant, run with UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.shared.filter import read_filter
from services.traces.model import LatencyQuery, TraceOrder, TraceSearch
from services.traces.query import SCHEMA
from services.traces.store.adapters import clickhouse_sql

GOLDEN = Path(__file__).parent / "traces" / "sql.json"
MINUTE = 60_000_000_000
START = 1_790_000_000_000_000_000
END = START + 60 * MINUTE
INJECTION = """service = "'; DROP TABLE x --" tags."') OR 1=1 --" = "{p0:String}" """


def search(text: str, order: TraceOrder, after: tuple[int, str] | None = None, begin: int = START) -> Any:
    asked = TraceSearch("default", text, START, END, order, after, 21)
    return clickhouse_sql.search(asked, read_filter(text, SCHEMA), begin)


def latency(operation: str, start: int = START, end: int = END) -> Any:
    return clickhouse_sql.latency(LatencyQuery("default", "shop", operation, start, end, 5 * MINUTE))


CASES: dict[str, Any] = {
    "trace": clickhouse_sql.trace("default", "ab" * 16, 10_001),
    "outlines": clickhouse_sql.outlines("default", ["ab" * 16, "cd" * 16], START, END),
    "search_newest": search("service = cart status = ERROR duration > 100ms", TraceOrder.NEWEST),
    "search_newest_window": search("", TraceOrder.NEWEST, (END - MINUTE, "ab" * 16), END - 9 * MINUTE),
    "search_oldest": search("checkout kind = CLIENT", TraceOrder.OLDEST, (START, "ab" * 16)),
    "search_longest": search("tags.http.status_code >= 500 tags.a = b", TraceOrder.LONGEST, (5, "ab" * 16)),
    "search_injection": search(INJECTION, TraceOrder.NEWEST),
    "services": clickhouse_sql.services("default", START, END, "cart", 101),
    "services_whole_minutes": clickhouse_sql.services(
        "default", START // MINUTE * MINUTE, END // MINUTE * MINUTE, "", 9
    ),
    "services_within_a_minute": clickhouse_sql.services("default", START, START + 5, "", 9),
    "operations": clickhouse_sql.operations("default", "shop", START, END, ("GET /", 2), 101),
    "latency": latency(""),
    "latency_of_an_operation": latency("GET /"),
    "edges": clickhouse_sql.edges("default", START, END, 101),
    "refresh_edges": clickhouse_sql.refresh_edges(START // MINUTE, START // MINUTE + 2, 600),
}


def rendered(name: str) -> dict[str, Any]:
    sql, parameters = CASES[name]
    return {"sql": sql.split("\n"), "parameters": parameters}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if os.environ.get("UPDATE_GOLDEN"):
        text = json.dumps({name: rendered(name) for name in CASES}, ensure_ascii=False, indent=2)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    loaded: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", CASES)
def test_the_sql_of_a_trace_query_is_the_golden_one(name: str, golden: dict[str, Any]) -> None:
    assert rendered(name) == golden.get(name)


def test_no_golden_of_traces_is_an_orphan(golden: dict[str, Any]) -> None:
    assert list(golden) == list(CASES)
    assert [path.name for path in GOLDEN.parent.iterdir()] == [GOLDEN.name]


def test_nothing_of_a_user_is_in_the_sql_of_a_trace_query() -> None:
    sql, _ = CASES["search_injection"]
    assert "DROP" not in sql
    assert "1=1" not in sql
