"""Batches of a session that are not settled yet, in order of their sequences. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True, slots=True)
class OutgoingBatch:
    """A batch as it goes over the wire.

    Attributes:
        sequence: Its number within the producer.
        payload: The stream's message.
        item_count: How many items it has.
        first_item: How many items of the session came before it.
    """

    sequence: int
    payload: bytes
    item_count: int
    first_item: int


class Outbox:
    """Keeps what may have to be sent again, bounded.

    Args:
        max_batches: Batches that it holds at most.
        max_bytes: Bytes that it holds at most; one batch fits in any case.
    """

    def __init__(self, max_batches: int, max_bytes: int) -> None:
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._batches: deque[OutgoingBatch] = deque()
        self._bytes = 0
        self._sent = 0
        self._added_items = 0
        self.settled_through = 0
        self.settled_items = 0

    @property
    def last_sequence(self) -> int:
        """The highest sequence that was given out."""
        return self.settled_through + len(self._batches)

    @property
    def is_empty(self) -> bool:
        """Whether everything is settled."""
        return not self._batches

    @property
    def unanswered(self) -> int:
        """How many batches were sent on this stream and are not settled."""
        return self._sent

    def begin_after(self, sequence: int) -> None:
        """The first batch follows this sequence."""
        self.settled_through = sequence

    def has_room(self, size: int) -> bool:
        """Whether a batch of this size may be added."""
        return len(self._batches) < self._max_batches and (not self._batches or self._bytes + size <= self._max_bytes)

    def add(self, payload: bytes, item_count: int) -> None:
        """Takes the batch that has `last_sequence + 1`."""
        self._batches.append(OutgoingBatch(self.last_sequence + 1, payload, item_count, self._added_items))
        self._bytes += len(payload)
        self._added_items += item_count

    def next_to_send(self, max_batches: int, max_bytes: int) -> OutgoingBatch | None:
        """The first batch that was not sent, if the server's limits allow one more; it counts as sent.

        Args:
            max_batches: Batches that may be unanswered.
            max_bytes: Bytes that may be unanswered; one batch may be in any case.
        """
        if self._sent >= min(max_batches, len(self._batches)):
            return None
        batch = self._batches[self._sent]
        unanswered = sum(len(sent.payload) for sent in islice(self._batches, self._sent))
        if self._sent and unanswered + len(batch.payload) > max_bytes:
            return None
        self._sent += 1
        return batch

    def find(self, sequence: int) -> OutgoingBatch | None:
        """The batch of a sequence, if it is not settled."""
        index = sequence - self.settled_through - 1
        return self._batches[index] if 0 <= index < len(self._batches) else None

    def settle(self, through: int) -> bool:
        """Lets go of everything up to a sequence. Says whether that was anything."""
        before = self.settled_through
        while self._batches and self._batches[0].sequence <= through:
            batch = self._batches.popleft()
            self._bytes -= len(batch.payload)
            self._sent = max(0, self._sent - 1)
            self.settled_through = batch.sequence
            self.settled_items += batch.item_count
        return self.settled_through > before

    def send_again_from(self, sequence: int) -> None:
        """What has this sequence or a higher one counts as not sent."""
        self._sent = min(self._sent, max(0, sequence - self.settled_through - 1))
