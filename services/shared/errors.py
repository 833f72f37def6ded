"""The errors that services raise. They know nothing of gRPC: `shared.rpc.errors` words them on the wire.

Each class stands for one status code; `reason` is a name of `airis.common.v1.Error.Reason`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field. `field` is a path as in `metrics[3].name`."""

    field: str
    description: str
    reason: str = "INVALID_FIELD"


class AirisError(Exception):
    """An error that a caller is told.

    Args:
        message: One plain sentence for the caller: what is wrong and what to do.
        reason: A name of `airis.common.v1.Error.Reason`.
        violations: The fields at fault.
        retry_after: Seconds after which a retry makes sense; None: it makes none.
        resource: The resource at fault, as ("alertRule", "alertRules/x").
        metadata: Further facts for programs.
    """

    code: ClassVar[str] = "INTERNAL"
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
        resource: tuple[str, str] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.violations = violations
        self.retry_after = retry_after
        self.resource = resource
        self.metadata = metadata or {}


class InvalidArgumentError(AirisError):
    """The request is wrong, whatever the state of the system."""

    code = "INVALID_ARGUMENT"
    default_reason = "INVALID_FIELD"


class NotFoundError(AirisError):
    """The named resource does not exist."""

    code = "NOT_FOUND"
    default_reason = "NOT_FOUND"


class AlreadyExistsError(AirisError):
    """A resource of that name exists."""

    code = "ALREADY_EXISTS"
    default_reason = "ALREADY_EXISTS"


class FailedPreconditionError(AirisError):
    """The system is not in a state that allows this; a retry does not help."""

    code = "FAILED_PRECONDITION"
    default_reason = "WRONG_STATE"


class AbortedError(AirisError):
    """Somebody else changed the resource; read it again and retry at a higher level."""

    code = "ABORTED"
    default_reason = "ETAG_MISMATCH"


class ResourceExhaustedError(AirisError):
    """A limit is reached. With `retry_after`, it passes by itself."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "BACKLOG_FULL"


class UnavailableError(AirisError):
    """The service or its store cannot answer now; a retry may help."""

    code = "UNAVAILABLE"
    default_reason = "STORE_UNAVAILABLE"


class DeadlineExceededError(AirisError):
    """The call took longer than its deadline."""

    code = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class UnimplementedError(AirisError):
    """The configured store, or this version, cannot do this."""

    code = "UNIMPLEMENTED"
    default_reason = "NOT_SUPPORTED"


class UnauthenticatedError(AirisError):
    """It is not known who calls: there is no token, or it is not valid. The token is never repeated."""

    code = "UNAUTHENTICATED"
    default_reason = "TOKEN_INVALID"


class PermissionDeniedError(AirisError):
    """It is known who calls, and they may not do this."""

    code = "PERMISSION_DENIED"
    default_reason = "PERMISSION_MISSING"
