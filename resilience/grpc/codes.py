"""What the end of a gRPC call says: of the callee's health, and of whether to try again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from resilience import deadline
from resilience.contract import MethodPolicy
from resilience.errors import ResilienceError
from resilience.grpc.status import refusal, retry_after, trailers
from resilience.outcome import Outcome

_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
    }
)
_SAY_NOTHING = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        # A callee that sheds load answers quickly and works; to stop calling it would waste what it can do.
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)

_CALLERS_OWN = frozenset(
    {
        (grpc.StatusCode.UNKNOWN, "Exception iterating requests!"),
        (grpc.StatusCode.INTERNAL, "Exception serializing request!"),
    }
)
"""What a blocking channel says when the caller's own iterator or request failed: the callee has no part in it."""


class RefusedCallError(grpc.aio.AioRpcError):  # type: ignore[misc]
    """A policy of the client refused a call or ended it. To the caller it is as any other failed call.

    Args:
        error: The refusal.
        target: Who was to be called, for the status's domain.
    """

    def __init__(self, error: ResilienceError, target: str) -> None:
        status = refusal(error, target)
        (code,) = [code for code in grpc.StatusCode if code.value[0] == status.code]
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers(status)), details=status.message)
        self.reason = error.reason
        self.retry_after = error.retry_after


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """The status code of a failed call; None: it is no failed call."""
    if not isinstance(error, grpc.RpcError):
        return None
    read: Any = getattr(error, "code", None)
    return read() if callable(read) else None


def classify(error: BaseException) -> Outcome:
    """What a failed call says of the callee.

    Answers that blame the request (INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, …) show that the callee works.
    Cancellation, refusals of our own and shed load say nothing.
    """
    if isinstance(error, (ResilienceError, asyncio.CancelledError)):
        return Outcome.IGNORED
    code = code_of(error)
    if code is None:
        return Outcome.FAILURE if isinstance(error, Exception) else Outcome.IGNORED
    details: Any = getattr(error, "details", None)
    if callable(details) and is_callers_own(code, details()):
        return Outcome.IGNORED
    return classify_code(code)


def is_callers_own(code: grpc.StatusCode, details: str | None) -> bool:
    """Whether a call failed because of what its caller gave to be sent."""
    return (code, details) in _CALLERS_OWN


def classify_code(code: grpc.StatusCode) -> Outcome:
    """What a status code says of the callee."""
    if code in _SAY_NOTHING:
        return Outcome.IGNORED
    return Outcome.FAILURE if code in _FAILURES else Outcome.SUCCESS


def retryable(policy: MethodPolicy) -> Callable[[BaseException], bool]:
    """Tells which failed calls of a method may be repeated: those whose code the contract names.

    RESOURCE_EXHAUSTED needs RetryInfo besides. An attempt that took longer than its own limit may be repeated while
    the call as a whole has time.
    """
    codes = policy.retry.retryable_codes if policy.retry else frozenset({"UNAVAILABLE"})
    has_attempt_deadline = policy.retry is not None and policy.retry.attempt_deadline is not None

    def is_retryable(error: BaseException) -> bool:
        code = code_of(error)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and has_attempt_deadline:
            left = deadline.remaining()
            return left is None or left > 0
        if code is None or code.name not in codes:
            return False
        return code is not grpc.StatusCode.RESOURCE_EXHAUSTED or retry_after(error) is not None

    return is_retryable
