"""Which series a point belongs to: one lookup a distinct series of a batch, no Python a point.

The id is a 64-bit xxh3 over tenant, metric, kind, unit and the labels sorted by key, each length-prefixed. The
index remembers what it has resolved today; a new day begins afresh, so that each living series is written daily
and its retention never ends before that of its points.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from services.metrics.model import SeriesRow
from services.shared.retention import DAY_NS

# Together 63 bits. Half of each may be used up when a batch begins: none has so many that are new.
_METRIC_BITS, _LABEL_BITS, _RESOURCE_BITS = 20, 23, 20

LONGEST_CACHED = 4096
"""Characters of a text that a cache may keep."""

Keys = np.ndarray[Any, np.dtype[np.int64]]


def series_id(tenant: str, metric: str, kind: str, unit: str, labels: Mapping[str, str]) -> int:
    """The id of a series: the same for the same labels in any order."""
    texts = [tenant, metric, kind, unit]
    for key in sorted(labels):
        texts += (key, labels[key])
    part = _part if max(map(len, texts)) <= LONGEST_CACHED else _part.__wrapped__
    parts = list(map(part, texts))
    return xxhash.xxh3_64_intdigest(b"".join(parts))


# Series that are new at the same time have most of their texts in common.
@lru_cache(maxsize=100_000)
def _part(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded


class SeriesIndex:
    """Remembers series by what tells them apart in a request: their metric, their own labels, their resource.

    Each of the three is given a small number when it is seen first, so that a series is looked up by one integer,
    however long its labels are. Threads that resolve a batch, from `begin` on, hold `lock`.

    Args:
        capacity: Series remembered, and as many that the store may not have; beyond it all are forgotten and resolved
            anew.
        writes: Whether this process stores what it takes; if not, it keeps no rows for the store.

    Attributes:
        resets: How often all was forgotten. A series that the store had not until then is resolved anew.
    """

    def __init__(self, capacity: int = 2_000_000, writes: bool = True) -> None:
        self.lock = threading.Lock()
        self._writes = writes
        self._capacity = capacity
        self._metrics: dict[bytes, int] = {}
        self._labels: dict[bytes, int] = {}
        self._resources: dict[bytes, int] = {}
        self._ids: dict[int, int] = {}
        # By tenant too: ids are hashes that no secret goes into, so whoever tries long enough finds those of others.
        self._unwritten: dict[tuple[str, int], SeriesRow] = {}
        self._day = -1
        self.resets = 0

    def begin(self, now_ns: int) -> None:
        """Starts a batch: forgets on a new day, and when there is too much."""
        day = now_ns // DAY_NS
        numbered = ((self._metrics, _METRIC_BITS), (self._labels, _LABEL_BITS), (self._resources, _RESOURCE_BITS))
        if (
            day != self._day
            or max(len(self._ids), len(self._unwritten)) > self._capacity
            or any(len(numbers) > 2 ** (bits - 1) for numbers, bits in numbered)
        ):
            self._day = day
            for remembered in (self._metrics, self._labels, self._resources, self._ids):
                remembered.clear()
            # In this order: who finds no row looks afterwards whether that is because all were forgotten. Rows of what
            # is acknowledged come with its batch; those of what was refused would stay for ever.
            self.resets += 1
            self._unwritten = {}

    def keys(self, tenant: str, metrics: pa.Array, labels: pa.Array, resources: pa.Array) -> Keys:
        """One key a point, the same for points of one series.

        Args:
            tenant: Whose they are.
            metrics: dictionary<binary>[n]: what says which metric a point is of.
            labels: dictionary<binary>[n]: what says which labels it has.
            resources: dictionary<binary>[n]: what says of which resource it is.

        Returns:
            int64[n]
        """
        owner = tenant.encode() + b"\0"
        return (
            _numbered(self._resources, resources, owner) << (_METRIC_BITS + _LABEL_BITS)
            | _numbered(self._metrics, metrics) << _LABEL_BITS
            | _numbered(self._labels, labels)
        )

    def find(self, keys: Iterable[int]) -> list[int | None]:
        """The ids of known keys."""
        known = self._ids
        return list(map(known.get, keys))

    def add(self, key: int, row: SeriesRow) -> None:
        """Remembers a series that the store may not have."""
        self._ids[key] = row.series_id
        if self._writes:
            self._unwritten[row.tenant, row.series_id] = row

    def unwritten(self, tenant: str, ids: Iterable[int | None]) -> list[SeriesRow]:
        """Those among a tenant's series that the store may not have."""
        if not self._unwritten:
            return []
        rows = self._unwritten
        return [rows[tenant, i] for i in ids if i is not None and (tenant, i) in rows]

    def are_unwritten(self, rows: Iterable[SeriesRow]) -> bool:
        """Whether all of them are still among those that the store may not have."""
        return all((row.tenant, row.series_id) in self._unwritten for row in rows)

    def written(self, rows: Iterable[SeriesRow]) -> None:
        """Says that the store has them."""
        with self.lock:
            for row in rows:
                if self._unwritten.get((row.tenant, row.series_id)) == row:
                    del self._unwritten[row.tenant, row.series_id]


def _numbered(numbers: dict[bytes, int], texts: pa.DictionaryArray, before: bytes = b"") -> Keys:
    distinct = texts.dictionary.to_pylist()
    codes = [numbers.setdefault(before + text, len(numbers)) for text in distinct]
    numbered: Keys = np.array(codes, np.int64)[texts.indices.to_numpy()]
    return numbered
