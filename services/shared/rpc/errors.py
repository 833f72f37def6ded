"""Domain errors on the wire: `google.rpc.Status` with ErrorInfo, BadRequest, RetryInfo and ResourceInfo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.shared.errors import AirisError, FieldViolation

logger = structlog.get_logger(__name__)

_STATUS_TRAILER = "grpc-status-details-bin"
_RETRY_TRAILER = "google.rpc.retryinfo-bin"
_CODES = {code.name: code for code in grpc.StatusCode}


def to_status(error: AirisError, domain: str) -> status_pb2.Status:
    """Words an error.

    Args:
        error: The error.
        domain: The ErrorInfo domain: "metrics.airis".
    """
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=domain, metadata=error.metadata)
    ]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after is not None:
        details.append(_retry_info(error.retry_after))
    if error.resource is not None:
        details.append(error_details_pb2.ResourceInfo(resource_type=error.resource[0], resource_name=error.resource[1]))
    return _status(error.code, error.message, details)


def item_status(violation: FieldViolation, domain: str) -> status_pb2.Status:
    """Words what is wrong with one item of a batch."""
    return _status(
        "OUT_OF_RANGE" if violation.reason == "TIMESTAMP_OUT_OF_RANGE" else "INVALID_ARGUMENT",
        f"{violation.field} {violation.description}.",
        [error_details_pb2.ErrorInfo(reason=violation.reason, domain=domain), _bad_request((violation,))],
    )


def from_exception(error: BaseException, domain: str, method: str) -> AirisError:
    """The error that a caller is told: an unexpected one is logged and says nothing of its cause."""
    if isinstance(error, AirisError):
        return error
    logger.error("unexpected_error", rpc=method, domain=domain, exc_info=error)
    return AirisError("The service failed to answer; its log says why. Try again, or report the request id.")


async def abort(context: grpc.aio.ServicerContext[object, object], error: AirisError, domain: str) -> NoReturn:
    """Ends a call with an error."""
    status = to_status(error, domain)
    trailers: list[tuple[str, str | bytes]] = [(_STATUS_TRAILER, status.SerializeToString())]
    if error.retry_after is not None:
        trailers.append((_RETRY_TRAILER, _retry_info(error.retry_after).SerializeToString()))
    await context.abort(_CODES[error.code], error.message, tuple(trailers))
    raise AssertionError("abort returned")


def _status(code: str, text: str, details: Iterable[message.Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(violations: Iterable[FieldViolation]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description, reason=v.reason)
            for v in violations
        ]
    )


def _retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)
