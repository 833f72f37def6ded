"""Reading what a bare value looks like: numbers, durations, timestamps, booleans."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.shared.filter.ast import Literal, LiteralKind

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_DURATION = re.compile(r"([+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|µs|μs|ms|s|m|h|d)")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_SECOND = 1_000_000_000
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
    "d": 86400 * _SECOND,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_duration(text: str) -> int | None:
    """Nanoseconds of a duration such as "1.5h" or "100ms", cut to whole ones; None: it is none."""
    found = _DURATION.fullmatch(text)
    return int(Decimal(found[1]) * _UNITS[found[2]]) if found else None


def read_timestamp(text: str) -> int | None:
    """Nanoseconds since 1970 of an RFC 3339 date and time; None: it is none, or no such day exists."""
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[4].upper().replace('Z', '+00:00')}")
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return seconds * _SECOND + int((found[3] or "0").ljust(9, "0"))


def read_bare(text: str) -> Literal:
    """The literal that a bare (unquoted) value stands for."""
    if text in ("true", "false"):
        return Literal(LiteralKind.BOOLEAN, text == "true", text=text)
    if _INTEGER.fullmatch(text):
        return Literal(LiteralKind.INTEGER, int(text), text=text)
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return Literal(LiteralKind.NUMBER, float(text), text=text)
    duration = read_duration(text)
    if duration is not None:
        return Literal(LiteralKind.DURATION, duration, text=text)
    timestamp = read_timestamp(text)
    if timestamp is not None:
        return Literal(LiteralKind.TIMESTAMP, timestamp, text=text)
    if text == "*":
        return Literal(LiteralKind.WORD, "", starts_open=True, ends_open=True, text=text)
    starts_open, ends_open = text.startswith("*"), text.endswith("*")
    value = text[1 if starts_open else 0 : len(text) - 1 if ends_open else None]
    return Literal(LiteralKind.WORD, value, starts_open, ends_open, text)
