"""Requests like earlier ones. An exporter sends the same series in the same order each time: its request differs from
its last one only in times and values, which have a fixed width on OTLP's wire. Where all other bytes are the same, so
are the series, and nothing has to be decoded.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from services.metrics.model import MetricColumns, SeriesRow, milliseconds
from services.metrics.series import SeriesIndex
from services.shared.retention import DAY_NS, accepted_times

_REQUEST = metrics_service_pb2.ExportMetricsServiceRequest
# Some 180 bytes a series: a million and more.
_MOST_BYTES = 256 * 1024 * 1024
# What was seen since then is not forgotten for something new. Exporters send each minute or more often; if all did not
# fit and the oldest went, each would be gone when it comes again.
_KEPT_NS = 600 * 1_000_000_000
# A layout is learned from so many of the requests that are of no known one, and from one more for each layout that was
# of use: exporters that never repeat themselves cost little more than before, and a million series are soon known.
_LEARNED_SHARE = 0.25
_MOST_TO_LEARN = 1000.0
# What a layout takes beside its bytes, measured: objects of Python, NumPy and Arrow.
_LAYOUT_BYTES = 5000
_MOST_ALIKE = 4
_MOST_SEEN = 100_000

# What stands in for times and values while their places are looked for: these bytes and the number of the point.
_TIME, _START, _VALUE = (0x5AC3_17E5 << 32, 0x6BD4_28F6 << 32, 0x3C95_39A7 << 32)

# The columns that numbers become.
_NUMBERS = ("timestamp", "start_time", "value")

_Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class _Marks:
    """Where the numbers of n points are in a request's bytes, in the order of the points' rows.

    Attributes:
        times: int64[n].
        values: int64[n].
        is_int: bool[n]: whether the value is an integer.
        starts: int64[m]: of those that have a start.
        started: int64[m]: the rows of these.
    """

    times: _Places
    values: _Places
    is_int: np.ndarray[Any, np.dtype[np.bool_]]
    starts: _Places
    started: _Places

    @property
    def first(self) -> int:
        """The first of them."""
        return int(min(self.times.min(), self.values.min(), *self.starts[:1]))

    def blank(self, numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        """Makes all of them 0."""
        for places in (self.times, self.values, self.starts):
            numbers[places] = 0

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self.times.nbytes + self.values.nbytes + self.is_int.nbytes + self.starts.nbytes + self.started.nbytes


@dataclass(slots=True)
class _Layout:
    """What is known of requests that are alike.

    Attributes:
        fixed: Their bytes, the numbers 0.
        marks: Where the numbers are.
        samples: What they become, without what the numbers become.
        schema: Of the whole.
        resets: Those of the index when it was learned.
        seen_ns: When one of them came last.
        is_written: Whether the store has all their series.
        is_used: Whether one of them was recalled.
    """

    fixed: bytes
    marks: _Marks
    samples: pa.Table
    schema: pa.Schema
    resets: int
    seen_ns: int
    is_written: bool = False
    is_used: bool = False

    @property
    def size(self) -> int:
        return _LAYOUT_BYTES + len(self.fixed) + self.marks.size + int(self.samples.nbytes)


class KnownRequests:
    """Recognizes requests. Used by the threads that accept and check points.

    Args:
        index: Knows which series the store lacks.
        retention_days: How old a point may be.
        max_bytes: Memory for layouts; the one that was not seen for longest goes first, if that is ten minutes.
    """

    def __init__(self, index: SeriesIndex, retention_days: int, max_bytes: int = _MOST_BYTES) -> None:
        self._index = index
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._bytes = 0
        self._day = self._resets = -1
        # By tenant, length and the bytes before the first number. How many bytes that are depends on the exporter.
        self._layouts: OrderedDict[tuple[str, int, int, int], list[_Layout]] = OrderedDict()
        self._prefixes: dict[tuple[str, int], Counter[int]] = {}
        self._seen: set[tuple[str, int]] = set()
        self._to_learn = 0.0
        # Of all layouts, from the first one on.
        self._no_distributions = pa.table({})

    def recall(self, message_type: str, tenant: str, payload: bytes, now_ns: int) -> MetricColumns | None:
        """The columns of a request if it is like an earlier one and nothing of it is to be refused."""
        if message_type != _REQUEST.DESCRIPTOR.full_name or not self._prefixes:
            return None
        if now_ns // DAY_NS != self._day:
            return None
        for length in tuple(self._prefixes.get((tenant, len(payload)), ())):
            key = (tenant, len(payload), length, xxhash.xxh3_64_intdigest(payload[:length]))
            for layout in self._layouts.get(key, ()):
                if (columns := self._read(layout, tenant, payload, now_ns)) is not None:
                    with suppress(KeyError):
                        self._layouts.move_to_end(key)
                    return columns
        return None

    def _read(self, layout: _Layout, tenant: str, payload: bytes, now_ns: int) -> MetricColumns | None:
        content = np.frombuffer(payload, np.uint8).copy()
        numbers = _numbers(content)
        marks = layout.marks
        times, values, starts = numbers[marks.times], numbers[marks.values], numbers[marks.starts]
        marks.blank(numbers)
        if content.tobytes() != layout.fixed:
            return None
        doubles = values.view(np.float64)
        if marks.is_int.any():
            doubles = np.where(marks.is_int, values.view(np.int64), doubles)
        oldest, newest = accepted_times(now_ns, self._retention_days)
        if times.min() < oldest or times.max() > newest or not np.isfinite(doubles).all():
            return None
        begins = np.zeros(len(times), np.int64)
        if len(starts):
            if starts.max() >= 2**63:
                return None
            begins[marks.started] = starts
        made = milliseconds(times.view(np.int64)), milliseconds(begins), pa.array(doubles)
        replaced = dict(zip(_NUMBERS, made, strict=True))
        samples = pa.Table.from_arrays(
            [replaced[name] if name in replaced else layout.samples.column(name) for name in layout.schema.names],
            schema=layout.schema,
        )
        series: Sequence[SeriesRow] = ()
        if not layout.is_written:
            series = self._index.unwritten(tenant, layout.samples.column("series_id").to_pylist())
            if self._index.resets != layout.resets:
                return None
            layout.is_written = not series
        layout.seen_ns = now_ns
        if not layout.is_used:
            layout.is_used = True
            self._to_learn += 1
        return MetricColumns(samples, self._no_distributions, series)

    def learn(self, message_type: str, tenant: str, payload: bytes, columns: MetricColumns, now_ns: int) -> None:
        """Remembers the layout of a request of which nothing was refused, if requests like it come again.

        Args:
            message_type: Full name of the request's message.
            tenant: Whose it is.
            payload: Its bytes.
            columns: What it became.
            now_ns: The moment of its check.
        """
        if message_type != _REQUEST.DESCRIPTOR.full_name or columns.distributions.num_rows:
            return
        if (day := now_ns // DAY_NS) != self._day or self._index.resets != self._resets:
            # The index has forgotten, too, so that each living series is written again.
            self._forget()
            self._day, self._resets = day, self._index.resets
        seen = (tenant, len(payload))
        if seen not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(seen)
            return
        self._to_learn = min(self._to_learn + _LEARNED_SHARE, _MOST_TO_LEARN)
        if self._to_learn < 1 or not self._has_room(len(payload), now_ns):
            return
        self._to_learn -= 1
        with self._index.lock:
            if self._index.resets != self._resets or not self._index.are_unwritten(columns.series):
                # Since the check, the index has forgotten them, or the store has got them.
                return
        layout = _layout(payload, columns, self._resets, now_ns)
        if layout is None or layout.size > self._max_bytes or not self._has_room(layout.size, now_ns):
            return
        self._no_distributions = columns.distributions.schema.empty_table()
        first = layout.marks.first
        key = (tenant, len(payload), first, xxhash.xxh3_64_intdigest(payload[:first]))
        others = self._layouts.pop(key, [])
        if not others:
            self._prefixes.setdefault(key[:2], Counter())[first] += 1
        self._layouts[key] = [*others[1 - _MOST_ALIKE :], layout]
        self._bytes += layout.size - sum(each.size for each in others[: 1 - _MOST_ALIKE])
        while self._bytes > self._max_bytes:
            self._forget_oldest()

    def _has_room(self, size: int, now_ns: int) -> bool:
        free = self._max_bytes - self._bytes
        with suppress(RuntimeError):
            # Raised when the event loop has just recalled another.
            for oldest in self._layouts.values():
                if size <= free or any(layout.seen_ns > now_ns - _KEPT_NS for layout in oldest):
                    break
                free += sum(layout.size for layout in oldest)
        return size <= free

    def _forget_oldest(self) -> None:
        (tenant, size, first, _), layouts = self._layouts.popitem(last=False)
        self._bytes -= sum(each.size for each in layouts)
        prefixes = self._prefixes[tenant, size]
        prefixes[first] -= 1
        if not prefixes[first]:
            del prefixes[first]
        if not prefixes:
            del self._prefixes[tenant, size]

    def _forget(self) -> None:
        for remembered in (self._layouts, self._prefixes, self._seen):
            remembered.clear()
        self._bytes, self._to_learn = 0, 0.0


def _numbers(content: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """uint64[n - 7] over the same memory: the eight bytes from each place on."""
    return np.ndarray((len(content) - 7,), "<u8", content, strides=(1,))


def _layout(payload: bytes, columns: MetricColumns, resets: int, now_ns: int) -> _Layout | None:
    """None if times and values are not all that may change: a point has no time, or an exemplar, or a number has
    another place than protobuf's own serializer gives it."""
    try:
        request = _REQUEST.FromString(payload)
    except DecodeError:
        return None
    kinds = _mark(request)
    if not kinds or len(kinds) != columns.samples.num_rows:
        return None
    marked = request.SerializeToString()
    if len(marked) != len(payload):
        return None
    marks = _find(np.frombuffer(marked, np.uint8), kinds)
    if marks is None:
        return None
    fixed, expected = (np.frombuffer(each, np.uint8).copy() for each in (payload, marked))
    for content in (fixed, expected):
        marks.blank(_numbers(content))
    if not np.array_equal(fixed, expected):
        return None
    # Not a view of what else was checked with it.
    samples = columns.samples.drop_columns(list(_NUMBERS)).take(pa.array(np.arange(len(kinds)))).combine_chunks()
    return _Layout(fixed.tobytes(), marks, samples, columns.samples.schema, resets, now_ns)


def _mark(request: Any) -> list[tuple[bool, bool, bool]]:
    """Writes the number of each point into its numbers.

    For each it gives whether the point is of a sum, is an integer, and has a start.
    """
    kinds: list[tuple[bool, bool, bool]] = []
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                field = metric.WhichOneof("data")
                if field not in ("gauge", "sum"):
                    return []
                for point in getattr(metric, field).data_points:
                    number, value = len(kinds), point.WhichOneof("value")
                    if not point.time_unix_nano or value is None or point.exemplars or point.flags:
                        return []
                    point.time_unix_nano = _TIME | number
                    has_start = bool(point.start_time_unix_nano)
                    if has_start:
                        point.start_time_unix_nano = _START | number
                    if value == "as_int":
                        point.as_int = _VALUE | number
                    else:
                        point.as_double = struct.unpack("<d", struct.pack("<Q", _VALUE | number))[0]
                    kinds.append((field == "sum", value == "as_int", has_start))
    return kinds


def _find(marked: np.ndarray[Any, np.dtype[np.uint8]], kinds: list[tuple[bool, bool, bool]]) -> _Marks | None:
    numbers = _numbers(marked)
    upper = numbers >> np.uint64(32)
    count = len(kinds)
    is_sum, is_int, has_start = np.array(kinds).T
    # Rows stand kind by kind, gauges first.
    order = np.argsort(is_sum, kind="stable")
    row_of = np.empty(count, np.int64)
    row_of[order] = np.arange(count)
    found = []
    for mark in (_TIME, _VALUE, _START):
        places = np.flatnonzero(upper == np.uint64(mark >> 32))
        points = (numbers[places] & np.uint64(2**32 - 1)).astype(np.int64)
        if len(np.unique(points)) != len(points) or (len(points) and points.max() >= count):
            # These bytes are elsewhere, too.
            return None
        found.append((places, points))
    (times, of_times), (values, of_values), (starts, of_starts) = found
    if len(times) != count or len(values) != count or len(starts) != sum(has_start):
        return None
    every = np.arange(count)
    if not (np.array_equal(of_times, every) and np.array_equal(of_values, every)):
        return None
    return _Marks(times[order], values[order], is_int[order], starts, row_of[of_starts])
