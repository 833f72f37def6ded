"""Sequences of one tenant's producers: which are settled, as few ranges.

Sequences mostly settle in order, so that one range is left: everything up to the highest. While later ones settle
before earlier ones there are gaps; a sequence in a gap is not settled.
"""

from __future__ import annotations

from collections import OrderedDict

from services.shared.bus.port import Position
from services.shared.errors import ResourceExhaustedError

# Far more than a stream has batches without an answer: the oldest gap is closed beyond it.
_MOST_RANGES = 1024
_MOST_REFUSED = 1024
_RETRY_SECONDS = 0.1


class _Producer:
    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = [(0, 0)]
        self.position = 0
        self.seen_at = 0
        # Not only the first: while it is repeated, those behind it may be refused as well.
        self.refused: set[int] = set()

    def holds(self, sequence: int) -> bool:
        # Newest first: what is asked for is near the end.
        return any(first <= sequence <= last for first, last in reversed(self.ranges))

    def add(self, first: int, last: int) -> None:
        apart = [r for r in self.ranges if r[1] < first - 1 or r[0] > last + 1]
        joined = [r for r in self.ranges if not (r[1] < first - 1 or r[0] > last + 1)]
        apart.append((min([first, *(r[0] for r in joined)]), max([last, *(r[1] for r in joined)])))
        apart.sort()
        if len(apart) > _MOST_RANGES:
            apart[:2] = [(apart[0][0], apart[1][1])]
        self.ranges = apart


class RecentProducers:
    """Remembers producers that were heard in the last `max_age` nanoseconds, at most a number of them."""

    def __init__(self, max_producers: int, max_age: int) -> None:
        self._max_producers = max_producers
        self._max_age = max_age
        self._producers: OrderedDict[str, _Producer] = OrderedDict()

    def add(self, producer_id: str, sequence: int, position: Position | None, seen_at: int) -> None:
        """Counts a sequence as settled; without a position if it was not published."""
        producer = self._of(producer_id, seen_at)
        producer.add(sequence, sequence)
        producer.refused.discard(sequence)
        if position is not None:
            producer.position = max(producer.position, position)

    def load(self, producer_id: str, sequence: int, seen_at: int) -> None:
        """Counts everything up to a sequence as settled."""
        producer = self._of(producer_id, seen_at)
        producer.add(0, sequence)
        # Another instance took what this one refused.
        producer.refused = {each for each in producer.refused if each > sequence}

    def refused(self, producer_id: str, sequence: int, now: int) -> None:
        """Says that a sequence was not taken, or may not have been."""
        producer = self._of(producer_id, now)
        if producer.holds(sequence):
            # Settled elsewhere before the outcome here was known: nobody will repeat it.
            return
        # Those beyond are behind them all.
        if len(producer.refused) < _MOST_REFUSED:
            producer.refused.add(sequence)

    def begun(self, producer_id: str, sequence: int) -> None:
        """Says that a sequence came again: later ones may follow, as long as it is not refused again."""
        if producer := self._producers.get(producer_id):
            producer.refused.discard(sequence)

    def refuse_overtaking(self, producer_id: str, sequence: int) -> None:
        """Raises `ResourceExhaustedError` if an earlier sequence was refused and not repeated yet."""
        producer = self._producers.get(producer_id)
        first = min(producer.refused, default=sequence) if producer else sequence
        if sequence > first:
            raise ResourceExhaustedError(
                f"Sequence {first} was not taken: send on from it.",
                reason="BACKLOG_FULL",
                retry_after=_RETRY_SECONDS,
                metadata={"from_sequence": str(first)},
            )

    def find(self, producer_id: str, sequence: int, now: int) -> Position | None:
        """If the sequence is settled: a position behind which everything of the producer is committed."""
        self._forget(now)
        producer = self._producers.get(producer_id)
        return Position(producer.position) if producer and producer.holds(sequence) else None

    def settled_through(self, producer_id: str) -> int:
        """The highest sequence up to which all are settled; 0 if none is."""
        producer = self._producers.get(producer_id)
        return producer.ranges[0][1] if producer else 0

    def highest(self, producer_id: str) -> int:
        """The highest sequence that is settled, also above gaps; 0 if none is."""
        producer = self._producers.get(producer_id)
        return producer.ranges[-1][1] if producer else 0

    def _of(self, producer_id: str, seen_at: int) -> _Producer:
        producer = self._producers.setdefault(producer_id, _Producer())
        producer.seen_at = max(producer.seen_at, seen_at)
        self._producers.move_to_end(producer_id)
        if len(self._producers) > self._max_producers:
            self._producers.popitem(last=False)
        return producer

    def _forget(self, now: int) -> None:
        while self._producers:
            oldest = next(iter(self._producers.values()))
            if now - oldest.seen_at <= self._max_age:
                return
            self._producers.popitem(last=False)
