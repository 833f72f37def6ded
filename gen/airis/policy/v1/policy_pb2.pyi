from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
POLICY_FIELD_NUMBER: _ClassVar[int]
policy: _descriptor.FieldDescriptor
SERVICE_POLICY_FIELD_NUMBER: _ClassVar[int]
service_policy: _descriptor.FieldDescriptor

class ServicePolicy(_message.Message):
    __slots__ = ("bulkheads",)
    BULKHEADS_FIELD_NUMBER: _ClassVar[int]
    bulkheads: _containers.RepeatedCompositeFieldContainer[Bulkhead]
    def __init__(self, bulkheads: _Optional[_Iterable[_Union[Bulkhead, _Mapping]]] = ...) -> None: ...

class Bulkhead(_message.Message):
    __slots__ = ("name", "max_concurrent", "max_waiting", "max_wait")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITING_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    max_concurrent: int
    max_waiting: int
    max_wait: str
    def __init__(self, name: _Optional[str] = ..., max_concurrent: _Optional[int] = ..., max_waiting: _Optional[int] = ..., max_wait: _Optional[str] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("deadline", "retry", "idempotent", "permission", "bulkhead", "objective", "priority", "hedging", "rate_limit")
    class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PRIORITY_UNSPECIFIED: _ClassVar[Policy.Priority]
        CRITICAL: _ClassVar[Policy.Priority]
        INTERACTIVE: _ClassVar[Policy.Priority]
        BULK: _ClassVar[Policy.Priority]
    PRIORITY_UNSPECIFIED: Policy.Priority
    CRITICAL: Policy.Priority
    INTERACTIVE: Policy.Priority
    BULK: Policy.Priority
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    BULKHEAD_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    HEDGING_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    deadline: str
    retry: Retry
    idempotent: bool
    permission: str
    bulkhead: str
    objective: Objective
    priority: Policy.Priority
    hedging: Hedging
    rate_limit: RateLimit
    def __init__(self, deadline: _Optional[str] = ..., retry: _Optional[_Union[Retry, _Mapping]] = ..., idempotent: _Optional[bool] = ..., permission: _Optional[str] = ..., bulkhead: _Optional[str] = ..., objective: _Optional[_Union[Objective, _Mapping]] = ..., priority: _Optional[_Union[Policy.Priority, str]] = ..., hedging: _Optional[_Union[Hedging, _Mapping]] = ..., rate_limit: _Optional[_Union[RateLimit, _Mapping]] = ...) -> None: ...

class Retry(_message.Message):
    __slots__ = ("max_attempts", "initial_backoff", "max_backoff", "backoff_multiplier", "retryable_codes", "attempt_deadline")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_BACKOFF_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKOFF_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_CODES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    initial_backoff: str
    max_backoff: str
    backoff_multiplier: float
    retryable_codes: _containers.RepeatedScalarFieldContainer[str]
    attempt_deadline: str
    def __init__(self, max_attempts: _Optional[int] = ..., initial_backoff: _Optional[str] = ..., max_backoff: _Optional[str] = ..., backoff_multiplier: _Optional[float] = ..., retryable_codes: _Optional[_Iterable[str]] = ..., attempt_deadline: _Optional[str] = ...) -> None: ...

class RateLimit(_message.Message):
    __slots__ = ("per_second", "burst")
    PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    per_second: float
    burst: int
    def __init__(self, per_second: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...

class Hedging(_message.Message):
    __slots__ = ("max_attempts", "delay")
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    max_attempts: int
    delay: str
    def __init__(self, max_attempts: _Optional[int] = ..., delay: _Optional[str] = ...) -> None: ...

class Objective(_message.Message):
    __slots__ = ("latency_p95", "availability")
    LATENCY_P95_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    latency_p95: str
    availability: float
    def __init__(self, latency_p95: _Optional[str] = ..., availability: _Optional[float] = ...) -> None: ...
