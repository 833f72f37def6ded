"""How many messages there are within a message, from its bytes: counted before anything is built of them."""

from __future__ import annotations

from collections.abc import Set

Path = tuple[Set[int], ...]
"""The numbers of the fields, all messages, that lead inwards; one set a level."""

_LENGTH_DELIMITED = 2
_FIXED_SIZES = {1: 8, 5: 4}
# A few other fields stand beside those that lead inwards.
_FIELDS_A_MESSAGE = 8


def has_more_messages(payload: bytes, path: Path, most: int) -> bool:
    """Whether there are more than so many messages on some level of a path.

    What is walked is bounded by `most`. Bytes that are no message are left to the parser, which says so.

    Args:
        payload: The outermost message.
        path: Where the messages are.
        most: Messages on a level; there may be eight other fields for each.
    """
    # A message within another takes two bytes at least.
    if len(payload) <= 2 * most:
        return False
    # The bytes of a text may look like tags: only where there are very many is it worth a walk.
    if all(sum(payload.count(number << 3 | _LENGTH_DELIMITED) for number in numbers) <= most for numbers in path):
        return False
    try:
        return _walk(payload, path, most)
    except IndexError:
        return False


def _walk(payload: bytes, path: Path, most: int) -> bool:
    messages = [0] * len(path)
    fields = 0
    waiting = [(0, len(payload), 0)]
    while waiting:
        at, end, level = waiting.pop()
        while at < end:
            tag, at = _varint(payload, at)
            fields += 1
            wire_type = tag & 7
            if wire_type == _LENGTH_DELIMITED:
                size, at = _varint(payload, at)
                if tag >> 3 in path[level]:
                    messages[level] += 1
                    if messages[level] > most:
                        return True
                    if level + 1 < len(path):
                        waiting.append((at, at + size, level + 1))
                at += size
            elif wire_type == 0:
                _, at = _varint(payload, at)
            elif wire_type in _FIXED_SIZES:
                at += _FIXED_SIZES[wire_type]
            else:
                return False
            if fields > most * _FIELDS_A_MESSAGE:
                return True
    return False


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, at
        shift += 7
