"""When a circuit breaker opens and closes, and what it shows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_LONGEST_WINDOW_SECONDS = 3600.0
_MOST_WINDOW_CALLS = 1_000_000


class State(Enum):
    """Whether calls pass."""

    CLOSED = "closed"
    """They pass, and are counted."""
    OPEN = "open"
    """They are refused until `open_seconds` have passed."""
    HALF_OPEN = "half_open"
    """A few pass as probes, whose outcome decides."""
    FORCED_OPEN = "forced_open"
    """They are refused until `reset()` or `force_closed()`."""
    FORCED_CLOSED = "forced_closed"
    """They pass and nothing is counted, until `reset()` or `force_open()`."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens and closes. Any one of the limits opens it; None turns a limit off.

    Attributes:
        consecutive_failures: Opens after so many failures in a row; 1 or more.
        failure_rate: Opens when this share of the window's calls, or more, failed; above 0, at most 1.
        slow_call_rate: Opens when this share of the window's calls, or more, was slow; above 0, at most 1.
        slow_call_seconds: A call that takes longer is slow, whether it fails or not; 0 or more.
        window_calls: The rates are over the last so many calls; 1 to 1,000,000. Not used with `window_seconds`.
        window_seconds: The rates are over the calls that ended in the last seconds; above 0, at most 3600.
        minimum_calls: The rates say nothing over fewer calls; 1 or more. Over a window that holds fewer calls than
            this, they speak when it is full.
        open_seconds: How long calls are refused before probes, and how long a probe holds its place; above 0.
        half_open_calls: Probes that are let through; 1 or more.
        half_open_successes: Closes when so many probes succeeded, and opens again when so many no longer can; 1 to
            `half_open_calls`. A slow success is a failed probe where `slow_call_rate` is set.

    Raises:
        ValueError: A value is outside its range, or every limit is off.
    """

    consecutive_failures: int | None = 10
    failure_rate: float | None = 0.5
    slow_call_rate: float | None = None
    slow_call_seconds: float = 60.0
    window_calls: int = 100
    window_seconds: float | None = None
    minimum_calls: int = 20
    open_seconds: float = 10.0
    half_open_calls: int = 3
    half_open_successes: int = 2

    def __post_init__(self) -> None:
        for field in ("failure_rate", "slow_call_rate"):
            rate = getattr(self, field)
            if rate is not None and not 0 < rate <= 1:
                raise ValueError(f"{field} is {rate}; it must be above 0 and at most 1.")
        for field in ("consecutive_failures", "minimum_calls", "half_open_calls"):
            count = getattr(self, field)
            if count is not None and count < 1:
                raise ValueError(f"{field} is {count}; it must be 1 or more.")
        if not 1 <= self.window_calls <= _MOST_WINDOW_CALLS:
            raise ValueError(f"window_calls is {self.window_calls}; it must be 1 to {_MOST_WINDOW_CALLS}.")
        if self.window_seconds is not None and not 0 < self.window_seconds <= _LONGEST_WINDOW_SECONDS:
            raise ValueError(
                f"window_seconds is {self.window_seconds}; it must be above 0 and at most {_LONGEST_WINDOW_SECONDS:g}."
            )
        if not 1 <= self.half_open_successes <= self.half_open_calls:
            raise ValueError(
                f"half_open_successes is {self.half_open_successes}; it must be 1 to half_open_calls, "
                f"{self.half_open_calls}."
            )
        if not self.slow_call_seconds >= 0:
            raise ValueError(f"slow_call_seconds is {self.slow_call_seconds}; it must be 0 or more.")
        if not self.open_seconds > 0:
            raise ValueError(f"open_seconds is {self.open_seconds}; it must be above 0.")
        if self.consecutive_failures is None and self.failure_rate is None and self.slow_call_rate is None:
            raise ValueError("The breaker would never open: set consecutive_failures, failure_rate or slow_call_rate.")


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """A breaker at one moment.

    Attributes:
        name: The breaker's.
        state: Whether calls pass. An open breaker whose time is over stays OPEN until the next call.
        calls: In the window. An open or half-open breaker shows the window that opened it.
        failures: Of these.
        slow_calls: Of these.
        consecutive_failures: The failures since the last success.
        probes: Under way.
        probe_successes: Since the breaker became half-open.
        probe_failures: Since then.
        rejected: Calls refused since the breaker was made.
        retry_after: Seconds until an open breaker lets a probe through; None: it is not open, or for ever.
    """

    name: str
    state: State
    calls: int
    failures: int
    slow_calls: int
    consecutive_failures: int
    probes: int
    probe_successes: int
    probe_failures: int
    rejected: int
    retry_after: float | None
