"""What happened to one signal, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from airis.client.canary.latencies import Latencies

WINDOW_SECONDS = 300.0
_WINDOW_ROUNDS = 10_000
_ERRORS = 20


class Measures(Protocol):
    """Who else is told: OpenTelemetry."""

    def called(self, signal: str, operation: str, code: str, seconds: float) -> None:
        """A call ended. `operation` is "write" or "read", `code` a status code's name."""

    def ended(self, signal: str, outcome: str) -> None:
        """A round ended: "ok", "failed" or "skipped"."""

    def seen(self, signal: str, seconds: float) -> None:
        """An item was seen so long after its write began."""

    def found(self, signal: str, what: str, count: int) -> None:
        """Items were found "missing", "doubled", "late" or "unverified"."""


@dataclass(slots=True)
class Counts:
    """Sums since the start, or between two moments.

    Attributes:
        rounds: Rounds that ended, the skipped ones included.
        failed: Those in which a call failed, or the item was not seen in time, or not once.
        skipped: Those of them that were not begun, because too many were under way.
        late: Items that were seen, but not in time.
        missing: Items that were acknowledged and are not there when looked for once more.
        doubled: Items of which there is more than one.
        unverified: Items that nobody could look for once more.
        calls: Calls of the client, its own repetitions not counted.
        errors: Calls that failed, by operation, code and what was said; the rarest are not kept.
        write: How long writes took until they were acknowledged, in seconds.
        read: How long answered reads took, in seconds.
        visible: From the begin of a write until a read showed the item, in seconds.
    """

    rounds: int = 0
    failed: int = 0
    skipped: int = 0
    late: int = 0
    missing: int = 0
    doubled: int = 0
    unverified: int = 0
    calls: int = 0
    errors: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    write: Latencies = field(default_factory=Latencies)
    read: Latencies = field(default_factory=Latencies)
    visible: Latencies = field(default_factory=Latencies)

    @property
    def availability(self) -> float:
        """The share of rounds that went well; 1 when there are none."""
        return 1.0 - self.failed / self.rounds if self.rounds else 1.0

    @property
    def failed_calls(self) -> int:
        """Calls that failed."""
        return sum(self.errors.values())

    def copy(self) -> Counts:
        """As they are now."""
        return replace(
            self,
            errors=Counter(self.errors),
            write=self.write.copy(),
            read=self.read.copy(),
            visible=self.visible.copy(),
        )

    def since(self, before: Counts) -> Counts:
        """What was added since a copy was made."""
        names = ("rounds", "failed", "skipped", "late", "missing", "doubled", "unverified", "calls")
        numbers: dict[str, Any] = {name: getattr(self, name) - getattr(before, name) for name in names}
        return Counts(
            **numbers,
            errors=self.errors - before.errors,
            write=self.write.since(before.write),
            read=self.read.since(before.read),
            visible=self.visible.since(before.visible),
        )


class Record:
    """Everything that is known of one signal.

    Args:
        signal: "metrics", "logs", "traces" or "alerts".
        measures: Who else is told.
        clock: Monotonic seconds.

    Attributes:
        total: Since the start.
    """

    def __init__(self, signal: str, measures: Measures, clock: Callable[[], float]) -> None:
        self.signal = signal
        self.total = Counts()
        self._measures = measures
        self._clock = clock
        self._recent: deque[tuple[float, bool]] = deque(maxlen=_WINDOW_ROUNDS)

    def answered(self, operation: str, seconds: float) -> None:
        """A write was acknowledged, or a read answered."""
        self.total.calls += 1
        (self.total.write if operation == "write" else self.total.read).add(seconds)
        self._measures.called(self.signal, operation, "OK", seconds)

    def refused(self, operation: str, code: str, text: str, seconds: float) -> None:
        """A call failed for good, after all its repetitions."""
        self.total.calls += 1
        key = (operation, code, text)
        if key not in self.total.errors and len(self.total.errors) >= _ERRORS:
            key = (operation, code, "other errors")
        self.total.errors[key] += 1
        self._measures.called(self.signal, operation, code, seconds)

    def seen(self, seconds: float) -> None:
        """An item was seen in time."""
        self.total.visible.add(seconds)
        self._measures.seen(self.signal, seconds)

    def ended(self, *, well: bool, skipped: bool = False) -> None:
        """A round ended, or was not begun."""
        self.total.rounds += 1
        self.total.failed += not well
        self.total.skipped += skipped
        self._recent.append((self._clock(), well))
        self._measures.ended(self.signal, "ok" if well else "skipped" if skipped else "failed")

    def found(self, what: str, count: int = 1) -> None:
        """Items turned out to be "late", "missing", "doubled" or "unverified"."""
        setattr(self.total, what, getattr(self.total, what) + count)
        self._measures.found(self.signal, what, count)

    def recent_availability(self) -> float:
        """The share of rounds that went well within the last five minutes; 1 when there are none."""
        begin = self._clock() - WINDOW_SECONDS
        recent = [well for at, well in self._recent.copy() if at >= begin]
        return sum(recent) / len(recent) if recent else 1.0
