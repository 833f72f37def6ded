"""Series ids are fixed for ever, and the index writes what the store does not have."""

from __future__ import annotations

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


def test_a_series_is_written_until_the_store_has_it() -> None:
    index = SeriesIndex()
    index.begin(0)
    assert index.find(["key"]) == [None]
    index.add("key", ROW)
    assert index.find(["key"]) == [7]
    assert index.unwritten([7, None]) == [ROW]
    index.written([ROW])
    assert index.unwritten([7]) == []


def test_a_new_day_writes_every_series_again() -> None:
    index = SeriesIndex()
    index.begin(DAY - 1)
    index.add("key", ROW)
    index.written([ROW])
    index.begin(DAY)
    assert index.find(["key"]) == [None]


def test_the_index_is_bounded() -> None:
    index = SeriesIndex(capacity=10)
    index.begin(0)
    for number in range(11):
        index.add(str(number), SeriesRow("default", "cpu", number, "GAUGE", "", {}, ""))
    index.begin(1)
    assert index.find(["0", "10"]) == [None, 10]
