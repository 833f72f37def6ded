"""What a call raises: the service's `google.rpc.Status`, read from the trailers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field. `field` is a path as in `metrics[3].name`."""

    field: str
    description: str
    reason: str = ""


class AirisError(Exception):
    """A call failed.

    Attributes:
        code: The gRPC status code.
        message: What went wrong, in one sentence.
        reason: A name of `airis.common.v1.Error.Reason`; empty if the failure came from the transport.
        violations: The fields of the request at fault.
        retry_delay: Seconds after which the service asks to be called again; None: it does not say.
        resource: The name of the resource at fault, or empty.
        metadata: Further facts for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_delay: float | None = None,
        resource: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations
        self.retry_delay = retry_delay
        self.resource = resource
        self.metadata = dict(metadata or {})


class InvalidArgumentError(AirisError):
    """The request is wrong, whatever the state of the system."""


class NotFoundError(AirisError):
    """The named resource does not exist."""


class AlreadyExistsError(AirisError):
    """A resource of that name exists."""


class FailedPreconditionError(AirisError):
    """The system is not in a state that allows this."""


class AbortedError(AirisError):
    """Somebody else changed the resource; read it again."""


class ResourceExhaustedError(AirisError):
    """A limit is reached; with `retry_delay`, it passes by itself."""


class UnavailableError(AirisError):
    """The service cannot be reached or cannot answer now."""


class DeadlineExceededError(AirisError):
    """The call took longer than its deadline."""


class UnimplementedError(AirisError):
    """The service, its store or its version cannot do this."""


class PermissionDeniedError(AirisError):
    """The caller may not do this, or is not known."""


_CLASSES: dict[grpc.StatusCode, type[AirisError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_call(error: grpc.RpcError) -> AirisError:
    """The error of a failed call."""
    try:
        status = rpc_status.from_call(error)
    except (DecodeError, ValueError):
        # Details that do not fit the status came from something between us and the service.
        status = None
    if status is not None:
        return from_status(status)
    code = error.code()
    return failure(code, error.details() or f"The call failed with {code.name}.")


def from_status(status: status_pb2.Status) -> AirisError:
    """The error that a status words: of a call, or of a rejected batch or item."""
    reason, resource, metadata = "", "", dict[str, str]()
    violations: list[FieldViolation] = []
    retry_delay: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            violations += [FieldViolation(v.field, v.description, v.reason) for v in request.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_delay = delay.ToNanoseconds() / 1e9
        elif detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR):
            resource = error_details_pb2.ResourceInfo.FromString(detail.value).resource_name
    return failure(
        _CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        status.message,
        reason=reason,
        violations=tuple(violations),
        retry_delay=retry_delay,
        resource=resource,
        metadata=metadata,
    )


def failure(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str = "",
    violations: tuple[FieldViolation, ...] = (),
    retry_delay: float | None = None,
    resource: str = "",
    metadata: Mapping[str, str] | None = None,
) -> AirisError:
    """An error of the class that stands for its code."""
    return _CLASSES.get(code, AirisError)(
        message,
        code=code,
        reason=reason,
        violations=violations,
        retry_delay=retry_delay,
        resource=resource,
        metadata=metadata,
    )
