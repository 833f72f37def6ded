import datetime

from airis.common.v1 import ingest_pb2 as _ingest_pb2
from airis.policy.v1 import policy_pb2 as _policy_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Span(_message.Message):
    __slots__ = ("trace_id", "span_id", "parent_span_id", "operation_name", "service_name", "kind", "start_time", "end_time", "tags", "logs", "status", "links")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Span.Kind]
        INTERNAL: _ClassVar[Span.Kind]
        SERVER: _ClassVar[Span.Kind]
        CLIENT: _ClassVar[Span.Kind]
        PRODUCER: _ClassVar[Span.Kind]
        CONSUMER: _ClassVar[Span.Kind]
    KIND_UNSPECIFIED: Span.Kind
    INTERNAL: Span.Kind
    SERVER: Span.Kind
    CLIENT: Span.Kind
    PRODUCER: Span.Kind
    CONSUMER: Span.Kind
    class Status(_message.Message):
        __slots__ = ("code", "message")
        class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            CODE_UNSPECIFIED: _ClassVar[Span.Status.Code]
            OK: _ClassVar[Span.Status.Code]
            ERROR: _ClassVar[Span.Status.Code]
        CODE_UNSPECIFIED: Span.Status.Code
        OK: Span.Status.Code
        ERROR: Span.Status.Code
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        code: Span.Status.Code
        message: str
        def __init__(self, code: _Optional[_Union[Span.Status.Code, str]] = ..., message: _Optional[str] = ...) -> None: ...
    class Log(_message.Message):
        __slots__ = ("timestamp", "fields")
        class FieldsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: _struct_pb2.Value
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        FIELDS_FIELD_NUMBER: _ClassVar[int]
        timestamp: _timestamp_pb2.Timestamp
        fields: _containers.MessageMap[str, _struct_pb2.Value]
        def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fields: _Optional[_Mapping[str, _struct_pb2.Value]] = ...) -> None: ...
    class Link(_message.Message):
        __slots__ = ("trace_id", "span_id", "tags")
        class TagsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: _struct_pb2.Value
            def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
        TRACE_ID_FIELD_NUMBER: _ClassVar[int]
        SPAN_ID_FIELD_NUMBER: _ClassVar[int]
        TAGS_FIELD_NUMBER: _ClassVar[int]
        trace_id: str
        span_id: str
        tags: _containers.MessageMap[str, _struct_pb2.Value]
        def __init__(self, trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., tags: _Optional[_Mapping[str, _struct_pb2.Value]] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    span_id: str
    parent_span_id: str
    operation_name: str
    service_name: str
    kind: Span.Kind
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    tags: _containers.MessageMap[str, _struct_pb2.Value]
    logs: _containers.RepeatedCompositeFieldContainer[Span.Log]
    status: Span.Status
    links: _containers.RepeatedCompositeFieldContainer[Span.Link]
    def __init__(self, trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., parent_span_id: _Optional[str] = ..., operation_name: _Optional[str] = ..., service_name: _Optional[str] = ..., kind: _Optional[_Union[Span.Kind, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., logs: _Optional[_Iterable[_Union[Span.Log, _Mapping]]] = ..., status: _Optional[_Union[Span.Status, _Mapping]] = ..., links: _Optional[_Iterable[_Union[Span.Link, _Mapping]]] = ...) -> None: ...

class Trace(_message.Message):
    __slots__ = ("trace_id", "spans")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, trace_id: _Optional[str] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class IngestSpansRequest(_message.Message):
    __slots__ = ("spans", "request_id", "wait_for")
    SPANS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    request_id: str
    wait_for: _ingest_pb2.Acknowledgement.WaitFor
    def __init__(self, spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., request_id: _Optional[str] = ..., wait_for: _Optional[_Union[_ingest_pb2.Acknowledgement.WaitFor, str]] = ...) -> None: ...

class IngestSpansResponse(_message.Message):
    __slots__ = ("accepted_count", "rejections", "position")
    ACCEPTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    accepted_count: int
    rejections: _containers.RepeatedCompositeFieldContainer[_ingest_pb2.Rejection]
    position: str
    def __init__(self, accepted_count: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[_ingest_pb2.Rejection, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class StreamSpansRequest(_message.Message):
    __slots__ = ("open", "batch")
    class Batch(_message.Message):
        __slots__ = ("sequence", "spans")
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        SPANS_FIELD_NUMBER: _ClassVar[int]
        sequence: int
        spans: _containers.RepeatedCompositeFieldContainer[Span]
        def __init__(self, sequence: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: _ingest_pb2.StreamOpen
    batch: StreamSpansRequest.Batch
    def __init__(self, open: _Optional[_Union[_ingest_pb2.StreamOpen, _Mapping]] = ..., batch: _Optional[_Union[StreamSpansRequest.Batch, _Mapping]] = ...) -> None: ...

class StreamSpansResponse(_message.Message):
    __slots__ = ("opened", "ack", "rejection", "throttle")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_FIELD_NUMBER: _ClassVar[int]
    opened: _ingest_pb2.StreamOpened
    ack: _ingest_pb2.StreamAck
    rejection: _ingest_pb2.StreamRejection
    throttle: _ingest_pb2.StreamThrottle
    def __init__(self, opened: _Optional[_Union[_ingest_pb2.StreamOpened, _Mapping]] = ..., ack: _Optional[_Union[_ingest_pb2.StreamAck, _Mapping]] = ..., rejection: _Optional[_Union[_ingest_pb2.StreamRejection, _Mapping]] = ..., throttle: _Optional[_Union[_ingest_pb2.StreamThrottle, _Mapping]] = ...) -> None: ...

class GetTraceRequest(_message.Message):
    __slots__ = ("trace_id",)
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    def __init__(self, trace_id: _Optional[str] = ...) -> None: ...

class SearchTracesRequest(_message.Message):
    __slots__ = ("filter", "start_time", "end_time", "page_size", "page_token", "order_by")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    filter: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    order_by: str
    def __init__(self, filter: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class TraceSummary(_message.Message):
    __slots__ = ("trace_id", "root_service_name", "root_operation_name", "start_time", "duration", "span_count", "error_count", "services")
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    ROOT_SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    ROOT_OPERATION_NAME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SPAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    root_service_name: str
    root_operation_name: str
    start_time: _timestamp_pb2.Timestamp
    duration: _duration_pb2.Duration
    span_count: int
    error_count: int
    services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, trace_id: _Optional[str] = ..., root_service_name: _Optional[str] = ..., root_operation_name: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., span_count: _Optional[int] = ..., error_count: _Optional[int] = ..., services: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchTracesResponse(_message.Message):
    __slots__ = ("traces", "next_page_token")
    TRACES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    traces: _containers.RepeatedCompositeFieldContainer[TraceSummary]
    next_page_token: str
    def __init__(self, traces: _Optional[_Iterable[_Union[TraceSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListServicesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "start_time", "end_time")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("service", "span_count", "error_count")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    SPAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    service: str
    span_count: int
    error_count: int
    def __init__(self, service: _Optional[str] = ..., span_count: _Optional[int] = ..., error_count: _Optional[int] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services", "next_page_token")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[Service]
    next_page_token: str
    def __init__(self, services: _Optional[_Iterable[_Union[Service, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListOperationsRequest(_message.Message):
    __slots__ = ("service", "page_size", "page_token", "start_time", "end_time")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    service: str
    page_size: int
    page_token: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, service: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("operation", "kind", "span_count", "error_count", "durations")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SPAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    DURATIONS_FIELD_NUMBER: _ClassVar[int]
    operation: str
    kind: Span.Kind
    span_count: int
    error_count: int
    durations: DurationQuantiles
    def __init__(self, operation: _Optional[str] = ..., kind: _Optional[_Union[Span.Kind, str]] = ..., span_count: _Optional[int] = ..., error_count: _Optional[int] = ..., durations: _Optional[_Union[DurationQuantiles, _Mapping]] = ...) -> None: ...

class DurationQuantiles(_message.Message):
    __slots__ = ("p50", "p95", "p99")
    P50_FIELD_NUMBER: _ClassVar[int]
    P95_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    p50: _duration_pb2.Duration
    p95: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    def __init__(self, p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p95: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListOperationsResponse(_message.Message):
    __slots__ = ("operations", "next_page_token")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    next_page_token: str
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetServiceMapRequest(_message.Message):
    __slots__ = ("start_time", "end_time")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ServiceMap(_message.Message):
    __slots__ = ("services", "edges")
    class Edge(_message.Message):
        __slots__ = ("caller", "callee", "call_count", "error_count", "durations")
        CALLER_FIELD_NUMBER: _ClassVar[int]
        CALLEE_FIELD_NUMBER: _ClassVar[int]
        CALL_COUNT_FIELD_NUMBER: _ClassVar[int]
        ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
        DURATIONS_FIELD_NUMBER: _ClassVar[int]
        caller: str
        callee: str
        call_count: int
        error_count: int
        durations: DurationQuantiles
        def __init__(self, caller: _Optional[str] = ..., callee: _Optional[str] = ..., call_count: _Optional[int] = ..., error_count: _Optional[int] = ..., durations: _Optional[_Union[DurationQuantiles, _Mapping]] = ...) -> None: ...
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[Service]
    edges: _containers.RepeatedCompositeFieldContainer[ServiceMap.Edge]
    def __init__(self, services: _Optional[_Iterable[_Union[Service, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[ServiceMap.Edge, _Mapping]]] = ...) -> None: ...

class GetLatencyRequest(_message.Message):
    __slots__ = ("service", "operation", "start_time", "end_time", "step")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    service: str
    operation: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    step: _duration_pb2.Duration
    def __init__(self, service: _Optional[str] = ..., operation: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetLatencyResponse(_message.Message):
    __slots__ = ("points", "total", "step")
    class Point(_message.Message):
        __slots__ = ("timestamp", "rate", "error_ratio", "durations")
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        RATE_FIELD_NUMBER: _ClassVar[int]
        ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
        DURATIONS_FIELD_NUMBER: _ClassVar[int]
        timestamp: _timestamp_pb2.Timestamp
        rate: float
        error_ratio: float
        durations: DurationQuantiles
        def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rate: _Optional[float] = ..., error_ratio: _Optional[float] = ..., durations: _Optional[_Union[DurationQuantiles, _Mapping]] = ...) -> None: ...
    POINTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[GetLatencyResponse.Point]
    total: GetLatencyResponse.Point
    step: _duration_pb2.Duration
    def __init__(self, points: _Optional[_Iterable[_Union[GetLatencyResponse.Point, _Mapping]]] = ..., total: _Optional[_Union[GetLatencyResponse.Point, _Mapping]] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetCriticalPathRequest(_message.Message):
    __slots__ = ("trace_id",)
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    def __init__(self, trace_id: _Optional[str] = ...) -> None: ...

class CriticalPath(_message.Message):
    __slots__ = ("trace_id", "duration", "segments", "warnings")
    class Segment(_message.Message):
        __slots__ = ("span_id", "service_name", "operation_name", "start_time", "duration")
        SPAN_ID_FIELD_NUMBER: _ClassVar[int]
        SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
        OPERATION_NAME_FIELD_NUMBER: _ClassVar[int]
        START_TIME_FIELD_NUMBER: _ClassVar[int]
        DURATION_FIELD_NUMBER: _ClassVar[int]
        span_id: str
        service_name: str
        operation_name: str
        start_time: _timestamp_pb2.Timestamp
        duration: _duration_pb2.Duration
        def __init__(self, span_id: _Optional[str] = ..., service_name: _Optional[str] = ..., operation_name: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    class Warning(_message.Message):
        __slots__ = ("kind", "span_id")
        class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
            __slots__ = ()
            KIND_UNSPECIFIED: _ClassVar[CriticalPath.Warning.Kind]
            CLOCK_SKEW: _ClassVar[CriticalPath.Warning.Kind]
            UNFINISHED: _ClassVar[CriticalPath.Warning.Kind]
            MISSING_PARENT: _ClassVar[CriticalPath.Warning.Kind]
            MALFORMED: _ClassVar[CriticalPath.Warning.Kind]
        KIND_UNSPECIFIED: CriticalPath.Warning.Kind
        CLOCK_SKEW: CriticalPath.Warning.Kind
        UNFINISHED: CriticalPath.Warning.Kind
        MISSING_PARENT: CriticalPath.Warning.Kind
        MALFORMED: CriticalPath.Warning.Kind
        KIND_FIELD_NUMBER: _ClassVar[int]
        SPAN_ID_FIELD_NUMBER: _ClassVar[int]
        kind: CriticalPath.Warning.Kind
        span_id: str
        def __init__(self, kind: _Optional[_Union[CriticalPath.Warning.Kind, str]] = ..., span_id: _Optional[str] = ...) -> None: ...
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    trace_id: str
    duration: _duration_pb2.Duration
    segments: _containers.RepeatedCompositeFieldContainer[CriticalPath.Segment]
    warnings: _containers.RepeatedCompositeFieldContainer[CriticalPath.Warning]
    def __init__(self, trace_id: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[CriticalPath.Segment, _Mapping]]] = ..., warnings: _Optional[_Iterable[_Union[CriticalPath.Warning, _Mapping]]] = ...) -> None: ...

class ListBottlenecksRequest(_message.Message):
    __slots__ = ("service", "start_time", "end_time", "page_size", "page_token")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    service: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, service: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class Bottleneck(_message.Message):
    __slots__ = ("service_name", "operation_name", "self_time", "share", "trace_count")
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATION_NAME_FIELD_NUMBER: _ClassVar[int]
    SELF_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    TRACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    service_name: str
    operation_name: str
    self_time: _duration_pb2.Duration
    share: float
    trace_count: int
    def __init__(self, service_name: _Optional[str] = ..., operation_name: _Optional[str] = ..., self_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., share: _Optional[float] = ..., trace_count: _Optional[int] = ...) -> None: ...

class ListBottlenecksResponse(_message.Message):
    __slots__ = ("bottlenecks", "next_page_token", "sampled_trace_count")
    BOTTLENECKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_TRACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    bottlenecks: _containers.RepeatedCompositeFieldContainer[Bottleneck]
    next_page_token: str
    sampled_trace_count: int
    def __init__(self, bottlenecks: _Optional[_Iterable[_Union[Bottleneck, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., sampled_trace_count: _Optional[int] = ...) -> None: ...

class CompareTracesRequest(_message.Message):
    __slots__ = ("base_trace_id", "other_trace_id")
    BASE_TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    OTHER_TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    base_trace_id: str
    other_trace_id: str
    def __init__(self, base_trace_id: _Optional[str] = ..., other_trace_id: _Optional[str] = ...) -> None: ...

class CompareTracesResponse(_message.Message):
    __slots__ = ("differences", "base_duration", "other_duration")
    class Difference(_message.Message):
        __slots__ = ("service_name", "operation_name", "base_span_count", "other_span_count", "base_self_time", "other_self_time")
        SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
        OPERATION_NAME_FIELD_NUMBER: _ClassVar[int]
        BASE_SPAN_COUNT_FIELD_NUMBER: _ClassVar[int]
        OTHER_SPAN_COUNT_FIELD_NUMBER: _ClassVar[int]
        BASE_SELF_TIME_FIELD_NUMBER: _ClassVar[int]
        OTHER_SELF_TIME_FIELD_NUMBER: _ClassVar[int]
        service_name: str
        operation_name: str
        base_span_count: int
        other_span_count: int
        base_self_time: _duration_pb2.Duration
        other_self_time: _duration_pb2.Duration
        def __init__(self, service_name: _Optional[str] = ..., operation_name: _Optional[str] = ..., base_span_count: _Optional[int] = ..., other_span_count: _Optional[int] = ..., base_self_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., other_self_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    BASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    OTHER_DURATION_FIELD_NUMBER: _ClassVar[int]
    differences: _containers.RepeatedCompositeFieldContainer[CompareTracesResponse.Difference]
    base_duration: _duration_pb2.Duration
    other_duration: _duration_pb2.Duration
    def __init__(self, differences: _Optional[_Iterable[_Union[CompareTracesResponse.Difference, _Mapping]]] = ..., base_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., other_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
