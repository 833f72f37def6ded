"""What Elasticsearch is asked and told: searches, counts, templates, the policy. `UPDATE_GOLDEN=1` writes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.logs.config import ElasticsearchConfig
from services.logs.model import CountQuery, Cursor, SearchQuery, Selection
from services.logs.query import SCHEMA
from services.logs.store.adapters import elasticsearch_queries as queries
from services.logs.store.adapters import elasticsearch_template as template
from services.shared.filter import read_filter

FOLDER = Path(__file__).parent / "logs_elasticsearch"
MINUTE = 60_000_000_000
START = 1_790_000_040_000_000_000


def selection(text: str = "") -> Selection:
    return Selection("default", text, START, START + 60 * MINUTE)


def search(query: SearchQuery) -> dict[str, Any]:
    return queries.search(query, read_filter(query.selection.filter, SCHEMA))


def count(query: CountQuery) -> dict[str, Any]:
    return queries.count(query, read_filter(query.selection.filter, SCHEMA), 100)


CASES = {
    "search_newest": search(SearchQuery(selection('service = "결제" level >= WARN'), True, 51)),
    "search_oldest_next_page": search(SearchQuery(selection("timeout"), False, 51, Cursor(START + 5, 7 << 18))),
    "search_backlog": search(SearchQuery(selection(), True, 10, arrived=((0, 9 << 18),))),
    "tail": queries.tail("default", read_filter("서비", SCHEMA), ((1, 2), (9, 12))),
    "count_by_label": count(CountQuery(selection("refused"), 10**9, ("labels.k8s.pod", "service"))),
    "count_in_all": count(CountQuery(selection(), MINUTE, ())),
    "template": template.entries_template(ElasticsearchConfig(), has_lifecycle=False),
    "template_with_lifecycle": template.entries_template(ElasticsearchConfig(), has_lifecycle=True),
    "template_of_ids": template.ids_template(ElasticsearchConfig()),
    "lifecycle_policy": template.lifecycle_policy(90),
}


@pytest.mark.parametrize("name", CASES)
def test_body(name: str) -> None:
    file = FOLDER / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(CASES[name], ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8")) == CASES[name]


def test_every_golden_file_has_a_case() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(CASES)
