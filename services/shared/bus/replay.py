"""Batches that a bus gives back as bytes: after a restart, from another process, or because memory has no room for all.

Neighbours are decoded together: each call of a column engine costs as much for one item as for a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Generic

import structlog

from services.shared.bus.ingest import MOST_BYTES, MOST_REQUESTS, ColumnsT, ItemsT, Read
from services.shared.bus.port import Batch, Header

logger = structlog.get_logger(__name__)


class Replay(Generic[ItemsT, ColumnsT]):
    """Gives batches the columns that they had when they were published.

    Args:
        read: Decodes requests.
        columns: Turns the items of requests into columns and refuses nothing. Called by any thread.
    """

    def __init__(self, read: Read[ItemsT], columns: Callable[[ItemsT, Header], ColumnsT]) -> None:
        self._read = read
        self._columns = columns

    def decode(self, header: Header, payload: bytes) -> ColumnsT:
        """The columns of one batch. Raises what is wrong with it."""
        return self._columns(self._read(header.message_type, [payload]).items, header)

    def decode_all(self, batches: Iterable[Batch[ColumnsT]]) -> None:
        """Gives columns to batches that have none, as far as they can be read. Takes long for many: not in the loop."""
        for group in _groups(batch for batch in batches if not batch.is_decoded):
            if not self._decode_together(group) and len(group) > 1:
                for batch in group:
                    self._decode_together([batch])

    def _decode_together(self, batches: Sequence[Batch[ColumnsT]]) -> bool:
        header = batches[0].header
        try:
            requests = self._read(header.message_type, [batch.payload for batch in batches])
            if requests.items.need_now and len({batch.header.received_at for batch in batches}) > 1:
                return False
            columns = self._columns(requests.items, header)
            parts = [columns] if len(batches) == 1 else columns.split(requests.items, requests.ends)
        except Exception:
            # One is wrong, or all together are too large. One that is wrong alone says so to who asks for its columns.
            logger.debug("batches_not_decoded", count=len(batches), exc_info=True)
            return False
        for batch, part in zip(batches, parts, strict=True):
            batch.give(part)
        return True


def _groups(batches: Iterable[Batch[ColumnsT]]) -> Iterator[list[Batch[ColumnsT]]]:
    """Neighbours that may be decoded together, of bounded size."""
    for _, alike in groupby(batches, _alike):
        group: list[Batch[ColumnsT]] = []
        size = 0
        for batch in alike:
            if group and (len(group) == MOST_REQUESTS or size + len(batch.payload) > MOST_BYTES):
                yield group
                group, size = [], 0
            group.append(batch)
            size += len(batch.payload)
        yield group


def _alike(batch: Batch[ColumnsT]) -> tuple[str, str, int]:
    """What batches must have in common. One of which items were refused stands alone: they have its own indices."""
    header = batch.header
    return header.tenant, header.message_type, id(batch) if header.rejected else 0
