import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Acknowledgement(_message.Message):
    __slots__ = ()
    class WaitFor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        WAIT_FOR_UNSPECIFIED: _ClassVar[Acknowledgement.WaitFor]
        DURABLE: _ClassVar[Acknowledgement.WaitFor]
        QUERYABLE: _ClassVar[Acknowledgement.WaitFor]
    WAIT_FOR_UNSPECIFIED: Acknowledgement.WaitFor
    DURABLE: Acknowledgement.WaitFor
    QUERYABLE: Acknowledgement.WaitFor
    def __init__(self) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("index", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StreamOpen(_message.Message):
    __slots__ = ("producer_id", "settled_through")
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    producer_id: str
    settled_through: int
    def __init__(self, producer_id: _Optional[str] = ..., settled_through: _Optional[int] = ...) -> None: ...

class StreamOpened(_message.Message):
    __slots__ = ("resume_after", "max_outstanding_batches", "max_outstanding_bytes")
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTSTANDING_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTSTANDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    resume_after: int
    max_outstanding_batches: int
    max_outstanding_bytes: int
    def __init__(self, resume_after: _Optional[int] = ..., max_outstanding_batches: _Optional[int] = ..., max_outstanding_bytes: _Optional[int] = ...) -> None: ...

class StreamAck(_message.Message):
    __slots__ = ("through_sequence",)
    THROUGH_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    through_sequence: int
    def __init__(self, through_sequence: _Optional[int] = ...) -> None: ...

class StreamRejection(_message.Message):
    __slots__ = ("sequence", "status", "items")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    status: _status_pb2.Status
    items: _containers.RepeatedCompositeFieldContainer[Rejection]
    def __init__(self, sequence: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., items: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ...) -> None: ...

class StreamThrottle(_message.Message):
    __slots__ = ("retry_delay", "from_sequence")
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    retry_delay: _duration_pb2.Duration
    from_sequence: int
    def __init__(self, retry_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., from_sequence: _Optional[int] = ...) -> None: ...
