"""Which times an item may have: those that are kept, and as clocks differ up to a day ahead."""

from __future__ import annotations

DAY_NS = 86_400 * 1_000_000_000


def accepted_times(now_ns: int, days: int) -> tuple[int, int]:
    """The oldest and the newest, in nanoseconds since 1970.

    Args:
        now_ns: The moment of the check.
        days: For how long items are kept.
    """
    return now_ns - days * DAY_NS, now_ns + DAY_NS
