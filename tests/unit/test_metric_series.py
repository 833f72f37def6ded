"""Series ids are fixed for ever, and the index writes what the store does not have."""

from __future__ import annotations

import pyarrow as pa
import pytest

from services.metrics.model import SeriesRow
from services.metrics.series import SeriesIndex, series_id

DAY = 86_400_000_000_000
ROW = SeriesRow("default", "cpu", 7, "GAUGE", "1", {"host": "a"}, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("default", "cpu", "GAUGE", "1", {}), 0x70322D1BE0FC18FE),
        (("default", "cpu", "GAUGE", "1", {"host": "a", "zone": "b"}), 0xD057B70057C1A1BE),
        (("default", "서버", "COUNTER", "", {"호스트": "가"}), 0x35D40F7FE6A7F73C),
    ],
)
def test_the_id_of_a_series_never_changes(arguments: tuple[str, str, str, str, dict[str, str]], expected: int) -> None:
    assert series_id(*arguments) == expected


def test_the_order_of_labels_does_not_matter_but_every_part_does() -> None:
    base = series_id("t", "m", "k", "u", {"a": "1", "b": "2"})
    assert base == series_id("t", "m", "k", "u", {"b": "2", "a": "1"})
    others = [
        series_id("x", "m", "k", "u", {"a": "1", "b": "2"}),
        series_id("t", "x", "k", "u", {"a": "1", "b": "2"}),
        series_id("t", "m", "x", "u", {"a": "1", "b": "2"}),
        series_id("t", "m", "k", "x", {"a": "1", "b": "2"}),
        series_id("t", "m", "k", "u", {"a": "1b", "": "2"}),
        series_id("t", "m", "k", "u", {"a": "1"}),
        series_id("t", "mk", "", "u", {"a": "1", "b": "2"}),
    ]
    assert len({base, *others}) == 8


def encoded(*texts: bytes) -> pa.DictionaryArray:
    return pa.array(texts, pa.binary()).dictionary_encode()


def test_points_of_one_series_have_one_key_and_others_another() -> None:
    index = SeriesIndex()
    index.begin(0)
    keys = index.keys(
        "a", encoded(b"m", b"m", b"n", b"m", b"m"), encoded(*[b"l"] * 3, b"k", b"l"), encoded(*[b"r"] * 5)
    )
    assert keys[0] == keys[1] == keys[4]
    assert len({*keys.tolist()}) == 3
    # Later batches, in which other texts come first, and other tenants.
    again = index.keys("a", encoded(b"x", b"m"), encoded(b"y", b"l"), encoded(b"z", b"r"))
    assert again[1] == keys[0]
    assert index.keys("b", encoded(b"m"), encoded(b"l"), encoded(b"r"))[0] not in keys


def test_a_series_is_written_until_the_store_has_it() -> None:
    index = SeriesIndex()
    index.begin(0)
    assert index.find([1]) == [None]
    index.add(1, ROW)
    assert index.find([1]) == [7]
    assert index.unwritten("default", [7, None]) == [ROW]
    index.written([ROW])
    assert index.unwritten("default", [7]) == []


def test_a_tenant_that_finds_the_id_of_anothers_series_does_not_displace_it() -> None:
    index = SeriesIndex()
    index.begin(0)
    index.add(1, ROW)
    intruder = SeriesRow("intruder", "crafted", ROW.series_id, "GAUGE", "", {}, "")
    index.add(2, intruder)
    assert index.unwritten("default", [7]) == [ROW]
    index.written([intruder])
    assert index.unwritten("default", [7]) == [ROW]
    assert index.unwritten("intruder", [7]) == []


def test_a_new_day_writes_every_series_again() -> None:
    index = SeriesIndex()
    index.begin(DAY - 1)
    index.add(1, ROW)
    index.written([ROW])
    index.begin(DAY)
    assert index.find([1]) == [None]


def test_the_index_is_bounded() -> None:
    index = SeriesIndex(capacity=10)
    index.begin(0)
    for number in range(11):
        index.add(number, SeriesRow("default", "cpu", number, "GAUGE", "", {}, ""))
    index.begin(1)
    assert index.find([0, 10]) == [None, None]


def test_series_of_which_no_batch_is_ever_stored_are_forgotten_too() -> None:
    index = SeriesIndex(capacity=10)
    index.begin(0)
    for number in range(11):
        # The same keys again and again, as after each time that the numbers of metrics or labels ran out.
        index.add(number % 2, SeriesRow("default", "cpu", number, "GAUGE", "", {}, ""))
    assert index.unwritten("default", range(11))
    resets = index.resets
    index.begin(1)
    assert not index.unwritten("default", range(11))
    assert index.resets == resets + 1
    index.add(0, ROW)
    index.begin(DAY)
    assert not index.unwritten("default", [7])
