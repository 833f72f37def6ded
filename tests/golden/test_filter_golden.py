"""The ClickHouse condition of each filter in `filter/clickhouse.json`, character by character.

After a change that is meant, run with UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.shared.filter import Field, Kind, Schema, TypedColumns, read_filter
from services.shared.filter.clickhouse import compile_clickhouse

GOLDEN = Path(__file__).parent / "filter" / "clickhouse.json"
SCHEMA = Schema.of(
    [
        Field("message", Kind.STRING, text_index=True),
        Field("operation", Kind.STRING, column="operation_name"),
        Field("level", Kind.ENUM, enum=(("DEBUG", 1), ("INFO", 2), ("WARN", 3), ("ERROR", 4), ("FATAL", 5))),
        Field("severity", Kind.ENUM, enum=(("LOW", 1), ("HIGH", 2)), enum_by_name=True),
        Field("trace_id", Kind.ID),
        Field("status_code", Kind.INTEGER),
        Field("score", Kind.NUMBER, nullable=True),
        Field("duration", Kind.DURATION, column="duration_ms", unit_nanoseconds=1_000_000),
        Field("timestamp", Kind.TIMESTAMP),
        Field("enabled", Kind.BOOLEAN),
        Field("labels", Kind.LABEL_MAP),
        Field("tags", Kind.TYPED_MAP, columns=TypedColumns.of("attribute", rest="attribute_encoded")),
    ],
    full_text=["message"],
)
CASES: dict[str, str] = {
    "nothing": "",
    "precedence": "level >= WARN service_is_down OR trace_id = AB12 -status_code = 500",
    "string": 'operation = "GET /" operation != b operation > c',
    "string_wildcards": 'operation = a* operation = *b operation = "*c*" operation:D operation:*',
    "word": "timeout",
    "korean_word": "서비",
    "phrase": '"connection refused: 10.0.0.1"',
    "open_words": "conn* *exception",
    "no_tokens": '"---"',
    "message_contains": "message : order_id",
    "message_equals": 'message = "done"',
    "enum": "level = info level != DEBUG level < DEBUG level <= WARN level:*",
    "enum_by_name": "severity >= HIGH severity:*",
    "id": "trace_id = 0AF7* trace_id:*",
    "numbers": "status_code >= 500 status_code < -5 status_code:*",
    "nullable": "score > 0.5 score != 1 score:*",
    "duration": "duration >= 1.5s duration < 100us",
    "timestamp": "timestamp >= 2026-01-31T09:00:00Z timestamp:*",
    "boolean": "enabled = true",
    "labels": 'labels."k8s.pod/name" = a labels.b != c labels.d = "" labels.e < f labels:g labels:*',
    "typed_number": "tags.http.status_code >= 500 tags.ratio < 0.5",
    "typed_text": 'tags.a = "5" tags.b : X tags.c = true tags.d = false',
    "typed_presence": "tags:a tags.b:* tags:*",
    "injection": r"""operation = "'; DROP TABLE x --" labels."') OR 1=1 --" = "{p0:String}" "\\') OR 1" """,
}


def compiled(text: str) -> dict[str, Any]:
    result = compile_clickhouse(read_filter(text, SCHEMA))
    return {"filter": text, "sql": result.sql, "parameters": result.parameters}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if os.environ.get("UPDATE_GOLDEN"):
        cases = {name: compiled(text) for name, text in CASES.items()}
        GOLDEN.write_text(json.dumps(cases, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    loaded: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", CASES)
def test_the_condition_is_the_golden_one(name: str, golden: dict[str, Any]) -> None:
    assert compiled(CASES[name]) == golden.get(name)


def test_no_golden_is_an_orphan(golden: dict[str, Any]) -> None:
    assert list(golden) == list(CASES)
    assert [path.name for path in GOLDEN.parent.iterdir()] == [GOLDEN.name]


def test_nothing_of_the_user_is_in_the_sql() -> None:
    sql = compiled(CASES["injection"])["sql"]
    assert "DROP" not in sql
    assert "1=1" not in sql


def test_the_prefix_names_the_parameters() -> None:
    result = compile_clickhouse(read_filter("status_code = 1 level = WARN", SCHEMA), prefix="filter_")
    assert list(result.parameters) == ["filter_0", "filter_1"]
    assert result.sql == "(status_code = {filter_0:Int64} AND level IN {filter_1:Array(Int64)})"
