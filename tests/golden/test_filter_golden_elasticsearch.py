"""The Elasticsearch query of each filter in `filter_elasticsearch/queries.json`.

After a change that is meant, run with UPDATE_GOLDEN=1 and read the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.logs.query import SCHEMA
from services.logs.store.adapters.elasticsearch_template import TEXTS
from services.shared.filter import read_filter
from services.shared.filter.elasticsearch import compile_elasticsearch

GOLDEN = Path(__file__).parent / "filter_elasticsearch" / "queries.json"
CASES: dict[str, str] = {
    "nothing": "",
    "precedence": "level >= WARN timeout OR trace_id = AB12 -status_code = 500",
    "flattened": "(a (b (c d))) OR (e OR (f OR g)) NOT (NOT h)",
    "word": "timeout",
    "korean_word": "서비",
    "phrase": '"connection refused: 10.0.0.1"',
    "open_words": "conn* *exception *efuse*",
    "open_in_several_pieces": "*order_id*",
    "sigma": '"ΛΟΓΟΣ"',
    "message_contains": "message : order_id",
    "message_compared": 'message = "done" message = "*a?b*" message < c',
    "stack_trace": "stack_trace : NullPointer stack_trace = *x stack_trace:*",
    "string": 'service = pay service != b service > c service = "" service < d',
    "string_wildcards": 'url = a* url = *b url = "*c*d\\*" url:D+.é user_id:*',
    "enum": "level = info level != DEBUG level < DEBUG level:*",
    "id": "trace_id = 0AF7* trace_id:*",
    "numbers": "status_code >= 500 status_code < -5 status_code < 5 status_code:*",
    "duration": "duration >= 1.5s duration < 100us duration = 0s",
    "timestamp": "timestamp >= 2026-01-31T09:00:00Z timestamp < 1969-01-01T00:00:00Z timestamp:*",
    "labels": 'labels."k8s.pod/name" = a labels.b != c labels.d = "" labels.e < f labels:g labels:*',
    "odd_keys": 'labels." " = a labels."%" = b',
    "typed_number": "metadata.code >= 500 metadata.ratio < 0.5 metadata.big > 9007199254740993 metadata.zero = 0",
    "typed_others": 'metadata.hit = true metadata.code = "500" metadata.text : Ab metadata:key metadata:*',
    "injection": r"""service = "\"}}]}, \"match_all\": {}" labels."') OR 1=1 --" = "*\*\\" """,
}


def compiled(text: str) -> dict[str, Any]:
    return {"filter": text, "query": compile_elasticsearch(read_filter(text, SCHEMA), texts=TEXTS)}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if os.environ.get("UPDATE_GOLDEN"):
        cases = {name: compiled(text) for name, text in CASES.items()}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    loaded: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", CASES)
def test_the_query_is_the_golden_one(name: str, golden: dict[str, Any]) -> None:
    assert compiled(CASES[name]) == golden.get(name)


def test_no_golden_is_an_orphan(golden: dict[str, Any]) -> None:
    assert list(golden) == list(CASES)
    assert [path.name for path in GOLDEN.parent.iterdir()] == [GOLDEN.name]
