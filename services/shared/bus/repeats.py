"""Drops batches that are stored already, where several processes publish and only the worker sees them all.

The store keeps the ids of an insert behind its data: an id that is known means that all its data is there. All
batches of a sender are in one partition, and one worker at a time has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from services.shared.bus.port import Batch, Header, Position

ColumnsT = TypeVar("ColumnsT")


class KnownIds(Protocol):
    """The ids that are kept with the data."""

    async def known_requests(self, headers: Sequence[Header]) -> set[tuple[str, str]]:
        """The tenant and request id of those among the batches that are stored; of the last 24 hours."""
        ...

    async def highest_sequences(self, producers: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """For those among the producers (tenant, producer id) that are known, the highest stored sequence."""
        ...


class Repeats(Generic[ColumnsT]):
    """Tells new batches from repeated ones.

    Args:
        ids: What the store has.
    """

    def __init__(self, ids: KnownIds) -> None:
        self._ids = ids

    async def drop(self, batches: Sequence[tuple[Position, Batch[ColumnsT]]]) -> list[tuple[Position, Batch[ColumnsT]]]:
        """The batches that are neither stored nor earlier in the same insert.

        Sequences of a producer come in order: what is not above the highest was there before.

        Raises:
            AirisError: The store cannot tell now.
        """
        headers = [batch.header for _, batch in batches]
        seen: set[tuple[str, str]] = set()
        if requests := [header for header in headers if header.request_id]:
            seen = await self._ids.known_requests(requests)
        highest: dict[tuple[str, str], int] = {}
        if producers := {_producer(header) for header in headers if not header.request_id and header.producer_id}:
            highest = await self._ids.highest_sequences(producers)
        fresh = []
        for position, batch in batches:
            header = batch.header
            if header.request_id:
                request = (header.tenant, header.request_id)
                if request in seen:
                    continue
                seen.add(request)
            elif header.producer_id:
                if header.sequence <= highest.get(_producer(header), 0):
                    continue
                highest[_producer(header)] = header.sequence
            fresh.append((position, batch))
        return fresh


def _producer(header: Header) -> tuple[str, str]:
    return header.tenant, header.producer_id
