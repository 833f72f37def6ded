"""The bodies of searches: every one has the tenant in its filter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from services.logs.model import Arrived, CountQuery, Cursor, SearchQuery, Selection
from services.logs.store.adapters.elasticsearch_template import TEXTS, day_of, entries_index, entries_pattern
from services.shared.filter import Checked
from services.shared.filter.elasticsearch import compile_elasticsearch, field_key, moment_text

Body = dict[str, Any]

MILLISECOND_NS = 1_000_000
_MOST_NAMED = 40


def indices(prefix: str, start: int, end: int) -> str:
    """The indices that have entries of a range, its end excluded: by name where they are few."""
    if not 0 <= start < end:
        return entries_pattern(prefix)
    first, last = day_of(start), day_of(end - 1)
    days = (last - first).days + 1
    if days > _MOST_NAMED:
        return entries_pattern(prefix)
    return ",".join(entries_index(prefix, first + timedelta(days=day)) for day in range(days))


def search(query: SearchQuery, condition: Checked | None) -> Body:
    """Entries in the order of the query; without its limit."""
    order = "desc" if query.newest_first else "asc"
    wanted = filters(query.selection, condition)
    if query.arrived is not None:
        wanted.append(_arrived(query.arrived))
    body: Body = {
        "query": {"bool": {"filter": wanted}},
        "sort": [
            {
                "timestamp": {
                    "order": order,
                    "format": "strict_date_optional_time_nanos",
                    "numeric_type": "date_nanos",
                    "unmapped_type": "date_nanos",
                }
            },
            {"ingest_position": {"order": order, "unmapped_type": "long"}},
        ],
    }
    if query.after is not None:
        body["search_after"] = _behind(query.after)
    return body


def tail(tenant: str, condition: Checked | None, arrived: Sequence[Arrived]) -> Body:
    """Entries in the order of ingest; without a limit."""
    wanted = [{"term": {"tenant": tenant}}, _arrived(arrived), *_condition(condition)]
    return {
        "query": {"bool": {"filter": wanted}},
        "sort": [{"ingest_position": {"order": "asc", "unmapped_type": "long"}}],
    }


def count(query: CountQuery, condition: Checked | None, size: int) -> Body:
    """The count of each group and bucket, group by group: a composite, whose counts are exact.

    Args:
        query: With a step of whole milliseconds.
        condition: The filter.
        size: Buckets of a page.
    """
    sources: list[Body] = [
        # Backwards, an empty label comes before one that is absent, which `Largest` counts on. So it does forwards with
        # "missing_order": "last", but then Elasticsearch 9.5 loses groups between pages.
        {f"k{at}": {"terms": {"field": _group(field), "missing_bucket": True, "order": "desc"}}}
        for at, field in enumerate(query.group_by)
    ]
    step = f"{query.step // MILLISECOND_NS}ms"
    sources.append({"t": {"date_histogram": {"field": "timestamp", "fixed_interval": step}}})
    return {
        "size": 0,
        "track_total_hits": False,
        "query": {"bool": {"filter": filters(query.selection, condition)}},
        "aggs": {"counts": {"composite": {"size": size, "sources": sources}}},
    }


def filters(selection: Selection, condition: Checked | None) -> list[Body]:
    """The tenant, the range and the condition."""
    start, end = max(selection.start, 0), max(selection.end, 0)
    moments = {"gte": moment_text(start), "lt": moment_text(end)}
    return [{"term": {"tenant": selection.tenant}}, {"range": {"timestamp": moments}}, *_condition(condition)]


def _condition(condition: Checked | None) -> list[Body]:
    return [] if condition is None else [compile_elasticsearch(condition, texts=TEXTS)]


def _behind(after: Cursor) -> list[Any]:
    return [moment_text(after.timestamp), after.ingest_position]


def _arrived(ranges: Sequence[Arrived]) -> Body:
    """The condition that an entry came in one of these ranges."""
    parts = [{"range": {"ingest_position": {"gt": after, "lte": through}}} for after, through in ranges]
    return {"bool": {"should": parts, "minimum_should_match": 1}} if parts else {"match_none": {}}


def _group(field: str) -> str:
    return f"labels.{field_key(field.removeprefix('labels.'))}" if field.startswith("labels.") else field
