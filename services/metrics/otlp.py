"""OTLP metrics as columns: every kind of point, flattened without a loop over points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.metrics.model import Kind, Points
from services.shared.rpc import attributes
from services.shared.rpc.otlp_times import nanoseconds

_DELTA = 1
_NO_RECORDED_VALUE = 1

POINT_FIELDS = [
    pa.field("index", pa.int32()),
    pa.field("name", pa.string()),
    pa.field("unit", pa.string()),
    pa.field("kind", pa.int32()),
    pa.field("labels", pa.map_(pa.string(), pa.string())),
    pa.field("labels_key", pa.string()),
    pa.field("resource", pa.int32()),
    pa.field("description", pa.string()),
    pa.field("metadata", pa.string()),
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
    """Flattens the `resource_metrics` of a request, as ptars gives them."""
    scope_lists = pc.struct_field(resource_metrics, "scope_metrics")
    metric_lists = pc.struct_field(scope_lists.flatten(), "metrics")
    resource_of_metric = pc.list_parent_indices(scope_lists).take(pc.list_parent_indices(metric_lists))
    metrics = metric_lists.flatten()
    samples: list[pa.Table] = []
    distributions: list[pa.Table] = []
    first = 0
    for field, read, tables, schema in (
        ("gauge", _numbers, samples, SAMPLE_SCHEMA),
        ("sum", _numbers, samples, SAMPLE_SCHEMA),
        ("histogram", _histograms, distributions, DISTRIBUTION_SCHEMA),
        ("exponential_histogram", _exponential_histograms, distributions, DISTRIBUTION_SCHEMA),
        ("summary", _summaries, distributions, DISTRIBUTION_SCHEMA),
    ):
        present = pc.indices_nonzero(pc.struct_field(metrics, field).is_valid())
        if len(present) == 0:
            continue
        chosen = metrics.take(present)
        data = pc.struct_field(chosen, field)
        lists = pc.struct_field(data, "data_points")
        owner = pc.list_parent_indices(lists)
        flat = lists.flatten()
        columns = _point_columns(first, flat, chosen.take(owner)) | read(flat)
        columns["kind"] = _kinds(field, data).take(owner)
        columns["resource"] = resource_of_metric.take(present).take(owner)
        first += len(flat)
        table = pa.Table.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)
        # A point without a recorded value only says that its series has ended.
        tables.append(table.filter(pc.equal(pc.bit_wise_and(pc.struct_field(flat, "flags"), _NO_RECORDED_VALUE), 0)))
    return Points(
        pa.concat_tables(samples) if samples else SAMPLE_SCHEMA.empty_table(),
        pa.concat_tables(distributions) if distributions else DISTRIBUTION_SCHEMA.empty_table(),
        _resources(resource_metrics),
        "data_points",
    )


def _resources(resource_metrics: pa.StructArray) -> list[dict[str, str]]:
    resource = pc.struct_field(resource_metrics, "resource")
    entries = attributes.from_key_values(pc.struct_field(resource, "attributes"))
    keys, texts, offsets = entries.keys.to_pylist(), entries.texts().to_pylist(), entries.offsets.tolist()
    return [
        dict(zip(keys[begin:end], texts[begin:end], strict=True))
        for begin, end in zip(offsets[:-1], offsets[1:], strict=True)
    ]


def _kinds(field: str, data: pa.StructArray) -> pa.Array:
    count = len(data)
    if field in ("gauge", "summary"):
        return pa.repeat(pa.scalar(int(Kind.GAUGE if field == "gauge" else Kind.SUMMARY), pa.int32()), count)
    delta = pc.equal(pc.struct_field(data, "aggregation_temporality"), _DELTA)
    if field == "sum":
        monotonic = pc.struct_field(data, "is_monotonic")
        return _choose(
            monotonic,
            _choose(delta, Kind.DELTA_COUNTER, Kind.COUNTER),
            _choose(delta, Kind.DELTA_UP_DOWN_COUNTER, Kind.UP_DOWN_COUNTER),
        )
    if field == "histogram":
        return _choose(delta, Kind.DELTA_HISTOGRAM, Kind.HISTOGRAM)
    return _choose(delta, Kind.DELTA_EXPONENTIAL_HISTOGRAM, Kind.EXPONENTIAL_HISTOGRAM)


def _choose(condition: pa.Array, yes: pa.Array | Kind, no: pa.Array | Kind) -> pa.Array:
    def operand(value: pa.Array | Kind) -> Any:
        return pa.scalar(int(value), pa.int32()) if isinstance(value, Kind) else value

    return pc.if_else(condition, operand(yes), operand(no))


def _point_columns(first: int, points: pa.StructArray, metrics: pa.StructArray) -> dict[str, pa.Array]:
    own = attributes.from_key_values(pc.struct_field(points, "attributes"))
    offsets, texts = pa.array(own.offsets), own.texts()
    return {
        "index": pa.array(np.arange(first, first + len(points), dtype=np.int32)),
        "name": pc.struct_field(metrics, "name"),
        "unit": pc.struct_field(metrics, "unit"),
        "labels": pa.MapArray.from_arrays(offsets, own.keys, texts),
        "labels_key": join_pairs(offsets, own.keys, texts),
        "description": pc.struct_field(metrics, "description"),
        "metadata": pa.repeat("", len(points)),
        "time": nanoseconds(pc.struct_field(points, "time_unix_nano")),
        "start": nanoseconds(pc.struct_field(points, "start_time_unix_nano")).fill_null(0),
    }


def _numbers(points: pa.StructArray) -> dict[str, pa.Array]:
    as_double, as_int = pc.struct_field(points, "as_double"), pc.struct_field(points, "as_int")
    return {"value": pc.coalesce(as_double, as_int.cast(pa.float64(), safe=False))}


def _distribution(length: int, **columns: pa.Array) -> dict[str, pa.Array]:
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


def _histograms(points: pa.StructArray) -> dict[str, pa.Array]:
    return _distribution(
        len(points),
        count=pc.struct_field(points, "count"),
        sum=pc.struct_field(points, "sum"),
        min=pc.struct_field(points, "min"),
        max=pc.struct_field(points, "max"),
        bounds=pc.struct_field(points, "explicit_bounds"),
        bucket_counts=pc.struct_field(points, "bucket_counts"),
    )


def _exponential_histograms(points: pa.StructArray) -> dict[str, pa.Array]:
    positive, negative = pc.struct_field(points, "positive"), pc.struct_field(points, "negative")

    def counts(buckets: pa.StructArray) -> pa.Array:
        lists = pc.struct_field(buckets, "bucket_counts")
        return pc.if_else(lists.is_valid(), lists, pa.scalar([], lists.type))

    return _distribution(
        len(points),
        count=pc.struct_field(points, "count"),
        sum=pc.struct_field(points, "sum"),
        min=pc.struct_field(points, "min"),
        max=pc.struct_field(points, "max"),
        scale=pc.struct_field(points, "scale"),
        zero_count=pc.struct_field(points, "zero_count"),
        zero_threshold=pc.struct_field(points, "zero_threshold"),
        positive_offset=pc.struct_field(positive, "offset").fill_null(0),
        positive_counts=counts(positive),
        negative_offset=pc.struct_field(negative, "offset").fill_null(0),
        negative_counts=counts(negative),
    )


def _summaries(points: pa.StructArray) -> dict[str, pa.Array]:
    quantiles = pc.struct_field(points, "quantile_values")
    offsets = quantiles.offsets
    flat = quantiles.flatten()

    def lists(name: str) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pc.struct_field(flat, name))

    return _distribution(
        len(points),
        count=pc.struct_field(points, "count"),
        sum=pc.struct_field(points, "sum"),
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
