"""OTLP metrics as columns: every kind of point, flattened without a loop over points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2

from services.metrics.model import Kind, Points
from services.shared.rpc import attributes
from services.shared.rpc.arrow_messages import ArrowMessages
from services.shared.rpc.attributes import children
from services.shared.rpc.expansion import refuse_expansion
from services.shared.rpc.ingest_wire import malformed
from services.shared.rpc.opaque import variant
from services.shared.rpc.otlp_times import nanoseconds
from services.shared.text_columns import bounds_and_bytes

_DELTA = 1
_NO_RECORDED_VALUE = 1

REQUEST = variant(
    metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR,
    as_bytes={"attributes", "resource"},
    without={"exemplars", "scope", "schema_url", "metadata", "dropped_attributes_count"},
)
"""Labels stay bytes: those of a series that is known are not read again."""

Numbers = np.ndarray[Any, np.dtype[Any]]
Fields = dict[str, pa.Array]
"""The fields of messages by name, in arrays."""

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
"""The fields of a metric, one of which has its points."""

POINT_FIELDS = [
    pa.field("index", pa.int32()),
    pa.field("metric", pa.int32()),
    pa.field("resource", pa.int32()),
    pa.field("labels", pa.list_(pa.binary())),
    pa.field("labels_key", pa.binary()),
    pa.field("time", pa.int64()),
    pa.field("start", pa.int64()),
]
SAMPLE_SCHEMA = pa.schema([*POINT_FIELDS, pa.field("value", pa.float64())])
DISTRIBUTION_SCHEMA = pa.schema(
    [
        *POINT_FIELDS,
        pa.field("count", pa.uint64()),
        pa.field("sum", pa.float64()),
        pa.field("min", pa.float64()),
        pa.field("max", pa.float64()),
        pa.field("bounds", pa.list_(pa.float64())),
        pa.field("bucket_counts", pa.list_(pa.uint64())),
        pa.field("scale", pa.int32()),
        pa.field("zero_count", pa.uint64()),
        pa.field("zero_threshold", pa.float64()),
        pa.field("positive_offset", pa.int32()),
        pa.field("positive_counts", pa.list_(pa.uint64())),
        pa.field("negative_offset", pa.int32()),
        pa.field("negative_counts", pa.list_(pa.uint64())),
        pa.field("quantiles", pa.list_(pa.float64())),
        pa.field("quantile_values", pa.list_(pa.float64())),
    ]
)


def points(resource_metrics: pa.StructArray) -> Points:
    """Flattens the `resource_metrics` of a request, read as `REQUEST`."""
    of_resources = children(resource_metrics)
    scope_lists = of_resources["scope_metrics"]
    metric_lists = pc.struct_field(scope_lists.flatten(), "metrics")
    resource_of_metric = pc.list_parent_indices(scope_lists).take(pc.list_parent_indices(metric_lists))
    of_metrics = children(metric_lists.flatten())
    kinds = np.zeros(len(resource_of_metric), np.int32)
    samples: list[pa.Table] = []
    distributions: list[pa.Table] = []
    first = 0
    for field, read in zip(KINDS, (_numbers, _numbers, _histograms, _exponential_histograms, _summaries), strict=True):
        data = of_metrics[field]
        if data.null_count == len(data):
            continue
        present = pc.indices_nonzero(data.is_valid())
        if data.null_count:
            data = data.take(present)
        of_data = children(data)
        kinds[present.to_numpy()] = _kinds(field, len(data), of_data)
        metric_of_point = present.take(pc.list_parent_indices(of_data["data_points"]))
        # A new series takes these with it.
        refuse_expansion(metric_of_point.to_numpy(), [of_metrics[name] for name in ("name", "unit", "description")])
        of_points = children(of_data["data_points"].flatten())
        columns = _point_columns(first, of_points) | read(of_points)
        columns["metric"] = metric_of_point
        columns["resource"] = resource_of_metric.take(metric_of_point)
        first += len(metric_of_point)
        is_sample = read is _numbers
        schema = SAMPLE_SCHEMA if is_sample else DISTRIBUTION_SCHEMA
        table = pa.Table.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)
        # A point without a recorded value only says that its series has ended.
        ended = pc.bit_wise_and(of_points["flags"], _NO_RECORDED_VALUE)
        if pc.any(ended.cast(pa.bool_())).as_py():
            table = table.filter(pc.equal(ended, 0))
        (samples if is_sample else distributions).append(table)
    texts = {name: of_metrics[name] for name in ("name", "unit", "description")}
    none = pa.repeat("", len(kinds))
    return Points(
        pa.concat_tables(samples) if samples else SAMPLE_SCHEMA.empty_table(),
        pa.concat_tables(distributions) if distributions else DISTRIBUTION_SCHEMA.empty_table(),
        pa.table({**texts, "metadata": none, "kind": pa.array(kinds)}),
        of_resources["resource"].to_pylist(),
        _LABELS,
        "data_points",
    )


class _Attributes:
    """Implements `LabelReader` for attributes that are bytes."""

    def __init__(self) -> None:
        self._entries = _messages(common_pb2.KeyValue)
        self._resources = _messages(resource_pb2.Resource)

    def own(self, column: pa.ChunkedArray) -> list[dict[str, str]]:
        """The labels of points, from list<binary>: the bytes of KeyValues."""
        lists = column.combine_chunks()
        entries = lists.flatten().to_pylist()
        if not entries:
            return [{} for _ in range(len(lists))]
        with _refused():
            read = self._entries.read(entries)
        pairs = pa.StructArray.from_arrays(read.columns, names=read.schema.names)
        return _label_maps(pa.ListArray.from_arrays(lists.offsets.cast(pa.int32()), pairs))

    def shared(self, resource: bytes) -> dict[str, str]:
        """The labels of a Resource."""
        with _refused():
            return _label_maps(self._resources.read([resource]).column("attributes"))[0]


def _messages(message: type[Message]) -> ArrowMessages:
    descriptor: Any = message.DESCRIPTOR
    return ArrowMessages(message, variant(descriptor, attributes.AS_BYTES, set()))


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (ValueError, DecodeError) as error:
        raise malformed(metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR.full_name) from error


def _label_maps(entries: pa.ListArray) -> list[dict[str, str]]:
    read = attributes.from_key_values(entries)
    keys, texts, offsets = read.keys.to_pylist(), read.texts().to_pylist(), read.offsets.tolist()
    return [
        dict(zip(keys[begin:end], texts[begin:end], strict=True))
        for begin, end in zip(offsets[:-1], offsets[1:], strict=True)
    ]


def _kinds(field: str, count: int, data: Fields) -> Numbers:
    if field in ("gauge", "summary"):
        return np.full(count, int(Kind.GAUGE if field == "gauge" else Kind.SUMMARY), np.int32)
    delta = pc.equal(data["aggregation_temporality"], _DELTA).to_numpy(zero_copy_only=False)
    if field == "sum":
        return np.where(
            data["is_monotonic"].to_numpy(zero_copy_only=False),
            np.where(delta, int(Kind.DELTA_COUNTER), int(Kind.COUNTER)),
            np.where(delta, int(Kind.DELTA_UP_DOWN_COUNTER), int(Kind.UP_DOWN_COUNTER)),
        )
    if field == "histogram":
        return np.where(delta, int(Kind.DELTA_HISTOGRAM), int(Kind.HISTOGRAM))
    return np.where(delta, int(Kind.DELTA_EXPONENTIAL_HISTOGRAM), int(Kind.EXPONENTIAL_HISTOGRAM))


def _point_columns(first: int, points: Fields) -> Fields:
    lists = points["attributes"]
    return {
        "index": pa.array(np.arange(first, first + len(lists), dtype=np.int32)),
        "labels": lists,
        "labels_key": _keys(lists),
        "time": nanoseconds(points["time_unix_nano"]),
        "start": nanoseconds(points["start_time_unix_nano"]).fill_null(0),
    }


def _keys(lists: pa.ListArray) -> pa.BinaryArray:
    """One key a list: the bytes of its entries, behind their number and lengths, so that none imitates another."""
    of_lists = lists.offsets.to_numpy()
    of_lists = of_lists - of_lists[0]
    of_entries, content = bounds_and_bytes(lists.flatten())

    def each(bounds: Numbers, values: Numbers) -> pa.BinaryArray:
        buffers = [None, pa.py_buffer(bounds.tobytes()), pa.py_buffer(values)]
        return pa.Array.from_buffers(pa.binary(), len(lists), buffers)

    number = pc.list_value_length(lists).cast(pa.string()).cast(pa.binary())
    layout, joined = each(of_lists * 4, np.diff(of_entries)), each(of_entries[of_lists], content)
    return pc.binary_join_element_wise(number, layout, joined, pa.scalar(b":", pa.binary()))


def _numbers(points: Fields) -> Fields:
    return {"value": pc.coalesce(points["as_double"], points["as_int"].cast(pa.float64(), safe=False))}


def _distribution(**columns: pa.Array) -> Fields:
    length = len(columns["count"])
    for field in DISTRIBUTION_SCHEMA:
        if field in POINT_FIELDS or field.name in columns:
            continue
        if pa.types.is_list(field.type):
            columns[field.name] = _empty_lists(length, field.type.value_type)
        elif field.name in ("sum", "min", "max"):
            columns[field.name] = pa.nulls(length, field.type)
        else:
            columns[field.name] = pa.repeat(pa.scalar(0, field.type), length)
    return columns


def _empty_lists(count: int, item: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], item))


def _histograms(points: Fields) -> Fields:
    return _distribution(
        count=points["count"],
        sum=points["sum"],
        min=points["min"],
        max=points["max"],
        bounds=points["explicit_bounds"],
        bucket_counts=points["bucket_counts"],
    )


def _exponential_histograms(points: Fields) -> Fields:
    positive, negative = points["positive"], points["negative"]

    def counts(buckets: pa.StructArray) -> pa.Array:
        lists = pc.struct_field(buckets, "bucket_counts")
        return pc.if_else(lists.is_valid(), lists, pa.scalar([], lists.type))

    return _distribution(
        count=points["count"],
        sum=points["sum"],
        min=points["min"],
        max=points["max"],
        scale=points["scale"],
        zero_count=points["zero_count"],
        zero_threshold=points["zero_threshold"],
        positive_offset=pc.struct_field(positive, "offset").fill_null(0),
        positive_counts=counts(positive),
        negative_offset=pc.struct_field(negative, "offset").fill_null(0),
        negative_counts=counts(negative),
    )


def _summaries(points: Fields) -> Fields:
    quantiles = points["quantile_values"]
    offsets = quantiles.offsets
    flat = quantiles.flatten()

    def lists(name: str) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pc.struct_field(flat, name))

    return _distribution(
        count=points["count"],
        sum=points["sum"],
        quantiles=lists("quantile"),
        quantile_values=lists("value"),
    )


def join_pairs(offsets: pa.Array, keys: pa.Array, values: pa.Array) -> pa.Array:
    """One text an item, the same for the same pairs in the same order. `offsets` int32[n + 1], the others string[m]."""
    # Lengths go in front, so that no text within a key or value can imitate another set of labels.
    pairs = pc.binary_join_element_wise(
        pc.binary_length(keys).cast(pa.string()),
        pc.binary_length(values).cast(pa.string()),
        keys,
        values,
        "\x1f",
    )
    return pc.binary_join(pa.ListArray.from_arrays(offsets.cast(pa.int32()), pairs), "\x1e")


_LABELS = _Attributes()
