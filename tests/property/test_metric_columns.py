"""Wire to columns agrees with a plain reading of the same bytes by upb, for every kind of point and value."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from airis.metrics.v1 import metrics_pb2
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp_pb2

from services.metrics import convert
from services.metrics.config import MetricsConfig
from services.metrics.ingest import Checker
from services.metrics.model import Kind, MetricColumns
from services.metrics.series import SeriesIndex, series_id
from services.shared.bus.port import Header

NOW = 1_790_000_000_000_000_000
DAY = 86_400_000_000_000
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
KEYS = st.sampled_from(["a", "b", "host", "서버", "k8s.pod/name", "\x1f", "\x1e"])
NAMES = st.sampled_from(["cpu", "http.requests", "a_b:c", "", "9bad", "bad name", "x" * 256])
TIMES = st.sampled_from([0, NOW, NOW - DAY, NOW - 90 * DAY, NOW - 90 * DAY - 1, NOW + DAY, NOW + DAY + 1, 1])
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308, math.nan, math.inf])


@st.composite
def any_values(draw: st.DrawFn, depth: int = 0) -> common_pb2.AnyValue:
    value = common_pb2.AnyValue()
    kinds = ["string", "bool", "int", "double", "bytes", "none"] + (["array", "kvlist"] if depth < 2 else [])
    match draw(st.sampled_from(kinds)):
        case "string":
            value.string_value = draw(TEXT)
        case "bool":
            value.bool_value = draw(st.booleans())
        case "int":
            value.int_value = draw(st.integers(-(2**63), 2**63 - 1))
        case "double":
            value.double_value = draw(st.floats(allow_nan=False, width=32))
        case "bytes":
            value.bytes_value = draw(st.binary(max_size=4))
        case "array":
            value.array_value.SetInParent()
            for item in draw(st.lists(any_values(depth + 1), max_size=2)):
                value.array_value.values.append(item)
        case "kvlist":
            value.kvlist_value.SetInParent()
            for key, item in draw(st.dictionaries(KEYS, any_values(depth + 1), max_size=2)).items():
                value.kvlist_value.values.add(key=key).value.CopyFrom(item)
    return value


ATTRIBUTES = st.dictionaries(KEYS, any_values(), max_size=3)


def plain(value: common_pb2.AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "int_value":
            return value.int_value if abs(value.int_value) <= 2**53 else str(value.int_value)
        case "double_value" if math.isinf(value.double_value):
            # As protobuf's JSON, which JSON's own numbers are too few for.
            return "Infinity" if value.double_value > 0 else "-Infinity"
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        case None:
            return None
        case field:
            return getattr(value, field)


def text(value: common_pb2.AnyValue) -> str | float:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return value.double_value
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value":
            return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))
    return ""


def same_text(found: str, expected: str | float) -> bool:
    return float(found) == expected if isinstance(expected, float) else found == expected


def acceptable(name: str, time: int) -> bool:
    valid = name in ("cpu", "http.requests", "a_b:c")
    return valid and (time == 0 or NOW - 90 * DAY <= time <= NOW + DAY)


def check(message_type: str, payload: bytes) -> tuple[MetricColumns, set[int], Checker]:
    checker = Checker(MetricsConfig(), SeriesIndex())
    points = convert.read(message_type, [payload]).items
    checked = checker.check(points, "default", NOW)
    return checked.columns, set(checked.rejected), checker


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, NUMBERS, TIMES, st.dictionaries(KEYS, TEXT, max_size=3), st.integers(0, 12), st.just("ms")),
        max_size=6,
    )
)
def test_our_dialect(items: list[tuple[str, float, int, dict[str, str], int, str]]) -> None:
    request = metrics_pb2.IngestMetricsRequest()
    for name, value, time, labels, kind, unit in items:
        metric = request.metrics.add(name=name, value=value, kind=kind, unit=unit, labels=labels)
        if time:
            metric.timestamp.FromNanoseconds(time)
    columns, rejected, _ = check(convert.UNARY, request.SerializeToString())
    expected, refused = [], set()
    for index, metric in enumerate(request.metrics):
        time = metric.timestamp.ToNanoseconds() if metric.HasField("timestamp") else 0
        if not (acceptable(metric.name, time) and math.isfinite(metric.value) and metric.kind <= 5):
            refused.add(index)
            continue
        kind = Kind(metric.kind or 1).name
        identity = series_id("default", metric.name, kind, metric.unit, dict(metric.labels))
        expected.append((metric.name, identity, (time or NOW) // 1_000_000, metric.value))
    assert rejected == refused
    rows = columns.samples.to_pylist()
    found = [(r["metric"], r["series_id"], int(r["timestamp"].timestamp() * 1000 + 0.5), r["value"]) for r in rows]
    assert found == expected
    assert {row.series_id for row in columns.series} == {identity for _, identity, _, _ in expected}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_otlp(data: st.DataObject) -> None:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    for _ in range(data.draw(st.integers(0, 2))):
        resource = request.resource_metrics.add()
        for key, value in data.draw(ATTRIBUTES).items():
            resource.resource.attributes.add(key=key).value.CopyFrom(value)
        for _ in range(data.draw(st.integers(0, 2))):
            scope = resource.scope_metrics.add()
            for _ in range(data.draw(st.integers(0, 3))):
                _fill(data, scope.metrics.add(name=data.draw(NAMES), unit="1", description=data.draw(TEXT)))
    payload = request.SerializeToString()
    columns, rejected, checker = check(convert.OTLP, payload)
    samples, distributions, refused = _reference(request)
    assert rejected == refused
    assert [_sample(row) for row in columns.samples.to_pylist()] == samples
    assert [_distribution(row) for row in columns.distributions.to_pylist()] == distributions
    labels = {row.series_id: row.labels for row in columns.series}
    for identity, expected in _labels(request).items():
        if identity in labels:
            assert labels[identity].keys() == expected.keys()
            assert all(same_text(labels[identity][key], expected[key]) for key in expected)
    # Replay of the same bytes, knowing what was refused, gives the same columns.
    points = convert.read(convert.OTLP, [payload]).items
    header = Header("default", convert.OTLP, NOW, columns.samples.num_rows, rejected=tuple(rejected))
    again = checker.columns(points, header)
    assert again.samples.equals(columns.samples)
    assert again.distributions.equals(columns.distributions)


def _fill(data: st.DataObject, metric: otlp_pb2.Metric) -> None:
    which = data.draw(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"]))
    holder = getattr(metric, which)
    holder.SetInParent()
    if which in ("sum", "histogram", "exponential_histogram"):
        holder.aggregation_temporality = data.draw(st.integers(1, 2))
    if which == "sum":
        holder.is_monotonic = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(0, 2))):
        point = holder.data_points.add(
            time_unix_nano=data.draw(TIMES), start_time_unix_nano=data.draw(st.sampled_from([0, NOW - DAY]))
        )
        point.flags = data.draw(st.sampled_from([0, 0, 0, 1]))
        for key, value in data.draw(ATTRIBUTES).items():
            point.attributes.add(key=key).value.CopyFrom(value)
        if which in ("gauge", "sum"):
            match data.draw(st.sampled_from(["int", "double", "none"])):
                case "int":
                    point.as_int = data.draw(st.integers(-(2**53), 2**53))
                case "double":
                    point.as_double = data.draw(NUMBERS)
        elif which == "histogram":
            point.explicit_bounds[:] = data.draw(st.sampled_from([[], [1.0], [1.0, 2.0], [2.0, 1.0]]))
            point.bucket_counts[:] = data.draw(st.lists(st.integers(0, 5), max_size=4))
            point.count = data.draw(st.sampled_from([sum(point.bucket_counts), 7]))
            point.sum = data.draw(NUMBERS)
        elif which == "exponential_histogram":
            point.scale = data.draw(st.integers(-2, 3))
            point.positive.offset = data.draw(st.integers(-3, 3))
            point.positive.bucket_counts[:] = data.draw(st.lists(st.integers(0, 5), max_size=3))
            point.zero_count = data.draw(st.integers(0, 2))
            point.count = data.draw(st.sampled_from([sum(point.positive.bucket_counts) + point.zero_count, 7]))
        else:
            point.count, point.sum = 3, data.draw(NUMBERS)
            point.quantile_values.add(quantile=0.5, value=1.5)


def _points(request: metrics_service_pb2.ExportMetricsServiceRequest) -> list[tuple[Any, Any, Any, str]]:
    # Points are numbered kind by kind, as they become columns.
    ordered = []
    for which in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.WhichOneof("data") == which:
                        ordered += [(resource, metric, p, which) for p in getattr(metric, which).data_points]
    return ordered


def _kind(metric: Any, which: str) -> str:
    if which in ("gauge", "summary"):
        return which.upper()
    delta = "DELTA_" if getattr(metric, which).aggregation_temporality == 1 else ""
    if which == "sum":
        return delta + ("COUNTER" if metric.sum.is_monotonic else "UP_DOWN_COUNTER")
    return delta + which.upper()


def _merged(resource: Any, point: Any) -> dict[str, Any]:
    pairs = [*resource.resource.attributes, *point.attributes]
    return {pair.key: text(pair.value) for pair in pairs}


def _identity(resource: Any, metric: Any, point: Any, which: str) -> int:
    labels = {key: _arrow_text(value) for key, value in _merged(resource, point).items()}
    return series_id("default", metric.name, _kind(metric, which), metric.unit, labels)


def _arrow_text(value: str | float) -> str:
    import pyarrow as pa

    return pa.scalar(value).cast(pa.string()).as_py() if isinstance(value, float) else value


def _labels(request: Any) -> dict[int, dict[str, Any]]:
    return {_identity(r, m, p, w): _merged(r, p) for r, m, p, w in _points(request)}


def _reference(request: Any) -> tuple[list[Any], list[Any], set[int]]:
    samples, distributions, refused = [], [], set()
    for index, (resource, metric, point, which) in enumerate(_points(request)):
        if point.flags & 1:
            continue
        valid = acceptable(metric.name, point.time_unix_nano)
        at = (point.time_unix_nano or NOW) // 1_000_000
        identity = _identity(resource, metric, point, which)
        if which in ("gauge", "sum"):
            field = point.WhichOneof("value")
            value = float(getattr(point, field)) if field else math.nan
            if valid and math.isfinite(value):
                samples.append((metric.name, identity, at, value))
            else:
                refused.add(index)
            continue
        counts: list[int] = []
        if which == "histogram":
            counts = list(point.bucket_counts)
            bounds = list(point.explicit_bounds)
            valid = valid and (len(counts) == len(bounds) + 1 or (not counts and not bounds))
            valid = valid and bounds == sorted(set(bounds)) and (not counts or sum(counts) == point.count)
        elif which == "exponential_histogram":
            counts = list(point.positive.bucket_counts)
            valid = valid and sum(counts) + point.zero_count == point.count
        has_sum = which == "summary" or point.HasField("sum")
        valid = valid and (not has_sum or math.isfinite(point.sum))
        if valid:
            distributions.append((metric.name, identity, at, point.count, point.sum if has_sum else None, counts))
        else:
            refused.add(index)
    return samples, distributions, refused


def _sample(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["metric"], row["series_id"], int(row["timestamp"].timestamp() * 1000 + 0.5), row["value"]


def _distribution(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["metric"],
        row["series_id"],
        int(row["timestamp"].timestamp() * 1000 + 0.5),
        row["count"],
        row["sum"],
        row["bucket_counts"] or row["positive_counts"],
    )


def test_metadata_keeps_every_json_type() -> None:
    tree = {
        "text": "가",
        "number": 1.5,
        "flag": False,
        "nothing": None,
        "list": [1.0, "2", [None]],
        "map": {"a": {"b": 1.0}},
    }
    request = metrics_pb2.IngestMetricsRequest()
    metric = request.metrics.add(name="cpu", value=1)
    for key, value in tree.items():
        json_format.ParseDict(value, metric.metadata[key])
    columns, _, _ = check(convert.UNARY, request.SerializeToString())
    assert json.loads(columns.series[0].metadata) == tree
