"""Attributes joined in columns are those that a plain reading of the same lists gives: who has precedence, which of
several stays, and every kind of value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.rpc.attribute_merge import first_of_each_key, last_of_each_key, merged
from services.shared.rpc.attribute_pool import AttributeSets, pooled, single
from services.shared.rpc.attributes import TYPES, Attributes, Kind

Entry = tuple[str, Kind, Any]
Lists = list[list[Entry]]

KEYS = st.sampled_from(["a", "b", "c", "서비스", ""])
VALUES = {
    Kind.STRING: st.text(max_size=3),
    Kind.INT64: st.integers(-(2**63), 2**63 - 1),
    Kind.DOUBLE: st.floats(allow_nan=False),
    Kind.BOOL: st.booleans(),
    Kind.ENCODED: st.sampled_from(["{}", '{"arrayValue":{}}']),
}


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    return draw(KEYS), kind, draw(VALUES[kind])


def lists(least: int = 0, most: int = 5) -> st.SearchStrategy[Lists]:
    return st.lists(st.lists(entries(), max_size=5), min_size=least, max_size=most)


def attributes(items: Lists) -> Attributes:
    flat = [entry for item in items for entry in item]
    offsets = np.concatenate(([0], np.cumsum([len(item) for item in items]))).astype(np.int64)
    values = {
        kind: pa.array([value if its is kind else None for _, its, value in flat], of_type)
        for kind, of_type in TYPES.items()
        if any(its is kind for _, its, _ in flat)
    }
    kinds = np.array([kind for _, kind, _ in flat], np.int8)
    return Attributes(offsets, pa.array([key for key, _, _ in flat], pa.string()), kinds, values)


def read(sets: AttributeSets) -> list[dict[str, tuple[Kind, Any]]]:
    """Each item's attributes, from the maps of the store; no key may be in two of them or twice in one."""
    found: list[dict[str, tuple[Kind, Any]]] = [{} for _ in sets.counts]
    for kind in Kind:
        column = sets.map(kind)
        column.validate(full=True)
        for item, pairs in zip(found, column.to_pylist(), strict=True):
            for key, value in pairs:
                assert key not in item
                item[key] = (kind, value)
    assert [len(item) for item in found] == sets.counts.tolist()
    return found


def firsts(items: Lists) -> list[dict[str, tuple[Kind, Any]]]:
    return [{key: (kind, value) for key, kind, value in reversed(item)} for item in items]


@settings(deadline=None)
@given(lists())
def test_of_keys_that_are_there_twice_the_first_or_the_last_stays(items: Lists) -> None:
    (sets,) = pooled(attributes(items))
    assert read(first_of_each_key(sets)) == firsts(items)
    assert read(last_of_each_key(sets)) == [{key: (kind, value) for key, kind, value in item} for item in items]


@settings(deadline=None)
@given(st.data())
def test_what_comes_first_wins_over_what_is_inherited(data: st.DataObject) -> None:
    own = data.draw(lists())
    beside = data.draw(st.lists(st.text(max_size=2), min_size=len(own), max_size=len(own)))
    inherited = data.draw(lists(least=1))
    further = data.draw(st.lists(st.lists(entries(), max_size=3), min_size=len(inherited), max_size=len(inherited)))
    owner = data.draw(st.lists(st.integers(0, len(inherited) - 1), min_size=len(own), max_size=len(own)))
    ones, twos, threes, fours = pooled(
        attributes(own), single("a", pa.array(beside, pa.string())), attributes(inherited), attributes(further)
    )
    shared = merged((threes, None), (fours, None))
    assert read(shared) == firsts([a + b for a, b in zip(inherited, further, strict=True)])
    joined = merged((ones, None), (twos, None), (shared, np.array(owner, np.int64)))
    expected = [
        [*item, *([("a", Kind.STRING, text)] if text else []), *inherited[place], *further[place]]
        for item, text, place in zip(own, beside, owner, strict=True)
    ]
    assert read(joined) == firsts(expected)


@settings(deadline=None)
@given(lists(), st.data())
def test_some_of_them_are_those_that_a_mask_keeps(items: Lists, data: st.DataObject) -> None:
    (sets,) = pooled(attributes(items))
    sets = first_of_each_key(sets)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(sets.places), max_size=len(sets.places))), bool)
    written = sets.kept(kept).written_out()
    expected = sets.written_out()
    assert written.keys.to_pylist() == [key for key, keep in zip(expected.keys.to_pylist(), kept, strict=True) if keep]
    assert written.counts.sum() == kept.sum()
    mask = sets.having("a", Kind.INT64)
    numbers = [item.get("a", (None, None)) for item in read(sets)]
    found = [None] * len(items) if mask is None else sets.picked(mask, sets.pool.values[Kind.INT64]).to_pylist()
    assert found == [value if kind is Kind.INT64 else None for kind, value in numbers]
