import datetime

from airis.common.v1 import ingest_pb2 as _ingest_pb2
from airis.policy.v1 import policy_pb2 as _policy_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogEntry(_message.Message):
    __slots__ = ("timestamp", "level", "message", "service", "trace_id", "span_id", "labels", "metadata", "stack_trace", "user_id", "request_id", "duration_ms", "status_code", "url", "method", "id")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_UNSPECIFIED: _ClassVar[LogEntry.Level]
        DEBUG: _ClassVar[LogEntry.Level]
        INFO: _ClassVar[LogEntry.Level]
        WARN: _ClassVar[LogEntry.Level]
        ERROR: _ClassVar[LogEntry.Level]
        FATAL: _ClassVar[LogEntry.Level]
    LEVEL_UNSPECIFIED: LogEntry.Level
    DEBUG: LogEntry.Level
    INFO: LogEntry.Level
    WARN: LogEntry.Level
    ERROR: LogEntry.Level
    FATAL: LogEntry.Level
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STACK_TRACE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    level: LogEntry.Level
    message: str
    service: str
    trace_id: str
    span_id: str
    labels: _containers.ScalarMap[str, str]
    metadata: _containers.MessageMap[str, _struct_pb2.Value]
    stack_trace: str
    user_id: str
    request_id: str
    duration_ms: float
    status_code: int
    url: str
    method: str
    id: str
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., level: _Optional[_Union[LogEntry.Level, str]] = ..., message: _Optional[str] = ..., service: _Optional[str] = ..., trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., stack_trace: _Optional[str] = ..., user_id: _Optional[str] = ..., request_id: _Optional[str] = ..., duration_ms: _Optional[float] = ..., status_code: _Optional[int] = ..., url: _Optional[str] = ..., method: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class IngestLogsRequest(_message.Message):
    __slots__ = ("entries", "request_id", "wait_for")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    request_id: str
    wait_for: _ingest_pb2.Acknowledgement.WaitFor
    def __init__(self, entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ..., request_id: _Optional[str] = ..., wait_for: _Optional[_Union[_ingest_pb2.Acknowledgement.WaitFor, str]] = ...) -> None: ...

class IngestLogsResponse(_message.Message):
    __slots__ = ("accepted_count", "rejections", "position")
    ACCEPTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    accepted_count: int
    rejections: _containers.RepeatedCompositeFieldContainer[_ingest_pb2.Rejection]
    position: str
    def __init__(self, accepted_count: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[_ingest_pb2.Rejection, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class StreamLogsRequest(_message.Message):
    __slots__ = ("open", "batch")
    class Batch(_message.Message):
        __slots__ = ("sequence", "entries")
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        ENTRIES_FIELD_NUMBER: _ClassVar[int]
        sequence: int
        entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
        def __init__(self, sequence: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ...) -> None: ...
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: _ingest_pb2.StreamOpen
    batch: StreamLogsRequest.Batch
    def __init__(self, open: _Optional[_Union[_ingest_pb2.StreamOpen, _Mapping]] = ..., batch: _Optional[_Union[StreamLogsRequest.Batch, _Mapping]] = ...) -> None: ...

class StreamLogsResponse(_message.Message):
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

class SearchLogsRequest(_message.Message):
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

class Highlight(_message.Message):
    __slots__ = ("field", "start", "end")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    field: str
    start: int
    end: int
    def __init__(self, field: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Highlights(_message.Message):
    __slots__ = ("highlights",)
    HIGHLIGHTS_FIELD_NUMBER: _ClassVar[int]
    highlights: _containers.RepeatedCompositeFieldContainer[Highlight]
    def __init__(self, highlights: _Optional[_Iterable[_Union[Highlight, _Mapping]]] = ...) -> None: ...

class SearchLogsResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "highlights")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HIGHLIGHTS_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    next_page_token: str
    highlights: _containers.RepeatedCompositeFieldContainer[Highlights]
    def __init__(self, entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., highlights: _Optional[_Iterable[_Union[Highlights, _Mapping]]] = ...) -> None: ...

class TailLogsRequest(_message.Message):
    __slots__ = ("filter", "backlog", "max_count", "max_duration")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_FIELD_NUMBER: _ClassVar[int]
    filter: str
    backlog: int
    max_count: int
    max_duration: _duration_pb2.Duration
    def __init__(self, filter: _Optional[str] = ..., backlog: _Optional[int] = ..., max_count: _Optional[int] = ..., max_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TailLogsResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ...) -> None: ...

class CountLogsRequest(_message.Message):
    __slots__ = ("filter", "start_time", "end_time", "step", "group_by")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    filter: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    step: _duration_pb2.Duration
    group_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, filter: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., group_by: _Optional[_Iterable[str]] = ...) -> None: ...

class CountLogsResponse(_message.Message):
    __slots__ = ("groups", "total_count", "step")
    class Bucket(_message.Message):
        __slots__ = ("timestamp", "count")
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        timestamp: _timestamp_pb2.Timestamp
        count: int
        def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...
    class Group(_message.Message):
        __slots__ = ("fields", "count", "buckets")
        class FieldsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        FIELDS_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        BUCKETS_FIELD_NUMBER: _ClassVar[int]
        fields: _containers.ScalarMap[str, str]
        count: int
        buckets: _containers.RepeatedCompositeFieldContainer[CountLogsResponse.Bucket]
        def __init__(self, fields: _Optional[_Mapping[str, str]] = ..., count: _Optional[int] = ..., buckets: _Optional[_Iterable[_Union[CountLogsResponse.Bucket, _Mapping]]] = ...) -> None: ...
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[CountLogsResponse.Group]
    total_count: int
    step: _duration_pb2.Duration
    def __init__(self, groups: _Optional[_Iterable[_Union[CountLogsResponse.Group, _Mapping]]] = ..., total_count: _Optional[int] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListLogPatternsRequest(_message.Message):
    __slots__ = ("filter", "start_time", "end_time", "page_size", "page_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, filter: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class LogPattern(_message.Message):
    __slots__ = ("template", "count", "example", "max_level", "services")
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    template: str
    count: int
    example: str
    max_level: LogEntry.Level
    services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, template: _Optional[str] = ..., count: _Optional[int] = ..., example: _Optional[str] = ..., max_level: _Optional[_Union[LogEntry.Level, str]] = ..., services: _Optional[_Iterable[str]] = ...) -> None: ...

class ListLogPatternsResponse(_message.Message):
    __slots__ = ("patterns", "next_page_token", "sampled_count")
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    patterns: _containers.RepeatedCompositeFieldContainer[LogPattern]
    next_page_token: str
    sampled_count: int
    def __init__(self, patterns: _Optional[_Iterable[_Union[LogPattern, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., sampled_count: _Optional[int] = ...) -> None: ...

class ListLogAnomaliesRequest(_message.Message):
    __slots__ = ("filter", "start_time", "end_time", "page_size", "page_token", "step")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    filter: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    step: _duration_pb2.Duration
    def __init__(self, filter: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LogAnomaly(_message.Message):
    __slots__ = ("timestamp", "service", "level", "count", "expected_count", "score")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    service: str
    level: LogEntry.Level
    count: int
    expected_count: float
    score: float
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., service: _Optional[str] = ..., level: _Optional[_Union[LogEntry.Level, str]] = ..., count: _Optional[int] = ..., expected_count: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...

class ListLogAnomaliesResponse(_message.Message):
    __slots__ = ("anomalies", "next_page_token")
    ANOMALIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    anomalies: _containers.RepeatedCompositeFieldContainer[LogAnomaly]
    next_page_token: str
    def __init__(self, anomalies: _Optional[_Iterable[_Union[LogAnomaly, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class LogPipeline(_message.Message):
    __slots__ = ("name", "display_name", "filter", "stages", "enabled", "etag", "create_time", "update_time")
    class Stage(_message.Message):
        __slots__ = ("json", "regex")
        class Json(_message.Message):
            __slots__ = ("source",)
            SOURCE_FIELD_NUMBER: _ClassVar[int]
            source: str
            def __init__(self, source: _Optional[str] = ...) -> None: ...
        class Regex(_message.Message):
            __slots__ = ("source", "pattern")
            SOURCE_FIELD_NUMBER: _ClassVar[int]
            PATTERN_FIELD_NUMBER: _ClassVar[int]
            source: str
            pattern: str
            def __init__(self, source: _Optional[str] = ..., pattern: _Optional[str] = ...) -> None: ...
        JSON_FIELD_NUMBER: _ClassVar[int]
        REGEX_FIELD_NUMBER: _ClassVar[int]
        json: LogPipeline.Stage.Json
        regex: LogPipeline.Stage.Regex
        def __init__(self, json: _Optional[_Union[LogPipeline.Stage.Json, _Mapping]] = ..., regex: _Optional[_Union[LogPipeline.Stage.Regex, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    display_name: str
    filter: str
    stages: _containers.RepeatedCompositeFieldContainer[LogPipeline.Stage]
    enabled: bool
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., display_name: _Optional[str] = ..., filter: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[LogPipeline.Stage, _Mapping]]] = ..., enabled: _Optional[bool] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateLogPipelineRequest(_message.Message):
    __slots__ = ("log_pipeline", "log_pipeline_id")
    LOG_PIPELINE_FIELD_NUMBER: _ClassVar[int]
    LOG_PIPELINE_ID_FIELD_NUMBER: _ClassVar[int]
    log_pipeline: LogPipeline
    log_pipeline_id: str
    def __init__(self, log_pipeline: _Optional[_Union[LogPipeline, _Mapping]] = ..., log_pipeline_id: _Optional[str] = ...) -> None: ...

class GetLogPipelineRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListLogPipelinesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLogPipelinesResponse(_message.Message):
    __slots__ = ("log_pipelines", "next_page_token")
    LOG_PIPELINES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    log_pipelines: _containers.RepeatedCompositeFieldContainer[LogPipeline]
    next_page_token: str
    def __init__(self, log_pipelines: _Optional[_Iterable[_Union[LogPipeline, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateLogPipelineRequest(_message.Message):
    __slots__ = ("log_pipeline", "update_mask")
    LOG_PIPELINE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    log_pipeline: LogPipeline
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, log_pipeline: _Optional[_Union[LogPipeline, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class DeleteLogPipelineRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...
