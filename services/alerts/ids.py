"""Ids in order of their time: 26 lowercase characters, after the ULID."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from services.alerts.model import Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80


class TimeOrderedIds:
    """Makes ids: 48 bits of milliseconds since 1970, then 80 random bits.

    Args:
        clock: Tells the time.
        random_bits: Gives so many random bits as a number.
    """

    def __init__(self, clock: Clock, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._random_bits = random_bits
        self._last = 0

    def __call__(self) -> str:
        """A new id, later in order than those made before by this object."""
        milliseconds = int(self._clock().timestamp() * 1000)
        number = (milliseconds << _RANDOM_BITS) | self._random_bits(_RANDOM_BITS)
        if number <= self._last:
            number = self._last + 1
        self._last = number
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
