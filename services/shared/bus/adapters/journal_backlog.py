"""What is durable and not committed, as far as memory has to know it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from services.shared.bus.adapters.journal_framing import decode_header
from services.shared.bus.port import Batch, ColumnsT, Header, Position

LONG_AGO = -math.inf
COLUMNS_BYTES = 35_000
"""What a batch takes in columns, however small it is."""


@dataclass(frozen=True, slots=True)
class Held(Generic[ColumnsT]):
    """A batch in memory; `arrived` is in seconds of the journal's clock."""

    batch: Batch[ColumnsT]
    frame_bytes: int
    arrived: float

    @property
    def memory(self) -> int:
        """About the bytes that it takes."""
        return len(self.batch.payload) + COLUMNS_BYTES


class Backlog(Generic[ColumnsT]):
    """The state that the publishing and the consuming side share; only the event loop's thread uses it.

    Args:
        max_held_bytes: Memory for published batches, by `Held.memory`; others are read again from the files.

    Attributes:
        committed: The last committed position.
        last: The last durable position.
        frame_bytes: Of all batches between the two.
        held_bytes: Of those in memory.
        arrivals: Set when batches were added.
        failure: Why the consuming side stopped: nothing more is taken or handed out.
    """

    def __init__(self, max_held_bytes: int) -> None:
        self._max_held_bytes = max_held_bytes
        # Encoded: a header as an object takes several times the memory.
        self._headers: deque[bytes] = deque()
        self._held: dict[int, Held[ColumnsT]] = {}
        self.committed = 0
        self.last = 0
        self.frame_bytes = 0
        self.held_bytes = 0
        self.arrivals = asyncio.Event()
        self.failure: str | None = None

    def __len__(self) -> int:
        return len(self._headers)

    def add(self, header: bytes, frame_bytes: int) -> int:
        """Counts a durable batch; returns its position."""
        self.last += 1
        self._headers.append(header)
        self.frame_bytes += frame_bytes
        return self.last

    def offer(self, position: int, held: Held[ColumnsT]) -> None:
        """Keeps a published batch in memory if there is room."""
        if self.held_bytes + held.memory <= self._max_held_bytes:
            self.hold(position, held)

    def hold(self, position: int, held: Held[ColumnsT]) -> None:
        """Keeps a batch in memory until it is committed."""
        self._held[position] = held
        self.held_bytes += held.memory

    def held(self, position: int) -> Held[ColumnsT] | None:
        """The batch, if it is in memory."""
        return self._held.get(position)

    def commit(self, through: int) -> None:
        """Forgets batches, all of which are held."""
        while self.committed < through:
            self.committed += 1
            self._headers.popleft()
            held = self._held.pop(self.committed)
            self.held_bytes -= held.memory
            self.frame_bytes -= held.frame_bytes

    def headers(self) -> Sequence[tuple[Position, Header]]:
        """Positions and headers in order."""
        return [
            (Position(position), decode_header(header))
            for position, header in enumerate(self._headers, start=self.committed + 1)
        ]
