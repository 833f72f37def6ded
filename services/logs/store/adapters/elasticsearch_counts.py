"""Counts from the pages of a composite aggregation, which gives one group after the other.

A label that is empty and one that is absent are one group here, and two for Elasticsearch: it gives each part of such a
group before or after others. As it is asked, empty comes before absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.logs.model import CountGroup, CountQuery, Counts, Level
from services.logs.store.adapters.elasticsearch_queries import MILLISECOND_NS
from services.logs.store.port import MAX_BUCKETS, MAX_GROUPS, too_many_buckets

_MAX_HELD = 1_000_000


class Largest:
    """Adds up pages and keeps the largest groups, with their buckets.

    Args:
        query: What was asked.
    """

    def __init__(self, query: CountQuery) -> None:
        self._query = query
        self._groups: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        self._in_parts: set[tuple[str, ...]] = set()
        self._held = 0
        self._total = 0

    def add(self, buckets: Sequence[dict[str, Any]]) -> None:
        """Takes a page. Raises: ResourceExhaustedError."""
        names = [f"k{at}" for at in range(len(self._query.group_by))]
        for bucket in buckets:
            key, count = bucket["key"], bucket["doc_count"]
            values = [key[name] for name in names]
            group = tuple("" if value is None else str(value) for value in values)
            if "" in values:
                self._in_parts.add(group)
            self._groups.setdefault(group, []).append((key["t"] * MILLISECOND_NS, count))
            self._total += count
        self._held += len(buckets)
        if len(self._groups) > 2 * MAX_GROUPS or self._held > _MAX_HELD:
            # The last group may go on in the next page, one in parts in any, and be large yet.
            last = next(reversed(self._groups))
            kept = dict(self._largest())
            kept |= {group: self._groups[group] for group in (*self._in_parts, last)}
            self._groups = kept
            self._held = sum(len(found) for found in kept.values())
        if self._held > _MAX_HELD:
            raise too_many_buckets()

    def counts(self) -> Counts:
        """The answer. Raises: ResourceExhaustedError."""
        largest = [(group, _by_time(buckets)) for group, buckets in self._largest()]
        if sum(len(buckets) for _, buckets in largest) > MAX_BUCKETS:
            raise too_many_buckets()
        groups = [
            CountGroup(self._fields(group), sum(count for _, count in buckets), buckets) for group, buckets in largest
        ]
        return Counts(groups, self._total, self._query.step)

    def _largest(self) -> list[tuple[tuple[str, ...], list[tuple[int, int]]]]:
        def rank(item: tuple[tuple[str, ...], list[tuple[int, int]]]) -> tuple[int, tuple[str, ...]]:
            return -sum(count for _, count in item[1]), item[0]

        return sorted(self._groups.items(), key=rank)[:MAX_GROUPS]

    def _fields(self, group: tuple[str, ...]) -> dict[str, str]:
        return {
            field: Level(int(value)).name if field == "level" else value
            for field, value in zip(self._query.group_by, group, strict=True)
        }


def _by_time(buckets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: Counter[int] = Counter()
    for at, count in buckets:
        found[at] += count
    return sorted(found.items())
