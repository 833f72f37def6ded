"""Labels that stay bytes: equal ones have one key and others another, and each series gets the labels that it has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from services.metrics import convert
from services.metrics.config import MetricsConfig
from services.metrics.ingest import Checker
from services.metrics.series import SeriesIndex
from services.shared.errors import InvalidArgumentError

NOW = 1_790_000_000_000_000_000
# Bytes of a message that begins where another ends are told apart only by where each ends.
TEXT = st.sampled_from(["", "a", "b", "ab", "\n\x01a", "a\x12\x03\n\x01b", ":", "1:"])
LABELS = st.lists(st.tuples(TEXT, TEXT), max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=5))
def test_points_have_one_series_exactly_if_they_have_the_same_labels(all_labels: list[list[tuple[str, str]]]) -> None:
    request = ExportMetricsServiceRequest()
    gauge = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu").gauge
    for labels in all_labels:
        point = gauge.data_points.add(time_unix_nano=NOW, as_double=1.0)
        for key, value in labels:
            point.attributes.add(key=key).value.string_value = value
    points = convert.read(convert.OTLP, [request.SerializeToString()]).items
    keys = points.samples.column("labels_key").to_pylist()
    for a, of_a in zip(keys, all_labels, strict=True):
        for b, of_b in zip(keys, all_labels, strict=True):
            assert (a == b) == (of_a == of_b)
    checked = Checker(MetricsConfig(), SeriesIndex()).check(points, "default", NOW)
    labels_of = {row.series_id: row.labels for row in checked.columns.series}
    accepted = [dict(labels) for labels in all_labels if all(key for key in dict(labels))]
    assert [labels_of[row["series_id"]] for row in checked.columns.samples.to_pylist()] == accepted


def test_a_label_that_is_no_message_is_refused_though_it_is_read_only_for_new_series() -> None:
    request = ExportMetricsServiceRequest()
    point = request.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu").gauge.data_points.add()
    point.as_double = 1.0
    point.attributes.append(KeyValue(key="marker"))
    payload = request.SerializeToString()
    # The key becomes longer than what holds it.
    broken = payload.replace(b"\n\x06marker", b"\n\x16marker")
    assert broken != payload
    checker = Checker(MetricsConfig(), SeriesIndex())
    for _ in range(2):
        with pytest.raises(InvalidArgumentError) as refused:
            checker.check(convert.read(convert.OTLP, [broken]).items, "default", NOW)
        assert refused.value.reason == "MALFORMED_REQUEST"
