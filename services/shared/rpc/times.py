"""Timestamps and durations of protobuf as integers."""

from __future__ import annotations

from google.protobuf import duration_pb2, timestamp_pb2

from services.shared.errors import FieldViolation, InvalidArgumentError

HOUR_NS = 3_600_000_000_000
MILLISECOND_NS = 1_000_000


def timestamp_ns(timestamp: timestamp_pb2.Timestamp) -> int:
    """Nanoseconds since 1970."""
    return timestamp.seconds * 1_000_000_000 + timestamp.nanos


def to_timestamp(nanoseconds: int) -> timestamp_pb2.Timestamp:
    """From nanoseconds since 1970."""
    return timestamp_pb2.Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def duration_ns(duration: duration_pb2.Duration) -> int:
    """Nanoseconds."""
    return duration.seconds * 1_000_000_000 + duration.nanos


def to_duration(nanoseconds: int) -> duration_pb2.Duration:
    """From nanoseconds, also negative ones."""
    seconds, nanos = divmod(abs(nanoseconds), 1_000_000_000)
    sign = -1 if nanoseconds < 0 else 1
    return duration_pb2.Duration(seconds=sign * seconds, nanos=sign * nanos)


def time_range(
    start: timestamp_pb2.Timestamp | None, end: timestamp_pb2.Timestamp | None, now_ns: int
) -> tuple[int, int]:
    """The range of a query in nanoseconds since 1970, its end excluded.

    Args:
        start: Absent: one hour before the end.
        end: Absent: now.
        now_ns: The moment of the query.

    Raises:
        InvalidArgumentError: The range is empty or outside the years 1970 to 2262.
    """
    end_ns = now_ns if end is None else timestamp_ns(end)
    start_ns = end_ns - HOUR_NS if start is None else timestamp_ns(start)
    for field, value in (("start_time", start_ns), ("end_time", end_ns)):
        if not 0 <= value < 2**63:
            raise _invalid(field, "must be a time between the years 1970 and 2262")
    if start_ns >= end_ns:
        raise _invalid("start_time", "must be before end_time")
    return start_ns, end_ns


def _invalid(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {description}.", violations=(FieldViolation(field, description),))
