"""Deterministic data for the query benchmark, as the workers hand it to their stores: the same columns, in inserts.

Points: 20 metrics of 500 series each (50 hosts of 10 workers), one point a series every ten seconds; every second
metric is a counter. Lines: 20 services, 200 bytes, one in ten Korean; `needle<n>` stands in about twenty lines.
Spans: trees of 16 over eight services. Each series of time ends at `end`; more items reach further back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from services.logs.model import ENTRY_SCHEMA, LogColumns
from services.metrics.model import MetricColumns, SeriesRow
from services.metrics.series import series_id
from services.traces.model import SpanColumns

TENANT = "default"
METRICS, HOSTS, WORKERS = 20, 50, 10
INTERVAL_MS = 10_000
LOG_SERVICES, LINES_A_SECOND = 20, 280
TRACE_SERVICES = ("frontend", "catalog", "cart", "payment", "shipping", "stock", "mail", "users")
SPANS_A_TRACE, TRACES_A_SECOND = 16, 18
KOREAN = ("배송", "결제", "주문", "재고", "환불", "고객", "지연", "취소", "승인", "오류", "접수", "확인")
_WORDS = ("request", "handled", "cache", "connection", "timeout", "retry", "upstream", "queue", "worker", "payload")
_INSERT = 100_000
_TEXT_MAP = pa.map_(pa.string(), pa.string())


def metric_name(number: int) -> str:
    """A metric's name; odd numbers are counters."""
    return f"bench.metric.{number:02d}"


def needle(number: int) -> str:
    """A word that stands in every line whose number leaves `number` when divided by 50,000."""
    return f"needle{number:05d}"


def trace_id(number: int) -> str:
    """The id of a trace by its number."""
    return f"{(number * 0x9E3779B97F4A7C15 + 1) % 2**64:016x}{number:016x}"


def points(count: int, end_ms: int) -> Iterator[MetricColumns]:
    """About `count` points, whole rounds of all series."""
    rows = [
        SeriesRow(TENANT, metric_name(metric), 0, kind, "1", {"host": f"host-{h:02d}", "worker": f"{w}"}, "")
        for metric in range(METRICS)
        for kind in ("COUNTER" if metric % 2 else "GAUGE",)
        for h in range(HOSTS)
        for w in range(WORKERS)
    ]
    rows = [
        SeriesRow(
            r.tenant, r.metric, series_id(r.tenant, r.metric, r.kind, r.unit, r.labels), r.kind, r.unit, r.labels, ""
        )
        for r in rows
    ]
    ids = np.array([row.series_id for row in rows], np.uint64)
    numbers = np.arange(len(rows))
    is_counter = numbers // (HOSTS * WORKERS) % 2 == 1
    names = pa.DictionaryArray.from_arrays(
        pa.array(numbers // (HOSTS * WORKERS), pa.int32()), pa.array([metric_name(m) for m in range(METRICS)])
    ).cast(pa.string())
    rounds, at_once = count // len(rows), _INSERT // len(rows)
    for first in range(0, rounds, at_once):
        ticks = np.arange(first, min(first + at_once, rounds))
        times = np.repeat(end_ms - (rounds - ticks) * INTERVAL_MS, len(rows))
        gauge = (numbers * 7919 + ticks[:, None] * 104729) % 1000 / 10
        value = np.where(is_counter, ticks[:, None] * (1.0 + numbers % 7), gauge).ravel()
        started = np.where(np.tile(is_counter, len(ticks)), end_ms - rounds * INTERVAL_MS, 0)
        samples = pa.table(
            {
                "tenant": pa.repeat(TENANT, len(value)),
                "metric": pa.chunked_array([names] * len(ticks)).combine_chunks(),
                "series_id": pa.array(np.tile(ids, len(ticks))),
                "timestamp": pa.array(times).cast(pa.timestamp("ms", tz="UTC")),
                "start_time": pa.array(started).cast(pa.timestamp("ms", tz="UTC")),
                "value": pa.array(value),
            }
        )
        yield MetricColumns(samples, pa.table({}), rows if first == 0 else [])


def lines(count: int, end_ns: int) -> Iterator[LogColumns]:
    """`count` log entries."""
    for first in range(0, count, _INSERT):
        numbers = range(first, min(first + _INSERT, count))
        at = np.arange(numbers.start, numbers.stop)
        size = len(numbers)
        times = end_ns - (count - at) * (1_000_000_000 // LINES_A_SECOND)
        level = np.select([at % 100 < 3, at % 100 < 10, at % 100 < 30], [4, 3, 1], 2).astype(np.uint8)
        columns: dict[str, Any] = {
            "tenant": pa.repeat(TENANT, size),
            "timestamp": pa.array(times).cast(pa.timestamp("ns", tz="UTC")),
            "level": pa.array(level),
            "message": pa.array([_message(n) for n in numbers]),
            "service": pa.array([f"service-{n * 7 % 1009 % LOG_SERVICES:02d}" for n in numbers]),
            "trace_id": pa.array([trace_id(n // 8) for n in numbers]),
            "span_id": pa.array([f"{n + 1:016x}" for n in numbers]),
            "labels": pa.array([[("host", f"host-{n % 50:02d}")] for n in numbers], _TEXT_MAP),
            "index": pa.array(np.arange(size), pa.int32()),
        }
        entries = pa.table(
            [
                columns[field.name].cast(field.type) if field.name in columns else _empty(field.type, size)
                for field in ENTRY_SCHEMA
            ],
            ENTRY_SCHEMA,
        )
        yield LogColumns(entries)


def _message(n: int) -> str:
    h = n * 2654435761 % 2**32
    if n % 10 == 3:
        a, b, c = KOREAN[h % 12], KOREAN[h // 12 % 12], KOREAN[h // 144 % 12]
        return (
            f"{a} 요청을 처리했습니다: 번호 {n:09d}, {b}가 {c}되었습니다 {needle(n % 50_000)} {h:08x} "
            "상태 정상, 다음 단계로 넘어갑니다. 담당자에게 알렸습니다"
        )
    words = " ".join(_WORDS[h // 7**k % 10] for k in range(11))
    return (
        f"{words} id={n:09d} took {h % 977} ms at /api/v1/items/{h % 5000} {needle(n % 50_000)} {h:08x} "
        f"node {h % 64} attempt {h % 3} of 3 region ap-northeast-{h % 4}"
    )


def _empty(kind: pa.DataType, size: int) -> pa.Array:
    if pa.types.is_map(kind):
        return pa.MapArray.from_arrays(
            pa.array(np.zeros(size + 1, np.int32)), pa.array([], kind.key_type), pa.array([], kind.item_type)
        )
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(pa.array(np.zeros(size + 1, np.int32)), pa.array([], kind.value_type))
    return pa.repeat("" if pa.types.is_string(kind) else pa.scalar(0, kind), size)


def spans(count: int, end_ns: int) -> Iterator[SpanColumns]:
    """About `count` spans, whole traces. Span k of a trace is called by span (k - 1) // 2."""
    traces = count // SPANS_A_TRACE
    for first in range(0, traces, _INSERT // SPANS_A_TRACE):
        ids = np.arange(first, min(first + _INSERT // SPANS_A_TRACE, traces))
        trace = np.repeat(ids, SPANS_A_TRACE)
        place = np.tile(np.arange(SPANS_A_TRACE), len(ids))
        size = len(trace)
        service = (place + np.where(place > 7, trace, 0)) % len(TRACE_SERVICES)
        started = end_ns - (traces - trace) * (1_000_000_000 // TRACES_A_SECOND) + place * 1_000_000
        h = (trace * 31 + place * 17) * 2654435761 % 2**32
        # One in about five hundred is slow.
        duration = np.where(h % 499 == 0, 600, 1) * (1_000_000 + h % 400_000)
        texts = np.array(TRACE_SERVICES)
        prefix = [trace_id(int(n)) for n in ids]
        table = pa.table(
            {
                "tenant": pa.repeat(TENANT, size),
                "service": pa.array(texts[service]),
                "operation": pa.array([f"/shop/{texts[s]}/{k % 5}" for s, k in zip(service, place, strict=True)]),
                "kind": pa.array(np.where(place == 0, 2, np.where(place % 2, 2, 3)), pa.int8()),
                "start_time": pa.array(started).cast(pa.timestamp("ns", tz="UTC")),
                "duration_ns": pa.array(duration),
                "trace_id": pa.array([text for text in prefix for _ in range(SPANS_A_TRACE)]),
                "span_id": pa.array([f"{t * 16 + k + 1:016x}" for t, k in zip(trace, place, strict=True)]),
                "parent_span_id": pa.array(
                    ["" if k == 0 else f"{t * 16 + (k - 1) // 2 + 1:016x}" for t, k in zip(trace, place, strict=True)]
                ),
                "status_code": pa.array(np.where(h % 97 == 0, 2, 0), pa.int8()),
                "status_message": pa.repeat("", size),
                "tag_string": pa.array(
                    [[("http.route", f"/items/{v % 20}"), ("host.name", f"host-{v % 50:02d}")] for v in h], _TEXT_MAP
                ),
                "tag_int64": pa.array([[("http.status_code", 200)]] * size, pa.map_(pa.string(), pa.int64())),
                "tag_double": _empty(pa.map_(pa.string(), pa.float64()), size),
                "tag_bool": _empty(pa.map_(pa.string(), pa.bool_()), size),
                "tag_encoded": _empty(_TEXT_MAP, size),
                "event_time": _empty(pa.list_(pa.int64()), size),
                "event_fields": _empty(pa.list_(_TEXT_MAP), size),
                "link_trace_id": _empty(pa.list_(pa.string()), size),
                "link_span_id": _empty(pa.list_(pa.string()), size),
                "link_tags": _empty(pa.list_(_TEXT_MAP), size),
            }
        )
        yield SpanColumns(table)
