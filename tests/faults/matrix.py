"""What the fault tests found, as a table: a row for each fault and signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields

from faults.history import History, Row, Stored

_COLUMNS = tuple(each.name for each in fields(Row))


@dataclass(slots=True)
class Matrix:
    """Collects rows.

    Attributes:
        rows: By profile, fault and signal.
        seconds: Until everything was taken again, likewise; none where nothing was away.
    """

    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    seconds: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def recovered(self, profile: str, fault: str, seconds: Mapping[str, float]) -> None:
        """Notes how long it took, by signal; of several times the longest counts."""
        for signal, took in seconds.items():
            key = (profile, fault, signal)
            self.seconds[key] = max(took, self.seconds.get(key, 0.0))

    def add(self, profile: str, signal: str, history: History, stored: Mapping[str, Stored]) -> None:
        """Adds what there is of a signal's batches."""
        for fault, found in history.rows(stored).items():
            row = self.rows.setdefault((profile, fault, signal), Row())
            for name in _COLUMNS:
                setattr(row, name, getattr(row, name) + getattr(found, name))

    def replace(self, profile: str, signal: str, history: History, stored: Mapping[str, Stored]) -> None:
        """The same for batches of which some may have been added before: their rows are made anew."""
        self.rows |= {(profile, fault, signal): row for fault, row in history.rows(stored).items()}

    def lines(self) -> list[str]:
        """The table as text."""
        titles = ("profile", "fault", "signal", *_COLUMNS, "recovered in")
        table = [titles]
        for key, row in self.rows.items():
            took = self.seconds.get(key)
            table.append((*key, *map(str, astuple(row)), "" if took is None else f"{took:.1f} s"))
        widths = [max(len(line[column]) for line in table) for column in range(len(titles))]
        return [
            "  ".join(cell.ljust(width) if at < 3 else cell.rjust(width) for at, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(line, widths, strict=True)) for line in table)
        ]


MATRIX = Matrix()
"""Of this run."""
