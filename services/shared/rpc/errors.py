"""Domain errors on the wire: `google.rpc.Status` with ErrorInfo, BadRequest, RetryInfo and ResourceInfo."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2

from resilience.errors import DeadlineExceededError as DeadlineSpentError
from resilience.errors import ResilienceError
from resilience.grpc.guard import PermissionMissingError, TokenExpiredError
from resilience.grpc.status import error_info, make_status, retry_info
from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    FieldViolation,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
)

logger = structlog.get_logger(__name__)

# A status goes into trailers twice, worded and as bytes in base64, and a client takes 8 KiB of those unless it is told
# otherwise: of a longer one it sees nothing but an error of its own.
_MESSAGE_COST = 1200
_VIOLATION_COST = 300
_VIOLATIONS_BYTES = 2400


def to_status(error: AirisError, domain: str) -> status_pb2.Status:
    """Words an error, cut where it quotes so much of a request that no trailer would carry it.

    Args:
        error: The error.
        domain: The ErrorInfo domain: "metrics.airis".
    """
    details: list[message.Message] = [error_info(error.reason, domain, error.metadata)]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after is not None:
        details.append(retry_info(error.retry_after))
    if error.resource is not None:
        details.append(error_details_pb2.ResourceInfo(resource_type=error.resource[0], resource_name=error.resource[1]))
    return make_status(error.code, _cut(error.message, _MESSAGE_COST), details)


def item_status(violation: FieldViolation, domain: str) -> status_pb2.Status:
    """Words what is wrong with one item of a batch."""
    return make_status(
        "OUT_OF_RANGE" if violation.reason == "TIMESTAMP_OUT_OF_RANGE" else "INVALID_ARGUMENT",
        f"{violation.field} {violation.description}.",
        [error_info(violation.reason, domain), _bad_request((violation,))],
    )


def from_exception(error: BaseException, domain: str, method: str) -> AirisError:
    """The error that a caller is told: an unexpected one is logged and says nothing of its cause."""
    if isinstance(error, AirisError):
        return error
    if isinstance(error, ResilienceError):
        return _from_refusal(error)
    logger.error("unexpected_error", rpc=method, domain=domain, exc_info=error)
    return AirisError("The service failed to answer; its log says why. Try again, or report the request id.")


def _from_refusal(error: ResilienceError) -> AirisError:
    """What a policy's refusal is to the caller."""
    if isinstance(error, PermissionMissingError):
        return PermissionDeniedError(error.message, metadata={"permission": error.permission})
    if isinstance(error, TokenExpiredError):
        return UnauthenticatedError(error.message, reason=error.reason)
    if isinstance(error, DeadlineSpentError):
        return DeadlineExceededError(error.message)
    # To the caller a full pool is as any other overload.
    reason = "RATE_LIMITED" if error.reason == "RATE_LIMITED" else "OVERLOADED"
    return ResourceExhaustedError(error.message, reason=reason, retry_after=error.retry_after)


def _bad_request(violations: Iterable[FieldViolation]) -> error_details_pb2.BadRequest:
    """As many of them as fit, at least one."""
    request = error_details_pb2.BadRequest()
    for violation in violations:
        worded = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field, _VIOLATION_COST),
            description=_cut(violation.description, _VIOLATION_COST),
            reason=violation.reason,
        )
        if request.field_violations and request.ByteSize() + worded.ByteSize() > _VIOLATIONS_BYTES:
            break
        request.field_violations.append(worded)
    return request


def _cut(text: str, most: int) -> str:
    """A text that costs so many bytes at most where it is percent-encoded, as gRPC sends the message of a status.

    Half of a surrogate pair, as JSON may have it, becomes a question mark: no message of protobuf can hold it.
    """
    text = text.encode("utf-8", "replace").decode()
    if len(text) * 12 <= most:
        return text
    cost = 0
    for at, character in enumerate(text):
        cost += 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if cost > most:
            return text[:at] + "..."
    return text
