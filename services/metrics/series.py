"""Which series a point belongs to: one lookup a distinct series of a batch, no Python a point.

The id is a 64-bit xxh3 over tenant, metric, kind, unit and the labels sorted by key, each length-prefixed. The
index remembers what it has resolved today; a new day begins afresh, so that each living series is written daily
and its retention never ends before that of its points.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import xxhash

from services.metrics.model import SeriesRow

_DAY_NS = 86_400 * 1_000_000_000


def series_id(tenant: str, metric: str, kind: str, unit: str, labels: Mapping[str, str]) -> int:
    """The id of a series: the same for the same labels in any order."""
    digest = xxhash.xxh3_64()
    parts = [tenant, metric, kind, unit]
    for key in sorted(labels):
        parts += (key, labels[key])
    for part in parts:
        encoded = part.encode()
        digest.update(struct.pack("<I", len(encoded)))
        digest.update(encoded)
    return digest.intdigest()


class SeriesIndex:
    """Remembers series by the key that a batch's columns give them.

    Args:
        capacity: Keys remembered; beyond it the older half is forgotten and resolved anew.
    """

    def __init__(self, capacity: int = 2_000_000) -> None:
        self._capacity = capacity
        self._ids: dict[str, int] = {}
        self._unwritten: dict[int, SeriesRow] = {}
        self._day = -1

    def begin(self, now_ns: int) -> None:
        """Starts a batch: forgets on a new day, and when there is too much."""
        day = now_ns // _DAY_NS
        if day != self._day:
            self._day = day
            self._ids.clear()
        elif len(self._ids) > self._capacity:
            for key in list(self._ids)[: self._capacity // 2]:
                del self._ids[key]

    def find(self, keys: Iterable[str]) -> list[int | None]:
        """The ids of known keys."""
        known = self._ids
        return [known.get(key) for key in keys]

    def add(self, key: str, row: SeriesRow) -> None:
        """Remembers a series that the store may not have."""
        self._ids[key] = row.series_id
        self._unwritten[row.series_id] = row

    def unwritten(self, ids: Iterable[int | None]) -> list[SeriesRow]:
        """Those among the series that the store may not have."""
        if not self._unwritten:
            return []
        rows = self._unwritten
        return [rows[i] for i in ids if i is not None and i in rows]

    def written(self, rows: Iterable[SeriesRow]) -> None:
        """Says that the store has them."""
        for row in rows:
            if self._unwritten.get(row.series_id) == row:
                del self._unwritten[row.series_id]
