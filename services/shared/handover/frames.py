"""What goes over the socket: each frame has its length, the number of its call and what it is, then its content."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from services.shared import errors
from services.shared.errors import AirisError, FieldViolation
from services.shared.rpc.limits import MAX_MESSAGE_BYTES

# What stands before a message is less.
_MOST_BYTES = MAX_MESSAGE_BYTES + 1024 * 1024

_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<QB")
# When it ends, and how long the name of the tenant and the trace are.
_CALL = struct.Struct("<dHB")
# Not all subclasses: a store's own ones are told as the one whose code they have.
_CLASSES: dict[str, type[AirisError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AirisError)
}


class Kind(IntEnum):
    """What a frame is: two ways to call, their end, and what comes back."""

    UNARY = 1
    EXPORT = 2
    CANCEL = 3
    ANSWER = 4
    ERROR = 5
    ONLY_WAITS = 6
    NOT_TAKEN = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame.

    Attributes:
        number: Of the call, unique within its connection.
        kind: What it is.
        content: Of a call what `read_call` reads, of an answer the bytes of the response, of an error what
            `read_error` reads; of the others nothing.
    """

    number: int
    kind: Kind
    content: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is handed over.

    Attributes:
        tenant: Whose data it is.
        ends_at: Monotonic seconds after which nobody wants an answer: all processes of a machine have one such clock.
        payload: The bytes of its request.
        traceparent: The trace that it belongs to, as W3C writes it; empty: none.
    """

    tenant: str
    ends_at: float
    payload: bytes
    traceparent: str = ""


class Frames:
    """Finds frames in what arrives."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes what arrived, and gives each frame that is complete.

        Raises:
            ValueError: Whoever sends does not send frames.
        """
        self._waiting += data
        at = 0
        try:
            while len(self._waiting) - at >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._waiting, at)
                if not _HEAD.size <= length <= _MOST_BYTES:
                    raise ValueError(f"a frame of {length} bytes")
                begin, end = at + _LENGTH.size, at + _LENGTH.size + length
                if len(self._waiting) < end:
                    break
                number, kind = _HEAD.unpack_from(self._waiting, begin)
                content = bytes(memoryview(self._waiting)[begin + _HEAD.size : end])
                at = end
                yield Frame(number, Kind(kind), content)
        finally:
            del self._waiting[:at]


def frame(number: int, kind: Kind, content: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return b"".join((_LENGTH.pack(_HEAD.size + len(content)), _HEAD.pack(number, kind), content))


def call_frame(number: int, kind: Kind, call: Call) -> bytes:
    """The bytes of a call."""
    tenant, trace = call.tenant.encode(), call.traceparent.encode()
    length = _HEAD.size + _CALL.size + len(tenant) + len(trace) + len(call.payload)
    before = _LENGTH.pack(length), _HEAD.pack(number, kind), _CALL.pack(call.ends_at, len(tenant), len(trace))
    return b"".join((*before, tenant, trace, call.payload))


def read_call(content: bytes) -> Call:
    """Reads the content of a call. Raises `ValueError` if it is none."""
    try:
        ends_at, tenant, trace = _CALL.unpack_from(content)
    except struct.error as error:
        raise ValueError("a call without its beginning") from error
    behind_tenant = _CALL.size + tenant
    begin = behind_tenant + trace
    if len(content) < begin:
        raise ValueError("a call without its tenant")
    names = content[_CALL.size : behind_tenant].decode(), content[behind_tenant:begin].decode()
    return Call(names[0], ends_at, content[begin:], names[1])


def error_frame(number: int, error: AirisError) -> bytes:
    """The bytes of an error."""
    tree = {
        "code": error.code,
        "message": error.message,
        "reason": error.reason,
        "violations": [[each.field, each.description, each.reason] for each in error.violations],
        "retry_after": error.retry_after,
        "resource": error.resource,
        "metadata": error.metadata,
    }
    return frame(number, Kind.ERROR, json.dumps(tree).encode())


def read_error(content: bytes) -> AirisError:
    """Reads the content of an error."""
    tree = json.loads(content)
    return _CLASSES[tree["code"]](
        tree["message"],
        reason=tree["reason"],
        violations=tuple(FieldViolation(*each) for each in tree["violations"]),
        retry_after=tree["retry_after"],
        resource=tree["resource"] and tuple(tree["resource"]),
        metadata=tree["metadata"],
    )
