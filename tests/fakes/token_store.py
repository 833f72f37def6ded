"""A store that knows repeated inserts by their token and nothing else, as ClickHouse does, and counts what it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from services.shared.bus.port import Header


class TokenStore:
    """Implements what `drain` writes to, and `KnownIds`.

    Attributes:
        inserts: For each token the batches that came with it first.
        repeated: Tokens that came again.
    """

    def __init__(self) -> None:
        self.inserts: dict[str, list[Header]] = {}
        self.repeated: list[str] = []

    async def write(self, batches: Sequence[tuple[Header, object]], token: str, is_repeated: bool = False) -> None:
        """Stores an insert; a repeated one must have the same batches."""
        headers = [header for header, _ in batches]
        if token in self.inserts:
            self.repeated.append(token)
            assert self.inserts[token] == headers
            return
        self.inserts[token] = headers

    async def known_requests(self, headers: Sequence[Header]) -> set[tuple[str, str]]:
        """See `KnownIds.known_requests`."""
        stored = {(header.tenant, header.request_id) for its in self.inserts.values() for header in its}
        return {(header.tenant, header.request_id) for header in headers} & stored

    async def highest_sequences(self, producers: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """See `KnownIds.highest_sequences`."""
        highest: dict[tuple[str, str], int] = {}
        for its in self.inserts.values():
            for header in its:
                producer = (header.tenant, header.producer_id)
                if producer in producers:
                    highest[producer] = max(highest.get(producer, 0), header.sequence)
        return highest

    @property
    def stored(self) -> Counter[str]:
        """How often each batch is stored, by its request id, or its producer and sequence."""
        return Counter(
            header.request_id or f"{header.producer_id}/{header.sequence}"
            for its in self.inserts.values()
            for header in its
        )
