"""Times as users type them and read them."""

from __future__ import annotations

import pytest
from airis.client.cli.times import TimeRange, format_length, format_moment, parse_length, parse_moment, parse_range

NOW = 1_795_249_800_000_000_000  # 2026-11-21T08:30:00Z
HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("90s", 90 * 10**9), ("1h30m", 5400 * 10**9), ("1.5h", 5400 * 10**9), ("250ms", 250 * 10**6), ("7d", 168 * HOUR)],
)
def test_lengths(text: str, nanoseconds: int) -> None:
    assert parse_length(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "h", "1 h", "1h x", "-1h"])
def test_what_is_no_length_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="30s"):
        parse_length(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-11-21T08:30:00Z", NOW),
        ("2026-11-21T08:30:00", NOW),
        ("2026-11-21 08:30", NOW),
        ("2026-11-21T17:30:00+09:00", NOW),
        ("2026-11-21T08:30:00.123456789Z", NOW + 123_456_789),
        ("2026-11-21", NOW - 8 * HOUR - HOUR // 2),
    ],
)
def test_moments_keep_nanoseconds_and_zones(text: str, nanoseconds: int) -> None:
    assert parse_moment(text) == nanoseconds


def test_ranges() -> None:
    assert parse_range(None, None, None, None, NOW) == TimeRange(None, None)
    assert parse_range("1h", None, None, None, NOW) == TimeRange(NOW - HOUR, None)
    assert parse_range("2h", "1h", None, None, NOW) == TimeRange(NOW - 2 * HOUR, NOW - HOUR)
    assert parse_range("2026-11-21T07:30:00Z", "now", None, None, NOW) == TimeRange(NOW - HOUR, NOW)
    assert parse_range(None, None, "2026-11-21T07:30:00Z", "2026-11-21T08:30:00Z", NOW) == TimeRange(NOW - HOUR, NOW)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("1x", None, None, None), "neither a length of time nor a time"),
        (("1h", None, "2026-11-21", None), "not both"),
        (("1h", "2h", None, None), "empty"),
        ((None, None, "soon", None), "is not a time"),
    ],
)
def test_wrong_ranges_are_refused(options: tuple[str | None, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_range(*options, NOW)


def test_times_are_shown_in_utc_and_lengths_in_fitting_units() -> None:
    assert format_moment(NOW + 123_456_789) == "2026-11-21 08:30:00.123"
    assert format_moment(NOW, 0) == "2026-11-21 08:30:00"
    lengths = [0, 999, 1_500, 999_600_000, 12_340_000, 1_500_000_000, 125 * 10**9, 2 * HOUR, -1_000_000]
    assert [format_length(length) for length in lengths] == [
        "0 s",
        "999 ns",
        "1.5 µs",
        "1000 ms",
        "12.3 ms",
        "1.5 s",
        "2 m 5 s",
        "2 h 0 m",
        "-1 ms",
    ]
