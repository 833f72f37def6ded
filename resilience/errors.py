"""What the policies raise themselves. An operation's own errors pass through unchanged."""

from __future__ import annotations

from typing import ClassVar


class ResilienceError(Exception):
    """A policy refused a call or ended it.

    Args:
        message: One plain sentence: what happened, to what.
        retry_after: Seconds after which a call makes sense again; None: it is not known.

    Attributes:
        reason: The kind of refusal, for programs.
    """

    reason: ClassVar[str] = "REFUSED"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The time that the call was given is spent."""

    reason = "DEADLINE_EXCEEDED"


class CircuitOpenError(ResilienceError):
    """The circuit breaker is open: the callee failed too often."""

    reason = "CIRCUIT_OPEN"


class BulkheadFullError(ResilienceError):
    """The pool of concurrent calls is full, and so is its queue, or the wait for a place took too long."""

    reason = "BULKHEAD_FULL"


class RateLimitedError(ResilienceError):
    """The bucket of tokens is empty."""

    reason = "RATE_LIMITED"


class OverloadedError(ResilienceError):
    """There is more to do than can be done in time; this call was shed."""

    reason = "OVERLOADED"


class InjectedFaultError(ResilienceError):
    """A test asked for this failure."""

    reason = "FAULT_INJECTED"
