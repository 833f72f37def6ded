"""How the indices of logs are made: one a day of the entries' timestamps, so that a document's index never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.logs.config import ElasticsearchConfig
from services.shared.filter.elasticsearch import ANALYSIS, LONGEST_KEYWORD

TEXTS = {"message": "message.exact", "stack_trace": "stack_trace"}
"""Long texts, and the field of each in which words are found exactly."""

_MAX_KEYS = 5000
_LONGEST_PATTERN = 65_536

_KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
# The words' order and places are needed, not how often or how rare they are: nothing is scored.
_EXACT: dict[str, Any] = {"type": "text", "analyzer": "airis_exact", "norms": False}
_WHOLE: dict[str, Any] = {**_KEYWORD, "doc_values": False}
_KEPT: dict[str, Any] = {"type": "object", "enabled": False}
_DYNAMIC = {
    "labels": _KEYWORD,
    "metadata_string": _KEYWORD,
    "metadata_int64": {"type": "long"},
    "metadata_double": {"type": "double"},
    "metadata_bool": {"type": "boolean"},
}


def entries_index(prefix: str, day: date) -> str:
    """The index of the entries of a day."""
    return f"{prefix}-{day:%Y.%m.%d}"


def ids_index(prefix: str, day: date) -> str:
    """The index of the ids of requests that were stored on a day. The pattern of the entries does not match it."""
    return f"{prefix}_ids-{day:%Y.%m.%d}"


def entries_pattern(prefix: str) -> str:
    """All indices of entries, and as few others as a pattern can say: logs-nginx-2024.01.01 is somebody else's."""
    return f"{prefix}-20*.*.*"


def ids_pattern(prefix: str) -> str:
    """All indices of ids."""
    return f"{prefix}_ids-20*.*.*"


def policy_name(prefix: str) -> str:
    """The lifecycle policy of these indices. Others on the same cluster have one of their own."""
    return f"{prefix}-policy"


def day_of(nanoseconds: int) -> date:
    """The day of a moment, in UTC."""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).date()


def outlived(names: Iterable[str], index: Callable[[date], str], oldest: date) -> list[str]:
    """Those of the names that `index` gives for a day before `oldest`: any other is not ours to delete."""
    found = []
    for name in names:
        try:
            day = datetime.strptime(name.rpartition("-")[2], "%Y.%m.%d").replace(tzinfo=UTC).date()
        except ValueError:
            continue
        if day < oldest and name == index(day):
            found.append(name)
    return sorted(found)


def oldest_day(now_ns: int, retention_days: int) -> date:
    """The oldest day that an entry may still be of."""
    return day_of(now_ns) - timedelta(days=retention_days)


def lifecycle_policy(retention_days: int) -> dict[str, Any]:
    """For servers with index lifecycle management; the age counts from the day in the index's name."""
    return {
        "phases": {
            "hot": {"min_age": "0ms", "actions": {"set_priority": {"priority": 100}}},
            "delete": {"min_age": f"{retention_days + 1}d", "actions": {"delete": {}}},
        },
        "_meta": {"description": "How long AIRIS keeps logs: logs.raw_retention_days"},
    }


def entries_template(config: ElasticsearchConfig, *, has_lifecycle: bool) -> dict[str, Any]:
    """The index template of entries.

    Args:
        config: The prefix, shards and replicas.
        has_lifecycle: Whether the server has the policy `policy_name`.
    """
    settings: dict[str, Any] = {
        "number_of_shards": config.shards,
        "number_of_replicas": config.replicas,
        "codec": "best_compression",
        "refresh_interval": "5s",
        # A key beyond these is kept and not searchable; it must not keep its entry out.
        "mapping": {"total_fields": {"limit": _MAX_KEYS, "ignore_dynamic_beyond_limit": True}},
        "max_regex_length": _LONGEST_PATTERN,
        "analysis": _analysis(),
    }
    if has_lifecycle:
        settings["lifecycle"] = {"name": policy_name(config.index_prefix), "parse_origination_date": True}
    template = {"settings": {"index": settings}, "mappings": _mappings()}
    return {"index_patterns": [entries_pattern(config.index_prefix)], "priority": 200, "template": template}


def ids_template(config: ElasticsearchConfig) -> dict[str, Any]:
    """The index template of ids: few and small, read by id."""
    return {
        "index_patterns": [ids_pattern(config.index_prefix)],
        "priority": 200,
        "template": {
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": config.replicas}},
            "mappings": {
                "dynamic": False,
                "properties": {
                    "tenant": {"type": "keyword"},
                    "producer_id": {"type": "keyword"},
                    "received_at": {"type": "long"},
                },
            },
        },
    }


def _analysis() -> dict[str, Any]:
    return {
        **ANALYSIS,
        "tokenizer": {
            **ANALYSIS["tokenizer"],
            # "mixed" keeps a compound and its parts: 결제서비스, 결제, 서비스.
            "airis_korean": {"type": "nori_tokenizer", "decompound_mode": "mixed"},
        },
        "filter": {**ANALYSIS["filter"], "airis_parts_of_speech": {"type": "nori_part_of_speech"}},
        "analyzer": {
            **ANALYSIS["analyzer"],
            "airis_korean": {
                "type": "custom",
                "tokenizer": "airis_korean",
                "filter": ["airis_parts_of_speech", "lowercase"],
            },
        },
    }


def _mappings() -> dict[str, Any]:
    # Keys may hold dots ("k8s.pod" beside "k8s"): without subobjects each is one field.
    keyed = {"type": "object", "subobjects": False, "dynamic": True}
    return {
        "dynamic": False,
        "dynamic_templates": [
            {name: {"path_match": f"{name}.*", "mapping": mapping}} for name, mapping in _DYNAMIC.items()
        ],
        "properties": {
            "tenant": {"type": "keyword"},
            "timestamp": {"type": "date_nanos", "format": "strict_date_optional_time_nanos"},
            "ingest_position": {"type": "long"},
            "level": {"type": "byte"},
            "message": {"type": "text", "analyzer": "airis_korean", "fields": {"exact": _EXACT, "keyword": _WHOLE}},
            "service": _KEYWORD,
            "trace_id": _KEYWORD,
            "span_id": _KEYWORD,
            "stack_trace": {**_EXACT, "fields": {"keyword": _WHOLE}},
            "user_id": _KEYWORD,
            "request_id": _KEYWORD,
            "duration_ms": {"type": "double"},
            "status_code": {"type": "long"},
            "url": _KEYWORD,
            "method": _KEYWORD,
            **dict.fromkeys(_DYNAMIC, keyed),
            "labels_keys": _KEYWORD,
            "metadata_keys": _KEYWORD,
            "metadata_encoded": _KEPT,
            # Doubles that JSON has no number for.
            "metadata_odd": _KEPT,
            # Keys and values of an entry that the index refused as fields: kept, not searchable.
            "unindexed": _KEPT,
        },
    }
