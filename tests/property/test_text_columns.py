"""What is told of texts and ids by their bytes is what Python says of each, in slices too."""

from __future__ import annotations

import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.rpc.hex_ids import hex_digits, to_hex
from services.shared.rpc.otlp_times import nanoseconds
from services.shared.text_columns import are_hex, are_ids, byte_lengths, longer_than

TEXTS = (
    st.text(max_size=6)
    | st.text("0123456789abcdefABCDEF", max_size=6)
    | st.sampled_from(["0000", "/:@G`g", "가나다라"])
)
IDS = (
    st.binary(max_size=17) | st.binary(min_size=16, max_size=16) | st.sampled_from([b"", bytes(16), bytes(8), b"x" * 8])
)


def sliced(items: list[str] | list[bytes], kind: pa.DataType) -> pa.Array:
    """The items as a part of a longer array."""
    around = items[:1] * 3
    return pa.array([*around, *items, *around], kind).slice(len(around), len(items))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8))
def test_texts(texts: list[str]) -> None:
    for array in (pa.array(texts, pa.string()), sliced(texts, pa.string())):
        assert byte_lengths(array).tolist() == [len(text.encode()) for text in texts]
        assert longer_than(array, 3).tolist() == [len(text) > 3 for text in texts]
        assert are_hex(array, 4).tolist() == [re.fullmatch("[0-9a-fA-F]{4}", text) is not None for text in texts]


@settings(deadline=None)
@given(st.lists(st.text("0aF", min_size=8, max_size=8) | st.sampled_from(["0" * 8, "0000000g", "", "0"]), max_size=8))
def test_texts_that_are_ids(texts: list[str]) -> None:
    for array in (pa.array(texts, pa.string()), sliced(texts, pa.string())):
        expected = [re.fullmatch("[0-9a-fA-F]{8}", text) is not None and text != "0" * 8 for text in texts]
        assert are_ids(array, 8).tolist() == expected


@settings(deadline=None)
@given(st.lists(IDS, max_size=8))
def test_ids(ids: list[bytes]) -> None:
    for array in (pa.array(ids, pa.binary()), sliced(ids, pa.binary())):
        assert hex_digits(array).to_pylist() == [each.hex() for each in ids]
        for size in (8, 16):
            assert to_hex(array, size).to_pylist() == [
                each.hex() if len(each) == size and any(each) else "" for each in ids
            ]


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), max_size=8))
def test_moments(moments: list[int]) -> None:
    found = nanoseconds(pa.array(moments, pa.uint64()))
    assert found.to_pylist() == [min(moment, 2**63 - 1) or None for moment in moments]
