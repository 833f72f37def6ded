"""All the attributes of a request side by side, and sets of them that are mere places there.

What items inherit, what of it their own hides and which of it has a type of its own is worked out on numbers. Texts are
moved once, when the columns of the store are made of a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from services.shared.rpc.attributes import NAMES, TYPES, Attributes, Kind, Numbers, offsets_of, owners
from services.shared.text_columns import Mask, byte_lengths


class AttributePool:
    """Keys and values of several `Attributes`, one after the other.

    Args:
        parts: What to put there.

    Attributes:
        keys: string[m].
        key_ids: int32[m]: equal where the keys are.
        key_count: How many keys differ.
        kinds: int8[m].
        values: For each kind there is: T[m].
    """

    def __init__(self, parts: Sequence[Attributes]) -> None:
        full = [part for part in parts if len(part.keys)]
        self.keys = pa.concat_arrays([part.keys for part in full]) if full else pa.array([], pa.string())
        encoded = self.keys.dictionary_encode()
        self.key_ids: np.ndarray[Any, np.dtype[np.int32]] = encoded.indices.to_numpy()
        self._names = encoded.dictionary
        self.key_count = len(encoded.dictionary)
        self.kinds = np.concatenate([part.kinds for part in full]) if full else np.zeros(0, np.int8)
        self.values = {
            kind: pa.concat_arrays(
                [part.values[kind] if kind in part.values else pa.nulls(len(part.keys), of_type) for part in full]
            )
            for kind, of_type in TYPES.items()
            if any(kind in part.values for part in full)
        }

    def id_of(self, key: str) -> int:
        """The number of a key; -1: no entry has it."""
        return self._ids.get(key, -1)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._names.to_pylist())}


def pooled(*parts: Attributes) -> tuple[AttributeSets, ...]:
    """Puts attributes side by side; a set for each of the parts, all in one pool."""
    pool = AttributePool(parts)
    ends = np.cumsum([len(part.keys) for part in parts]).tolist()
    return tuple(
        AttributeSets(pool, part.offsets, np.arange(end - len(part.keys), end))
        for part, end in zip(parts, ends, strict=True)
    )


class AttributeSets:
    """The attributes of n items, e in all.

    Args:
        pool: Where they are.
        offsets: int64[n + 1]: item i has the places offsets[i] to offsets[i + 1].
        places: int64[e].
    """

    def __init__(self, pool: AttributePool, offsets: Numbers, places: Numbers) -> None:
        self.pool = pool
        self.offsets = offsets
        self.places = places

    @property
    def counts(self) -> Numbers:
        """int64[n]: how many each item has."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def key_ids(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """int32[e]: equal where the keys are."""
        return self.pool.key_ids[self.places]

    @cached_property
    def kinds(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """int8[e]."""
        return self.pool.kinds[self.places]

    def kept(self, mask: Mask) -> AttributeSets:
        """Those of a mask over all of them, bool[e]."""
        return AttributeSets(self.pool, offsets_of(mask)[self.offsets], self.places[mask])

    def having(self, key: str, kind: Kind | None = None) -> Mask | None:
        """bool[e]: which have a key, and a value of a kind if one is given; None: none has."""
        number = self.pool.id_of(key)
        if number < 0:
            return None
        mask: Mask = self.key_ids == number
        if kind is not None:
            mask &= self.kinds == kind
        return mask if np.count_nonzero(mask) else None

    def picked(self, mask: Mask, values: pa.Array) -> pa.Array:
        """T[n]: of the pool's values that of the one place of each item that a mask has; null where there is none."""
        at = mask.nonzero()[0]
        item = np.searchsorted(self.offsets, at, side="right") - 1
        chosen = np.full(len(self.offsets) - 1, -1, np.int64)
        chosen[item] = self.places[at]
        return values.take(pa.array(chosen, mask=chosen < 0))

    def written_out(self) -> Attributes:
        """The same as attributes of their own."""
        places = pa.array(self.places)
        values = {kind: values.take(places) for kind, values in self.pool.values.items()}
        return Attributes(self.offsets, self.pool.keys.take(places), self.kinds, values)

    def maps(self, prefix: str) -> dict[str, pa.Array]:
        """One map a type: `{prefix}_string`, `_int64`, `_double`, `_bool` and `_encoded`, each map<string, T>[n]."""
        return {f"{prefix}_{name}": self.map(kind) for kind, name in NAMES.items()}

    def map(self, kind: Kind) -> pa.MapArray:
        """map<string, T>[n]: the values of one kind."""
        chosen = self._of_kind(kind)
        if chosen is None:
            offsets = pa.array(np.zeros(len(self.offsets), np.int32))
            return pa.MapArray.from_arrays(offsets, self.pool.keys.slice(0, 0), pa.array([], TYPES[kind]))
        places = pa.array(chosen.places)
        return pa.MapArray.from_arrays(
            pa.array(chosen.offsets.astype(np.int32)),
            self.pool.keys.take(places),
            self.pool.values[kind].take(places),
        )

    def _of_kind(self, kind: Kind) -> AttributeSets | None:
        if kind not in self.pool.values or len(self.places) == 0:
            return None
        if len(self.pool.values) == 1:
            return self
        mask = self.kinds == kind
        return self.kept(mask) if np.count_nonzero(mask) else None


def single(key: str, values: pa.Array, present: Mask | None = None) -> Attributes:
    """Attributes of n items that have one entry each, or none.

    Args:
        key: Its key.
        values: string[n], without nulls where there is an entry.
        present: bool[n]: who has it; None: whose text is not empty.
    """
    if present is None:
        present = byte_lengths(values) > 0
    count = int(np.count_nonzero(present))
    offsets = offsets_of(present)
    if count == 0:
        return Attributes(offsets, pa.array([], pa.string()), np.zeros(0, np.int8), {})
    chosen = values if count == len(present) else values.filter(pa.array(present))
    return Attributes(offsets, pa.repeat(key, count), np.full(count, Kind.STRING, np.int8), {Kind.STRING: chosen})


def key_twice(sets: AttributeSets) -> bool:
    """Whether an item has a key twice."""
    ids = sets.key_ids
    if len(ids) < 2:
        return False
    item = owners(sets.offsets)
    # Senders mostly name the keys of each item in the same order.
    if bool(np.all((ids[1:] > ids[:-1]) | (item[1:] > item[:-1]))):
        return False
    identity = np.sort(item * sets.pool.key_count + ids)
    return bool(np.any(identity[1:] == identity[:-1]))
