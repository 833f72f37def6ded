"""Moments and durations as callers have them, in protobuf's form."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf import duration_pb2, timestamp_pb2

Moment = datetime | int | timestamp_pb2.Timestamp
"""A datetime with a time zone, nanoseconds since 1970, or a Timestamp."""

Length = timedelta | float | duration_pb2.Duration
"""A timedelta, seconds, or a Duration."""

NANOSECONDS = 1_000_000_000


def timestamp(moment: Moment | None) -> timestamp_pb2.Timestamp | None:
    """The moment as a Timestamp. Raises `ValueError` for a datetime without a time zone."""
    if moment is None or isinstance(moment, timestamp_pb2.Timestamp):
        return moment
    if isinstance(moment, int):
        return timestamp_pb2.Timestamp(seconds=moment // NANOSECONDS, nanos=moment % NANOSECONDS)
    if moment.tzinfo is None:
        raise ValueError("Give the datetime a time zone, for example datetime.now(UTC).")
    result = timestamp_pb2.Timestamp()
    result.FromDatetime(moment)
    return result


def duration(length: Length | None) -> duration_pb2.Duration | None:
    """The length as a Duration."""
    if length is None or isinstance(length, duration_pb2.Duration):
        return length
    result = duration_pb2.Duration()
    if isinstance(length, timedelta):
        result.FromTimedelta(length)
    else:
        result.FromNanoseconds(round(length * NANOSECONDS))
    return result
