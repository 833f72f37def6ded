"""A request like an earlier one becomes, undecoded, exactly what decoding makes of it; any other is decoded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from services.metrics import convert
from services.metrics.config import MetricsConfig
from services.metrics.ingest import Checker
from services.metrics.known_requests import KnownRequests
from services.metrics.model import MetricColumns
from services.metrics.series import SeriesIndex

DAY = 86_400_000_000_000
NOW = 20_000 * DAY + DAY // 2
ELEVEN_MINUTES = 660_000_000_000
TIMES = st.integers(NOW - 80 * DAY, NOW + DAY)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.sampled_from(["", "a", "host", "한글", "Z\xc3\x17\xe5"])


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Gauges and sums with points of both types, with and without labels and starts."""
    request = ExportMetricsServiceRequest()
    for host in range(draw(st.integers(1, 3))):
        resource = request.resource_metrics.add()
        resource.resource.attributes.add(key="host").value.string_value = f"h{host}"
        scope = resource.scope_metrics.add()
        for number in range(draw(st.integers(1, 3))):
            metric = scope.metrics.add(name=f"m{number}", unit=draw(TEXT))
            kind = draw(st.sampled_from(["gauge", "sum"]))
            holder = getattr(metric, kind)
            if kind == "sum":
                holder.is_monotonic = draw(st.booleans())
                holder.aggregation_temporality = 2
            for at in range(draw(st.integers(1, 3))):
                point = holder.data_points.add(time_unix_nano=1)
                point.start_time_unix_nano = draw(st.sampled_from([0, 1]))
                setattr(point, draw(st.sampled_from(["as_int", "as_double"])), 1)
                point.attributes.add(key="at").value.int_value = at
                point.attributes.add(key="more").value.string_value = draw(TEXT)
    return request


def points(request: Any) -> list[Any]:
    return [
        point
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def refill(data: st.DataObject, request: Any) -> bytes:
    """New times and values."""
    for point in points(request):
        point.time_unix_nano = data.draw(TIMES)
        if point.start_time_unix_nano:
            point.start_time_unix_nano = data.draw(st.integers(1, NOW))
        if point.WhichOneof("value") == "as_int":
            point.as_int = data.draw(INTEGERS)
        else:
            point.as_double = data.draw(DOUBLES)
    return bytes(request.SerializeToString())


def decoded(checker: Checker, payload: bytes, now: int = NOW) -> MetricColumns:
    found = convert.read(convert.OTLP, [payload]).items
    checked = checker.check(found, "default", now)
    assert not checked.rejected
    return checked.columns


def learned(index: SeriesIndex, checker: Checker, payload: bytes) -> KnownRequests:
    """What knows a request after it came several times."""
    known = KnownRequests(index, 90)
    columns = decoded(checker, payload)
    for _ in range(8):
        known.learn(convert.OTLP, "default", payload, columns, NOW)
    return known


@settings(max_examples=100, deadline=None)
@given(requests(), st.data())
def test_it_becomes_what_decoding_makes_of_it(request_: Any, data: st.DataObject) -> None:
    index = SeriesIndex()
    checker = Checker(MetricsConfig(), index)
    known = learned(index, checker, refill(data, request_))
    payload = refill(data, request_)
    recalled = known.recall(convert.OTLP, "default", payload, NOW)
    assert recalled is not None
    expected = decoded(checker, payload)
    assert recalled.samples.equals(expected.samples)
    assert recalled.distributions.equals(expected.distributions)
    assert {row.series_id for row in recalled.series} == {row.series_id for row in expected.series}
    index.written(expected.series)
    again = known.recall(convert.OTLP, "default", payload, NOW)
    assert again is not None
    assert not again.series
    assert known.recall(convert.OTLP, "other", payload, NOW) is None
    # On the next day each series is written again, so it must be decoded again.
    assert known.recall(convert.OTLP, "default", payload, NOW + DAY) is None


def test_series_that_the_index_forgot_before_the_store_had_them_are_not_taken_for_stored() -> None:
    index = SeriesIndex(capacity=2)
    checker = Checker(MetricsConfig(), index)
    payload = bytes(gauge().SerializeToString())
    known = learned(index, checker, payload)
    recalled = known.recall(convert.OTLP, "default", payload, NOW)
    assert recalled is not None
    assert recalled.series
    # That batch is refused, and others' series make the index forget.
    decoded(checker, bytes(b"".join(gauge(host=f"h{number}").SerializeToString() for number in range(3))))
    decoded(checker, bytes(gauge(host="one more").SerializeToString()))
    assert known.recall(convert.OTLP, "default", payload, NOW) is None
    # What was checked before then is not learned after it either.
    for _ in range(8):
        known.learn(convert.OTLP, "default", payload, recalled, NOW)
    assert known.recall(convert.OTLP, "default", payload, NOW) is None
    assert decoded(checker, payload).series


@settings(max_examples=300, deadline=None)
@given(requests(), st.data())
def test_a_request_that_differs_in_anything_else_is_decoded(request_: Any, data: st.DataObject) -> None:
    index = SeriesIndex()
    checker = Checker(MetricsConfig(), index)
    payload = refill(data, request_)
    known = learned(index, checker, payload)
    at = data.draw(st.integers(0, len(payload) - 1))
    changed = bytearray(payload)
    changed[at] ^= data.draw(st.integers(1, 255))
    recalled = known.recall(convert.OTLP, "default", bytes(changed), NOW)
    # Otherwise it was a time or a value.
    assert recalled is None or recalled.samples.equals(decoded(checker, bytes(changed)).samples)


def gauge(count: int = 2, host: str = "a", **fields: Any) -> Any:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="host").value.string_value = host
    made = resource.scope_metrics.add().metrics.add(name="cpu").gauge
    for _ in range(count):
        made.data_points.add(**{"time_unix_nano": NOW, "as_double": 1.5, **fields})
    return request


def with_exemplar() -> Any:
    request = gauge()
    points(request)[0].exemplars.add(time_unix_nano=NOW, as_double=1.5)
    return request


@pytest.mark.parametrize(
    "request_", [gauge(time_unix_nano=0), gauge(flags=2), with_exemplar()], ids=["no time", "flags", "exemplar"]
)
def test_a_layout_that_may_change_otherwise_is_not_learned(request_: Any) -> None:
    index = SeriesIndex()
    payload = request_.SerializeToString()
    known = learned(index, Checker(MetricsConfig(), index), payload)
    assert known.recall(convert.OTLP, "default", payload, NOW) is None


@pytest.mark.parametrize(
    "field", [{"time_unix_nano": NOW - 91 * DAY}, {"time_unix_nano": NOW + 2 * DAY}, {"as_double": float("inf")}]
)
def test_a_request_of_which_something_is_refused_is_decoded_for_its_words(field: dict[str, Any]) -> None:
    index = SeriesIndex()
    known = learned(index, Checker(MetricsConfig(), index), gauge().SerializeToString())
    assert known.recall(convert.OTLP, "default", gauge().SerializeToString(), NOW) is not None
    assert known.recall(convert.OTLP, "default", gauge(**field).SerializeToString(), NOW) is None


def test_layouts_are_bounded_and_the_one_that_was_not_seen_for_longest_goes_first() -> None:
    index = SeriesIndex()
    checker = Checker(MetricsConfig(), index)
    known = KnownRequests(index, 90, max_bytes=60_000)
    payloads = [gauge(100, host=f"host{number}").SerializeToString() for number in range(10)]
    for number, payload in enumerate(payloads):
        for _ in range(8):
            now = NOW + number * ELEVEN_MINUTES
            known.learn(convert.OTLP, "default", payload, decoded(checker, payload), now)
            known.recall(convert.OTLP, "default", payloads[0], now)
    known_ones = [known.recall(convert.OTLP, "default", payload, NOW) is not None for payload in payloads]
    assert known_ones[0]
    assert known_ones[-1]
    assert 1 < sum(known_ones) < 10


def test_what_came_within_ten_minutes_is_not_forgotten_for_something_new() -> None:
    """So that of exporters which do not all fit, some are known each time."""
    index = SeriesIndex()
    checker = Checker(MetricsConfig(), index)
    known = KnownRequests(index, 90, max_bytes=40_000)
    payloads = [gauge(100, host=f"host{number}").SerializeToString() for number in range(10)]
    recalled = []
    for _ in range(40):
        for number, payload in enumerate(payloads):
            if known.recall(convert.OTLP, "default", payload, NOW) is None:
                known.learn(convert.OTLP, "default", payload, decoded(checker, payload), NOW)
            else:
                recalled.append(number)
    assert 1 < len(set(recalled)) < 10
    assert len(recalled) > 100


def test_what_came_within_ten_minutes_is_not_forgotten_for_something_large() -> None:
    """Even behind one that was not seen for longer."""
    index = SeriesIndex()
    checker = Checker(MetricsConfig(), index)
    known = KnownRequests(index, 90, max_bytes=200_000)
    later = NOW + ELEVEN_MINUTES
    old, large = gauge(10, host="old").SerializeToString(), gauge(3000, host="large").SerializeToString()
    living = [gauge(10, host=f"living{number}").SerializeToString() for number in range(10)]
    for payload, now in [(old, NOW), *((each, later) for each in living), (large, later)]:
        for _ in range(8):
            known.learn(convert.OTLP, "default", payload, decoded(checker, payload), now)
    known_ones = [known.recall(convert.OTLP, "default", payload, later) is not None for payload in living]
    assert all(known_ones)
    assert known.recall(convert.OTLP, "default", large, later) is None


def test_bytes_of_a_label_that_look_like_a_start_are_not_taken_for_one() -> None:
    """They are part of what the series is."""
    index = SeriesIndex()
    looks_like_a_start = bytes(4) + bytes.fromhex("f628d46b")
    request = gauge(1)
    points(request)[0].attributes.add(key="at").value.bytes_value = looks_like_a_start
    payload = request.SerializeToString()
    known = learned(index, Checker(MetricsConfig(), index), payload)
    other = payload.replace(looks_like_a_start, b"another!")
    assert known.recall(convert.OTLP, "default", other, NOW) is None
