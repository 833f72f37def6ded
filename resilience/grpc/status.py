"""`google.rpc.Status` on the wire: worded, sent as trailers, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from resilience.errors import (
    ResilienceError,
)

STATUS_TRAILER = "grpc-status-details-bin"
RETRY_TRAILER = "google.rpc.retryinfo-bin"
"""What OTLP exporters read besides."""

CODES: Mapping[str, grpc.StatusCode] = {code.name: code for code in grpc.StatusCode}

_REFUSALS: Mapping[str, str] = {
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "CIRCUIT_OPEN": "UNAVAILABLE",
    "BULKHEAD_FULL": "RESOURCE_EXHAUSTED",
    "RATE_LIMITED": "RESOURCE_EXHAUSTED",
    "OVERLOADED": "RESOURCE_EXHAUSTED",
    "PERMISSION_MISSING": "PERMISSION_DENIED",
    "TOKEN_EXPIRED": "UNAUTHENTICATED",
}


def make_status(code: str, text: str, details: Iterable[Message] = ()) -> status_pb2.Status:
    """A status with its details.

    Args:
        code: A name of `google.rpc.Code`.
        text: One plain sentence for the caller.
        details: Messages of `google.rpc`.
    """
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def error_info(reason: str, domain: str, metadata: Mapping[str, str] | None = None) -> error_details_pb2.ErrorInfo:
    """Why, for programs."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {})


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    """When a retry makes sense."""
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def refusal(error: ResilienceError, domain: str) -> status_pb2.Status:
    """How a policy's refusal is worded."""
    details: list[Message] = [error_info(error.reason, domain)]
    if error.retry_after is not None:
        details.append(retry_info(error.retry_after))
    return make_status(_REFUSALS.get(error.reason, "UNAVAILABLE"), error.message, details)


def trailers(status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries a status."""
    found: list[tuple[str, str | bytes]] = [(STATUS_TRAILER, status.SerializeToString())]
    for detail in status.details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            found.append((RETRY_TRAILER, detail.value))
    return tuple(found)


def retry_after(error: BaseException) -> float | None:
    """Seconds after which the callee asks to be called again; None: it does not say.

    Args:
        error: What a call raised.
    """
    if isinstance(error, ResilienceError):
        return error.retry_after
    read = getattr(error, "trailing_metadata", None)
    if read is None:
        return None
    metadata: Any = read() or ()
    for key, value in metadata:
        if key == STATUS_TRAILER:
            try:
                status = status_pb2.Status.FromString(value)
                for detail in status.details:
                    if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                        info = error_details_pb2.RetryInfo.FromString(detail.value)
                        return max(0.0, float(info.retry_delay.ToNanoseconds()) / 1e9)
            except DecodeError:
                return None
    return None
