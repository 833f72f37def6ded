"""Answers to queries as messages."""

from __future__ import annotations

from services.metrics import convert
from services.metrics.model import QueryResult, TimeSeries

_MINUTE = 60_000


def test_each_series_has_its_own_moments_and_values() -> None:
    found = [
        TimeSeries({"host": "a"}, [0, _MINUTE], [1.0, 2.0]),
        TimeSeries({"host": "b"}, [0, _MINUTE], [3.0, 0.0]),
        TimeSeries({"host": "c"}, [_MINUTE + 1], [5.0]),
        TimeSeries({"host": "d"}, [], []),
        TimeSeries({}, [0, _MINUTE], [6.0, -0.5]),
    ]
    answer = convert.query_response(QueryResult(found, _MINUTE, 2 * _MINUTE))
    assert [
        TimeSeries(
            dict(series.labels),
            [point.timestamp.ToMilliseconds() for point in series.points],
            [point.value for point in series.points],
        )
        for series in answer.series
    ] == found
    assert (answer.resolution.seconds, answer.step.seconds) == (60, 120)
