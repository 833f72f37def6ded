"""What a log store promises. `worker.py` writes, `query.py` and `tail.py` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.logs.model import (
    Arrived,
    Capabilities,
    CountQuery,
    Counts,
    LogColumns,
    LogEntry,
    Sample,
    SearchQuery,
    Selection,
)
from services.shared.bus.port import Header, Position
from services.shared.errors import ResourceExhaustedError
from services.shared.filter import Checked

MAX_GROUPS = 1000
"""The groups of a count: the largest."""
MAX_BUCKETS = 200_000
"""The buckets of all groups of a count together."""


class LogWriter(Protocol):
    """Stores accepted entries."""

    async def write(
        self, batches: Sequence[tuple[Position, Header, LogColumns]], token: str, is_repeated: bool = False
    ) -> None:
        """Stores batches as one insert. The same token with the same batches stores nothing again, also after
        a crash in the middle.

        Args:
            batches: In the order of the bus.
            token: The same for the same batches.
            is_repeated: Whether an earlier attempt may have been cut off.

        Raises:
            AirisError: Nothing, or only a part, was stored; repeat with the same token.
        """
        ...


class LogReader(Protocol):
    """Answers questions. Each takes the seconds it may use and raises `DeadlineExceededError` beyond them."""

    def capabilities(self) -> Capabilities:
        """What the store can do."""
        ...

    async def search(self, query: SearchQuery, condition: Checked | None, timeout: float) -> list[LogEntry]:
        """Entries in a total order: by timestamp, then by `ingest_position`, both ascending or both descending."""
        ...

    async def tail(
        self, tenant: str, condition: Checked | None, arrived: Sequence[Arrived], limit: int, timeout: float
    ) -> list[LogEntry]:
        """Entries that came in these ranges, in the order of ingest."""
        ...

    async def count(self, query: CountQuery, condition: Checked | None, timeout: float) -> Counts:
        """Counts by bucket and group: the `MAX_GROUPS` largest, equal ones by their fields. `query.step` is not 0.

        Raises:
            ResourceExhaustedError: See `too_many_buckets`.
        """
        ...

    async def sample(self, selection: Selection, condition: Checked | None, limit: int, timeout: float) -> list[Sample]:
        """The newest entries, the newest first; messages cut to 1,000 characters."""
        ...


def too_many_buckets() -> ResourceExhaustedError:
    """What a count raises whose groups have more than `MAX_BUCKETS` together."""
    return ResourceExhaustedError(
        f"The result has more than {MAX_BUCKETS} buckets. Ask for a shorter range, a longer step or fewer groups.",
        reason="RESULT_TOO_LARGE",
    )
