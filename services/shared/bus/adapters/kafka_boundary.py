"""The boundary of an insert as the metadata of a committed offset. Pure.

The committed offset is where the insert begins; the metadata says where it ends. Once the store has the insert, the
offset behind it is committed with empty metadata.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"v1 end=(\d{1,19})", re.ASCII)


class UnknownBoundaryError(Exception):
    """The metadata says something, and this version cannot read it."""


def encode(last: int | None) -> str:
    """The metadata of an insert that ends with an offset; of none, if None."""
    return "" if last is None else f"v1 end={last}"


def decode(first: int, metadata: str | None) -> int | None:
    """The last offset of the insert under way; None if none is.

    Args:
        first: The committed offset.
        metadata: What was committed with it.

    Raises:
        UnknownBoundaryError: A newer version, or another program, wrote it.
    """
    if not metadata:
        return None
    match = _FORM.fullmatch(metadata)
    if match is None or int(match[1]) < first:
        raise UnknownBoundaryError(f"metadata {metadata!r} at offset {first}")
    return int(match[1])
