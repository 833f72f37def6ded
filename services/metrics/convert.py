"""Wire to columns, and protobuf to model and back. Nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from airis.metrics.v1 import metrics_pb2
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from services.metrics import otlp
from services.metrics.model import (
    Aggregation,
    Kind,
    LabelValues,
    MetricDescriptor,
    Points,
    QueryResult,
    RangeQuery,
    Series,
)
from services.shared.bus.ingest import Requests
from services.shared.rpc import attributes, times
from services.shared.rpc.ingest_wire import Dialect, IngestWire

# What may be sent, as `read` names it.
UNARY = metrics_pb2.IngestMetricsRequest.DESCRIPTOR.full_name
STREAM = metrics_pb2.StreamMetricsRequest.DESCRIPTOR.full_name
OTLP = metrics_service_pb2.ExportMetricsServiceRequest.DESCRIPTOR.full_name

DEFAULT_MAX_SERIES = 1000


def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Points]:
    """Turns the bytes of ingest requests of one type into points. See `IngestWire.read`."""
    return _WIRE.read(message_type, payloads)


def _airis_points(metrics: pa.StructArray) -> Points:
    count = len(metrics)
    of = attributes.children(metrics)
    labels, kind = of["labels"], of["kind"]
    each = pa.array(np.arange(count, dtype=np.int32))
    zeros = np.zeros(count, np.int32)
    samples = pa.table(
        {
            "index": each,
            "metric": each,
            "resource": pa.array(zeros),
            "labels": labels,
            "labels_key": otlp.join_pairs(labels.offsets, labels.keys, labels.items),
            "time": of["timestamp"].cast(pa.int64()),
            "start": pa.array(zeros.astype(np.int64)),
            "value": of["value"],
        }
    )
    in_common = pa.table(
        {
            "name": of["name"],
            "unit": of["unit"],
            "description": pa.repeat("", count),
            "metadata": _metadata(of["metadata"], count),
            "kind": pc.if_else(pc.equal(kind, 0), pa.scalar(int(Kind.GAUGE), pa.int32()), kind),
        }
    )
    return Points(samples, otlp.DISTRIBUTION_SCHEMA.empty_table(), in_common, [b""], _AirisLabels(), "metrics")


class _AirisLabels:
    """Implements `LabelReader` for maps."""

    def own(self, column: pa.ChunkedArray) -> list[dict[str, str]]:
        """The labels of points, from map<string, string>."""
        return [dict(pairs) for pairs in column.to_pylist()]

    def shared(self, resource: bytes) -> dict[str, str]:
        """Nothing is shared."""
        return {}


def _metadata(entries: pa.Array, count: int) -> pa.Array:
    if len(entries.items) == 0:
        return pa.repeat("", count)
    parsed = attributes.from_value_map(entries)
    names = ("string", "double", "boolean", "encoded")
    columns = [getattr(parsed, name).to_pylist() for name in names]
    keys, offsets = parsed.keys.to_pylist(), parsed.offsets.tolist()

    def value(at: int) -> object:
        string, double, boolean, encoded = (column[at] for column in columns)
        if encoded is not None:
            return attributes.plain_value(encoded)
        if double is not None and not math.isfinite(double):
            # JSON has no such numbers: they leave as protobuf's JSON words them.
            return attributes.NON_FINITE[str(double)]
        return next((v for v in (string, double, boolean) if v is not None), None)

    return pa.array(
        [
            json.dumps({keys[at]: value(at) for at in range(begin, end)}, ensure_ascii=False, sort_keys=True)
            if end > begin
            else ""
            for begin, end in zip(offsets[:-1], offsets[1:], strict=True)
        ],
        pa.string(),
    )


_WIRE = IngestWire(
    Dialect(metrics_pb2.IngestMetricsRequest, "metrics", _airis_points),
    Dialect(metrics_pb2.StreamMetricsRequest, "metrics", _airis_points),
    Dialect(
        metrics_service_pb2.ExportMetricsServiceRequest,
        "resource_metrics",
        otlp.points,
        (("scope_metrics",), ("metrics",), otlp.KINDS, ("data_points",)),
        otlp.REQUEST,
    ),
)


def range_query(request: metrics_pb2.QueryMetricsRequest, tenant: str, now_ns: int) -> RangeQuery:
    """Reads a query. Raises `InvalidArgumentError` for an empty range."""
    start, end = times.time_range(
        request.start_time if request.HasField("start_time") else None,
        request.end_time if request.HasField("end_time") else None,
        now_ns,
    )
    return RangeQuery(
        tenant=tenant,
        metric=request.metric,
        filter=request.filter,
        start=start // times.MILLISECOND_NS,
        end=-(-end // times.MILLISECOND_NS),
        step=-(-times.duration_ns(request.step) // times.MILLISECOND_NS),
        aggregation=Aggregation(request.aggregation or Aggregation.AVG),
        quantile=request.quantile,
        group_by=tuple(request.group_by),
        max_series=request.max_series or DEFAULT_MAX_SERIES,
    )


def query_response(result: QueryResult) -> metrics_pb2.QueryMetricsResponse:
    """The answer to a query."""
    answer = metrics_pb2.QueryMetricsResponse(
        resolution=times.to_duration(result.resolution * times.MILLISECOND_NS),
        step=times.to_duration(result.step * times.MILLISECOND_NS),
    )
    moments: list[int] = []
    points: list[metrics_pb2.Point] = []
    for series in result.series:
        # Most series have the same times: to copy their points takes a third of making them.
        if series.timestamps != moments:
            moments = series.timestamps
            points = [metrics_pb2.Point(timestamp=times.to_timestamp(at * times.MILLISECOND_NS)) for at in moments]
        added = answer.series.add(labels=series.labels, points=points)
        for point, value in zip(added.points, series.values, strict=True):
            point.value = value
    return answer


def metric_descriptor(found: MetricDescriptor) -> metrics_pb2.MetricDescriptor:
    """What is known of a metric."""
    return metrics_pb2.MetricDescriptor(
        metric=found.metric,
        kinds=[kind.name for kind in found.kinds],
        units=found.units,
        series_count=found.series_count,
    )


def label(found: LabelValues) -> metrics_pb2.ListLabelsResponse.Label:
    """A label with its values."""
    return metrics_pb2.ListLabelsResponse.Label(key=found.key, values=found.values, value_count=found.value_count)


def series(found: Series) -> metrics_pb2.Series:
    """What is known of a series."""
    message = metrics_pb2.Series(
        series_id=f"{found.series_id:016x}",
        labels=found.labels,
        kind=found.kind.name,
        unit=found.unit,
    )
    for key, value in json.loads(found.metadata or "{}").items():
        json_format.ParseDict(value, message.metadata[key])
    return message
