from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Error(_message.Message):
    __slots__ = ()
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Error.Reason]
        INVALID_FIELD: _ClassVar[Error.Reason]
        MALFORMED_REQUEST: _ClassVar[Error.Reason]
        INVALID_FILTER: _ClassVar[Error.Reason]
        INVALID_PAGE_TOKEN: _ClassVar[Error.Reason]
        INVALID_NAME: _ClassVar[Error.Reason]
        NON_FINITE_VALUE: _ClassVar[Error.Reason]
        TIMESTAMP_OUT_OF_RANGE: _ClassVar[Error.Reason]
        LABEL_LIMIT_EXCEEDED: _ClassVar[Error.Reason]
        UNKNOWN_ENUM_VALUE: _ClassVar[Error.Reason]
        SIZE_LIMIT_EXCEEDED: _ClassVar[Error.Reason]
        INVALID_ID: _ClassVar[Error.Reason]
        NEGATIVE_DURATION: _ClassVar[Error.Reason]
        INCONSISTENT_DISTRIBUTION: _ClassVar[Error.Reason]
        NOT_FOUND: _ClassVar[Error.Reason]
        ALREADY_EXISTS: _ClassVar[Error.Reason]
        ETAG_MISMATCH: _ClassVar[Error.Reason]
        WRONG_STATE: _ClassVar[Error.Reason]
        NOT_SUPPORTED: _ClassVar[Error.Reason]
        BEYOND_RETENTION: _ClassVar[Error.Reason]
        RESULT_TOO_LARGE: _ClassVar[Error.Reason]
        INCOMPATIBLE_DATA: _ClassVar[Error.Reason]
        BACKLOG_FULL: _ClassVar[Error.Reason]
        DISK_FULL: _ClassVar[Error.Reason]
        NOT_READY: _ClassVar[Error.Reason]
        STORE_UNAVAILABLE: _ClassVar[Error.Reason]
        DEADLINE_EXCEEDED: _ClassVar[Error.Reason]
        INTERNAL: _ClassVar[Error.Reason]
        TOKEN_MISSING: _ClassVar[Error.Reason]
        TOKEN_INVALID: _ClassVar[Error.Reason]
        TOKEN_EXPIRED: _ClassVar[Error.Reason]
        PERMISSION_MISSING: _ClassVar[Error.Reason]
        RATE_LIMITED: _ClassVar[Error.Reason]
        OVERLOADED: _ClassVar[Error.Reason]
    REASON_UNSPECIFIED: Error.Reason
    INVALID_FIELD: Error.Reason
    MALFORMED_REQUEST: Error.Reason
    INVALID_FILTER: Error.Reason
    INVALID_PAGE_TOKEN: Error.Reason
    INVALID_NAME: Error.Reason
    NON_FINITE_VALUE: Error.Reason
    TIMESTAMP_OUT_OF_RANGE: Error.Reason
    LABEL_LIMIT_EXCEEDED: Error.Reason
    UNKNOWN_ENUM_VALUE: Error.Reason
    SIZE_LIMIT_EXCEEDED: Error.Reason
    INVALID_ID: Error.Reason
    NEGATIVE_DURATION: Error.Reason
    INCONSISTENT_DISTRIBUTION: Error.Reason
    NOT_FOUND: Error.Reason
    ALREADY_EXISTS: Error.Reason
    ETAG_MISMATCH: Error.Reason
    WRONG_STATE: Error.Reason
    NOT_SUPPORTED: Error.Reason
    BEYOND_RETENTION: Error.Reason
    RESULT_TOO_LARGE: Error.Reason
    INCOMPATIBLE_DATA: Error.Reason
    BACKLOG_FULL: Error.Reason
    DISK_FULL: Error.Reason
    NOT_READY: Error.Reason
    STORE_UNAVAILABLE: Error.Reason
    DEADLINE_EXCEEDED: Error.Reason
    INTERNAL: Error.Reason
    TOKEN_MISSING: Error.Reason
    TOKEN_INVALID: Error.Reason
    TOKEN_EXPIRED: Error.Reason
    PERMISSION_MISSING: Error.Reason
    RATE_LIMITED: Error.Reason
    OVERLOADED: Error.Reason
    def __init__(self) -> None: ...
