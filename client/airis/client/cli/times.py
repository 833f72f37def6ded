"""Times as people type them: `--since 1h`, `--start 2026-11-21T08:00:00Z`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

SECOND = 1_000_000_000
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_UNITS |= {"d": 24 * _UNITS["h"], "w": 7 * 24 * _UNITS["h"]}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d|w)")
_FRACTION = re.compile(r"\.(\d{1,9})")


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Nanoseconds since 1970; None: the service's default."""

    start: int | None
    end: int | None


def parse_length(text: str) -> int:
    """A length of time, "90s", "1h30m" or "500ms", in nanoseconds.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    matches = list(_LENGTH.finditer(text))
    if not matches or "".join(match.group(0) for match in matches) != text:
        raise ValueError(f"{text!r} is not a length of time. Write for example 30s, 15m, 1h30m or 7d.")
    return sum(round(float(match.group(1)) * _UNITS[match.group(2)]) for match in matches)


def parse_moment(text: str) -> int:
    """An RFC 3339 time in nanoseconds since 1970; without a zone it is UTC.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    fraction = _FRACTION.search(text)
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time. Write for example 2026-11-21T08:30:00Z.") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    nanoseconds = int(fraction.group(1).ljust(9, "0")) if fraction else 0
    return round(moment.timestamp()) * SECOND + nanoseconds


def parse_range(
    since: str | None, until: str | None, start: str | None, end: str | None, now: int | None = None
) -> TimeRange:
    """The range that the options mean together.

    Args:
        since: A length before now, or a time.
        until: A length before now, or a time.
        start: A time.
        end: A time.
        now: Nanoseconds since 1970; None: by the clock.

    Raises:
        ValueError: Options are wrong or contradict each other.
    """
    if since and start:
        raise ValueError("Give --since or --start, not both.")
    if until and end:
        raise ValueError("Give --until or --end, not both.")
    moment = time.time_ns() if now is None else now
    first, last = _moment(since, moment), _moment(until, moment)
    first = parse_moment(start) if start else first
    last = parse_moment(end) if end else last
    if first is not None and first >= (moment if last is None else last):
        raise ValueError("The range is empty: its start is not before its end.")
    return TimeRange(first, last)


def _moment(text: str | None, now: int) -> int | None:
    if not text:
        return None
    if text == "now":
        return now
    try:
        return parse_moment(text) if "-" in text else now - parse_length(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither a length of time nor a time. Write for example 15m, 7d or 2026-11-21T08:30:00Z."
        ) from error


def format_moment(nanoseconds: int, fraction: int = 3) -> str:
    """ "2026-11-21 08:30:00.123" in UTC."""
    seconds, rest = divmod(nanoseconds, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{rest:09d}"[: len(text) + 1 + fraction] if fraction else text


def format_length(nanoseconds: int) -> str:
    """The length in the largest unit that keeps it readable: "1.23 ms", "4.5 s", "2 m 5 s"."""
    sign, size = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if size >= 100 * SECOND:
        minutes, seconds = divmod(round(size / SECOND), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{sign}{hours} h {minutes} m" if hours else f"{sign}{minutes} m {seconds} s"
    for unit in ("s", "ms", "us"):
        if size >= _UNITS[unit]:
            value = size / _UNITS[unit]
            return f"{sign}{value:{'.0f' if value >= 100 else '.3g'}} {unit.replace('us', 'µs')}"
    return f"{sign}{size} ns" if size else "0 s"
