"""What a service adds to the interceptor of its calls: tenant, validation by the contract, the words of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import protovalidate
from google.protobuf.message import Message
from google.rpc import status_pb2

from resilience.grpc.guard import Caller
from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.rpc.context import set_tenant
from services.shared.rpc.decoding import Malformed
from services.shared.rpc.errors import from_exception, to_status
from services.shared.rpc.update_mask import has_effect

_VALIDATOR = protovalidate.Validator()


class ServiceCalls:
    """What the interceptor asks of a service (`resilience.grpc.server.Served`).

    Args:
        domain: The ErrorInfo domain: "metrics.airis".
    """

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def admitted(self, caller: Caller) -> None:
        """The token, and nothing else, says whose data a call is about."""
        set_tenant(caller.tenant)

    def check(self, request: object) -> None:
        """Raises `InvalidArgumentError` if a request breaks a rule of its contract."""
        validate(request)

    def describe(self, error: Exception, method: str) -> status_pb2.Status:
        """Words an error for the caller."""
        return to_status(from_exception(error, self._domain, method), self._domain)


def validate(request: object) -> None:
    """Checks a parsed request against the rules of its contract; ingest bytes are checked as columns instead.

    Raises:
        InvalidArgumentError: With each violated rule's field, or it could not be parsed (MALFORMED_REQUEST).
    """
    if isinstance(request, Malformed):
        raise InvalidArgumentError(
            f"The request is not a valid {request.message_type} message.", reason="MALFORMED_REQUEST"
        )
    if not isinstance(request, Message):
        return
    found = [
        violation
        for violation in _VALIDATOR.collect_violations(request)
        if has_effect(request, [element.field_name for element in _elements(violation.proto.field)])
    ]
    if not found:
        return
    violations = tuple(
        FieldViolation(_path(violation.proto.field), violation.proto.message) for violation in found[:100]
    )
    raise InvalidArgumentError(
        "; ".join(f"{v.field or 'the request'} {v.description}" for v in violations[:3]) + ".", violations=violations
    )


def _elements(field: Any) -> Sequence[Any]:
    return field.elements if field is not None else ()


def _path(field: Any) -> str:
    path = ""
    for element in _elements(field):
        path += f".{element.field_name}" if path else element.field_name
        subscript = getattr(element, "subscript", None)
        value = getattr(subscript, "value", None)
        if value is not None:
            path += f"[{value!r}]" if isinstance(value, str) else f"[{value}]"
    return path
