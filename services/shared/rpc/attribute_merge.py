"""Attributes that items inherit: from their resource, from their scope. An item's own win, in columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from services.shared.rpc.attributes import Attributes

Indices = np.ndarray[Any, np.dtype[np.int64]]


def merge(own: Attributes, inherited: Attributes, owner: Indices | None = None) -> Attributes:
    """Joins what items have of their own with what they inherit, each key once.

    Args:
        own: Of n items.
        inherited: Of k owners.
        owner: int64[n]: whose each item is; None: item i inherits from owner i.

    Returns:
        Of n items. Where a key is there twice, the first of an item's own stays, else the first inherited one.
    """
    items = len(own.counts)
    counts = inherited.counts.astype(np.int64)
    starts = inherited.offsets[:-1].astype(np.int64)
    if owner is not None:
        counts, starts = counts[owner], starts[owner]
    total = int(counts.sum())
    own_items = np.repeat(np.arange(items), own.counts)
    if total == 0 and len(own_items) < 2:
        return own
    # Entry j of what item i inherits stands at starts[i] + j.
    places = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    taken = pa.array(places)
    joined = {
        name: pa.concat_arrays([getattr(own, name), getattr(inherited, name).take(taken)])
        for name in ("keys", "string", "int64", "double", "boolean", "encoded")
    }
    item = np.concatenate((own_items, np.repeat(np.arange(items), counts)))
    encoded = joined["keys"].dictionary_encode()
    identity = item * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
    _, first = np.unique(identity, return_index=True)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(item[first], minlength=items)))).astype(np.int32)
    kept = pa.array(first)
    return Attributes(offsets, **{name: array.take(kept) for name, array in joined.items()})


def without(attributes: Attributes, key: str) -> tuple[Attributes, pa.Array]:
    """Takes one key out of the attributes of n items.

    Returns:
        The others, and string[n]: its values as text, null where it is absent.
    """
    is_key = np.asarray(attributes.keys.to_pylist(), dtype=object) == key
    item = np.repeat(np.arange(len(attributes.counts)), attributes.counts)
    found = pa.array(np.flatnonzero(is_key))
    texts: list[str | None] = [None] * len(attributes.counts)
    for at, text in zip(item[is_key].tolist(), attributes.texts().take(found).to_pylist(), strict=True):
        texts[at] = text if texts[at] is None else texts[at]
    rest = pa.array(np.flatnonzero(~is_key))
    counts = np.bincount(item[~is_key], minlength=len(attributes.counts))
    names = ("keys", "string", "int64", "double", "boolean", "encoded")
    others = {name: getattr(attributes, name).take(rest) for name in names}
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    return Attributes(offsets, **others), pa.array(texts, pa.string())


def single(key: str, texts: pa.Array) -> Attributes:
    """Attributes of n items that have one entry each, or none where the text (string[n]) is null or empty."""
    present = pa.compute.not_equal(texts, "").fill_null(False)
    values = texts.filter(present)
    count = len(values)
    offsets = np.concatenate(([0], np.cumsum(present.to_numpy(zero_copy_only=False)))).astype(np.int32)
    return Attributes(
        offsets,
        pa.array([key] * count, pa.string()),
        values,
        pa.nulls(count, pa.int64()),
        pa.nulls(count, pa.float64()),
        pa.nulls(count, pa.bool_()),
        pa.nulls(count, pa.string()),
    )
