"""What senders were told of their batches, and what the stores have of them: the two must agree. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What a sender knows of a batch."""

    UNKNOWN = "unknown"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store has of a batch.

    Attributes:
        items: How many.
        distinct: How many that are not the same.
    """

    items: int
    distinct: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Batches that are not as their senders were told; none is as it should be.

    Attributes:
        lost: Acknowledged, and not all of it is stored.
        doubled: Something of it is stored more often than its sender asked for.
        wrong: Refused, yet stored.
        torn: Nobody knows what became of it, and a part of it is stored: a batch is stored whole or not at all.
        alien: Stored, and never sent.
    """

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    alien: tuple[str, ...] = ()


@dataclass(slots=True)
class Row:
    """The batches that were begun during one fault: a row of the matrix.

    Attributes:
        stored: Batches of which the store has something.
        repeated: Those that are stored more than once because their sender, which has no ids, sent them again.
    """

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    stored: int = 0
    repeated: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0


@dataclass(slots=True)
class _Batch:
    items: int
    fault: str
    outcome: Outcome = Outcome.UNKNOWN
    copies: int = 1


@dataclass(slots=True)
class History:
    """Every batch that was sent, with its outcome. A batch has an id that is in each of its items.

    Attributes:
        fault: What goes on now; a batch belongs to what went on when it was begun.
    """

    fault: str = "none"
    _batches: dict[str, _Batch] = field(default_factory=dict)

    def begin(self, batch: str, items: int) -> None:
        """A batch is about to be sent: from now on it may be stored."""
        if batch in self._batches:
            raise ValueError(f"{batch} was sent before")
        self._batches[batch] = _Batch(items, self.fault)

    def repeat(self, batch: str) -> None:
        """A batch is about to be sent again without an id by which the service could know it.

        From now on one more copy of it may be stored: what became of the earlier ones is not known.
        """
        self._batches[batch].copies += 1

    def settle(self, batch: str, outcome: Outcome) -> None:
        """The sender was told."""
        self._batches[batch].outcome = outcome

    def count(self, outcome: Outcome) -> int:
        """How many batches have this outcome."""
        return sum(batch.outcome is outcome for batch in self._batches.values())

    def items(self, outcome: Outcome) -> int:
        """How many items such batches have together."""
        return sum(batch.items for batch in self._batches.values() if batch.outcome is outcome)

    def judge(self, stored: Mapping[str, Stored]) -> Verdict:
        """Compares with what is stored, by batch."""
        lost, doubled, wrong, torn = [], [], [], []
        for name, batch in self._batches.items():
            found = stored.get(name, Stored(0, 0))
            if found.items > batch.copies * found.distinct or found.distinct > batch.items:
                doubled.append(name)
            # Each copy is stored whole or not at all.
            elif found.distinct and found.items % found.distinct:
                torn.append(name)
            if batch.outcome is Outcome.ACKNOWLEDGED and found.distinct < batch.items:
                lost.append(name)
            if batch.outcome is Outcome.REFUSED and found.items:
                wrong.append(name)
            if batch.outcome is Outcome.UNKNOWN and 0 < found.distinct < batch.items and name not in torn:
                torn.append(name)
        alien = [name for name in stored if name not in self._batches]
        return Verdict(tuple(lost), tuple(doubled), tuple(wrong), tuple(torn), tuple(alien))

    def rows(self, stored: Mapping[str, Stored]) -> dict[str, Row]:
        """What the matrix says of each fault; `lost`, `doubled` and `wrong` are as `judge` finds them."""
        verdict = self.judge(stored)
        rows: dict[str, Row] = {}
        for name, batch in self._batches.items():
            row = rows.setdefault(batch.fault, Row())
            setattr(row, batch.outcome.value, getattr(row, batch.outcome.value) + 1)
            found = stored.get(name, Stored(0, 0))
            row.stored += found.items > 0
            row.repeated += found.items > found.distinct and name not in verdict.doubled
        for kind in ("lost", "doubled", "wrong"):
            for name in getattr(verdict, kind):
                row = rows[self._batches[name].fault]
                setattr(row, kind, getattr(row, kind) + 1)
        return rows
