from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Aggregation(_message.Message):
    __slots__ = ()
    class Function(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FUNCTION_UNSPECIFIED: _ClassVar[Aggregation.Function]
        SUM: _ClassVar[Aggregation.Function]
        AVG: _ClassVar[Aggregation.Function]
        MIN: _ClassVar[Aggregation.Function]
        MAX: _ClassVar[Aggregation.Function]
        COUNT: _ClassVar[Aggregation.Function]
        LAST: _ClassVar[Aggregation.Function]
        RATE: _ClassVar[Aggregation.Function]
        INCREASE: _ClassVar[Aggregation.Function]
        QUANTILE: _ClassVar[Aggregation.Function]
    FUNCTION_UNSPECIFIED: Aggregation.Function
    SUM: Aggregation.Function
    AVG: Aggregation.Function
    MIN: Aggregation.Function
    MAX: Aggregation.Function
    COUNT: Aggregation.Function
    LAST: Aggregation.Function
    RATE: Aggregation.Function
    INCREASE: Aggregation.Function
    QUANTILE: Aggregation.Function
    def __init__(self) -> None: ...
