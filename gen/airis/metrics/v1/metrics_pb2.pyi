import datetime

from airis.common.v1 import aggregation_pb2 as _aggregation_pb2
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

class Metric(_message.Message):
    __slots__ = ("name", "value", "timestamp", "labels", "metadata", "kind", "unit")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Metric.Kind]
        GAUGE: _ClassVar[Metric.Kind]
        COUNTER: _ClassVar[Metric.Kind]
        DELTA_COUNTER: _ClassVar[Metric.Kind]
        UP_DOWN_COUNTER: _ClassVar[Metric.Kind]
        DELTA_UP_DOWN_COUNTER: _ClassVar[Metric.Kind]
        HISTOGRAM: _ClassVar[Metric.Kind]
        DELTA_HISTOGRAM: _ClassVar[Metric.Kind]
        EXPONENTIAL_HISTOGRAM: _ClassVar[Metric.Kind]
        DELTA_EXPONENTIAL_HISTOGRAM: _ClassVar[Metric.Kind]
        SUMMARY: _ClassVar[Metric.Kind]
    KIND_UNSPECIFIED: Metric.Kind
    GAUGE: Metric.Kind
    COUNTER: Metric.Kind
    DELTA_COUNTER: Metric.Kind
    UP_DOWN_COUNTER: Metric.Kind
    DELTA_UP_DOWN_COUNTER: Metric.Kind
    HISTOGRAM: Metric.Kind
    DELTA_HISTOGRAM: Metric.Kind
    EXPONENTIAL_HISTOGRAM: Metric.Kind
    DELTA_EXPONENTIAL_HISTOGRAM: Metric.Kind
    SUMMARY: Metric.Kind
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
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    timestamp: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    metadata: _containers.MessageMap[str, _struct_pb2.Value]
    kind: Metric.Kind
    unit: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., kind: _Optional[_Union[Metric.Kind, str]] = ..., unit: _Optional[str] = ...) -> None: ...

class IngestMetricsRequest(_message.Message):
    __slots__ = ("metrics", "request_id", "wait_for")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    request_id: str
    wait_for: _ingest_pb2.Acknowledgement.WaitFor
    def __init__(self, metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., request_id: _Optional[str] = ..., wait_for: _Optional[_Union[_ingest_pb2.Acknowledgement.WaitFor, str]] = ...) -> None: ...

class IngestMetricsResponse(_message.Message):
    __slots__ = ("accepted_count", "rejections", "position")
    ACCEPTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    accepted_count: int
    rejections: _containers.RepeatedCompositeFieldContainer[_ingest_pb2.Rejection]
    position: str
    def __init__(self, accepted_count: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[_ingest_pb2.Rejection, _Mapping]]] = ..., position: _Optional[str] = ...) -> None: ...

class StreamMetricsRequest(_message.Message):
    __slots__ = ("open", "batch")
    class Batch(_message.Message):
        __slots__ = ("sequence", "metrics")
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        METRICS_FIELD_NUMBER: _ClassVar[int]
        sequence: int
        metrics: _containers.RepeatedCompositeFieldContainer[Metric]
        def __init__(self, sequence: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: _ingest_pb2.StreamOpen
    batch: StreamMetricsRequest.Batch
    def __init__(self, open: _Optional[_Union[_ingest_pb2.StreamOpen, _Mapping]] = ..., batch: _Optional[_Union[StreamMetricsRequest.Batch, _Mapping]] = ...) -> None: ...

class StreamMetricsResponse(_message.Message):
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

class QueryMetricsRequest(_message.Message):
    __slots__ = ("metric", "filter", "start_time", "end_time", "step", "aggregation", "quantile", "group_by", "max_series")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    MAX_SERIES_FIELD_NUMBER: _ClassVar[int]
    metric: str
    filter: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    step: _duration_pb2.Duration
    aggregation: _aggregation_pb2.Aggregation.Function
    quantile: float
    group_by: _containers.RepeatedScalarFieldContainer[str]
    max_series: int
    def __init__(self, metric: _Optional[str] = ..., filter: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., aggregation: _Optional[_Union[_aggregation_pb2.Aggregation.Function, str]] = ..., quantile: _Optional[float] = ..., group_by: _Optional[_Iterable[str]] = ..., max_series: _Optional[int] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("timestamp", "value")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    value: float
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., value: _Optional[float] = ...) -> None: ...

class TimeSeries(_message.Message):
    __slots__ = ("labels", "points")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.ScalarMap[str, str]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    def __init__(self, labels: _Optional[_Mapping[str, str]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ...) -> None: ...

class QueryMetricsResponse(_message.Message):
    __slots__ = ("series", "resolution", "step")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[TimeSeries]
    resolution: _duration_pb2.Duration
    step: _duration_pb2.Duration
    def __init__(self, series: _Optional[_Iterable[_Union[TimeSeries, _Mapping]]] = ..., resolution: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class MetricDescriptor(_message.Message):
    __slots__ = ("metric", "kinds", "units", "series_count")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    SERIES_COUNT_FIELD_NUMBER: _ClassVar[int]
    metric: str
    kinds: _containers.RepeatedScalarFieldContainer[Metric.Kind]
    units: _containers.RepeatedScalarFieldContainer[str]
    series_count: int
    def __init__(self, metric: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[Metric.Kind, str]]] = ..., units: _Optional[_Iterable[str]] = ..., series_count: _Optional[int] = ...) -> None: ...

class ListMetricsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListMetricsResponse(_message.Message):
    __slots__ = ("metrics", "next_page_token")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricDescriptor]
    next_page_token: str
    def __init__(self, metrics: _Optional[_Iterable[_Union[MetricDescriptor, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListLabelsRequest(_message.Message):
    __slots__ = ("metric", "page_size", "page_token", "filter")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    metric: str
    page_size: int
    page_token: str
    filter: str
    def __init__(self, metric: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class ListLabelsResponse(_message.Message):
    __slots__ = ("labels", "next_page_token")
    class Label(_message.Message):
        __slots__ = ("key", "values", "value_count")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        VALUE_COUNT_FIELD_NUMBER: _ClassVar[int]
        key: str
        values: _containers.RepeatedScalarFieldContainer[str]
        value_count: int
        def __init__(self, key: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., value_count: _Optional[int] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[ListLabelsResponse.Label]
    next_page_token: str
    def __init__(self, labels: _Optional[_Iterable[_Union[ListLabelsResponse.Label, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListSeriesRequest(_message.Message):
    __slots__ = ("metric", "page_size", "page_token", "filter")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    metric: str
    page_size: int
    page_token: str
    filter: str
    def __init__(self, metric: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("series_id", "labels", "kind", "unit", "metadata")
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
    SERIES_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    series_id: str
    labels: _containers.ScalarMap[str, str]
    kind: Metric.Kind
    unit: str
    metadata: _containers.MessageMap[str, _struct_pb2.Value]
    def __init__(self, series_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., kind: _Optional[_Union[Metric.Kind, str]] = ..., unit: _Optional[str] = ..., metadata: _Optional[_Mapping[str, _struct_pb2.Value]] = ...) -> None: ...

class ListSeriesResponse(_message.Message):
    __slots__ = ("series", "next_page_token")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[Series]
    next_page_token: str
    def __init__(self, series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchMetricsRequest(_message.Message):
    __slots__ = ("query", "interval", "max_count", "max_duration")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_FIELD_NUMBER: _ClassVar[int]
    query: QueryMetricsRequest
    interval: _duration_pb2.Duration
    max_count: int
    max_duration: _duration_pb2.Duration
    def __init__(self, query: _Optional[_Union[QueryMetricsRequest, _Mapping]] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_count: _Optional[int] = ..., max_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchMetricsResponse(_message.Message):
    __slots__ = ("result", "evaluation_time")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_TIME_FIELD_NUMBER: _ClassVar[int]
    result: QueryMetricsResponse
    evaluation_time: _timestamp_pb2.Timestamp
    def __init__(self, result: _Optional[_Union[QueryMetricsResponse, _Mapping]] = ..., evaluation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
