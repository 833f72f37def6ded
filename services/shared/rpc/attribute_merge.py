"""Attributes that items inherit: from their resource, from their scope. An item's own win, in columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from services.shared.rpc.attribute_pool import AttributeSets, key_twice
from services.shared.rpc.attributes import Kind, Numbers, owners
from services.shared.rpc.expansion import refuse_expansion

Source = tuple[AttributeSets, Numbers | None]
"""Attributes of k owners, and int64[n]: whose each item is; None: item i has those of owner i."""


def merged(*sources: Source) -> AttributeSets:
    """Joins what items have of their own with what they inherit, each key once.

    Args:
        sources: What has precedence first; all in one pool.

    Returns:
        Of n items. Where a key is there twice, the first of the first source stays.

    Raises:
        InvalidArgumentError: What all inherit is too much (SIZE_LIMIT_EXCEEDED).
    """
    own, owner = sources[0]
    items = len(own.offsets) - 1 if owner is None else len(owner)
    full = [source for source in sources if len(source[0].places)]
    for sets, owner in full:
        if owner is not None:
            _refuse_expansion(sets, owner)
    if not full or items == 0:
        return AttributeSets(own.pool, np.zeros(items + 1, np.int64), np.zeros(0, np.int64))
    if len(full) == 1 and full[0][1] is None:
        return first_of_each_key(full[0][0])
    joined = _joined(full, items)
    return first_of_each_key(joined) if _may_clash(full) else joined


def first_of_each_key(sets: AttributeSets) -> AttributeSets:
    """Of keys that an item has twice the first."""
    return _chosen(sets, slice(None)) if key_twice(sets) else sets


def last_of_each_key(sets: AttributeSets) -> AttributeSets:
    """Of keys that an item has twice the last, as in any protobuf map."""
    return _chosen(sets, slice(None, None, -1)) if key_twice(sets) else sets


def _joined(sources: list[Source], items: int) -> AttributeSets:
    starts, counts = (np.empty((items, len(sources)), np.int64) for _ in range(2))
    base = 0
    for column, (sets, owner) in enumerate(sources):
        start, count = sets.offsets[:-1] + base, sets.counts
        starts[:, column], counts[:, column] = (start, count) if owner is None else (start[owner], count[owner])
        base += len(sets.places)
    places = np.concatenate([sets.places for sets, _ in sources])
    # Entry j of part i of an item stands at starts[item, i] + j.
    ends = np.cumsum(counts)
    shift = starts.ravel() - (ends - counts.ravel())
    at = np.arange(ends[-1]) + np.repeat(shift, counts.ravel())
    offsets = np.concatenate((np.zeros(1, np.int64), ends[len(sources) - 1 :: len(sources)]))
    return AttributeSets(sources[0][0].pool, offsets, places[at])


def _may_clash(sources: list[Source]) -> bool:
    """Whether a key is in two sources, or a source has one twice: few keys to look at, however many items."""
    seen = np.zeros(sources[0][0].pool.key_count, bool)
    for sets, _ in sources:
        ids = sets.key_ids
        if np.count_nonzero(seen[ids]) or key_twice(sets):
            return True
        seen[ids] = True
    return False


def _chosen(sets: AttributeSets, order: slice) -> AttributeSets:
    identity = owners(sets.offsets) * sets.pool.key_count + sets.key_ids
    _, first = np.unique(identity[order], return_index=True)
    mask = np.zeros(len(identity), bool)
    # A view: what is marked in that order stands in its own.
    mask[order][first] = True
    return sets.kept(mask)


def _refuse_expansion(sets: AttributeSets, owner: Numbers) -> None:
    places = pa.array(sets.places)
    values = (sets.pool.values.get(kind) for kind in (Kind.STRING, Kind.ENCODED))
    texts = [array.take(places) for array in (sets.pool.keys, *values) if array is not None]
    refuse_expansion(owner, texts, sets.offsets)
