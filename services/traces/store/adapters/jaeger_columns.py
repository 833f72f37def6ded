"""Spans as columns, written as one OTLP request without a loop over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.traces import otlp_spans
from services.traces.store.adapters.jaeger_spans import TENANT

Indices = np.ndarray[Any, np.dtype[np.int64]]

_REQUEST = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR
_HANDLER = ptars.HandlerPool([_REQUEST.file]).get_for_message(_REQUEST)
_TYPES = {
    "string_value": ("tag_string", "s", pa.string()),
    "int_value": ("tag_int64", "i", pa.int64()),
    "double_value": ("tag_double", "d", pa.float64()),
    "bool_value": ("tag_bool", "b", pa.bool_()),
}
_EVENT = "event"


def writable(table: pa.Table) -> pa.Array:
    """bool[n]: which spans `request` can write. Lists, maps, bytes and nulls it cannot, nor our own mark as a tag."""
    rows = np.arange(table.num_rows)
    wrong = np.zeros(table.num_rows, bool)
    for name, _, _ in _TYPES.values():
        counts, keys, _ = _map(_whole(table, name))
        wrong[np.repeat(rows, counts)[_numpy(pc.equal(keys, otlp_spans.END))]] = True
    counts, _, _ = _map(_whole(table, "tag_encoded"))
    wrong[counts > 0] = True
    for name in ("event_fields", "link_tags"):
        counts, maps = _list(_whole(table, name))
        entries, _, texts = _map(maps)
        owner = np.repeat(np.repeat(rows, counts), entries)
        wrong[owner[_numpy(pc.starts_with(texts, "e"))]] = True
    return pa.array(~wrong)


def request(table: pa.Table) -> bytes:
    """The request that writes spans which are `writable`.

    Args:
        table: Rows of the table of `SpanColumns`, at least one.
    """
    table = table.take(pc.sort_indices(table, [("tenant", "ascending"), ("service", "ascending")])).combine_chunks()
    tenants, services = _whole(table, "tenant"), _whole(table, "service")
    changes = pc.or_(pc.not_equal(tenants[1:], tenants[:-1]), pc.not_equal(services[1:], services[:-1]))
    starts = np.concatenate(([0], np.flatnonzero(_numpy(changes)) + 1))
    groups = len(starts)
    first = pa.array(starts)
    owners = zip(services.take(first).to_pylist(), tenants.take(first).to_pylist(), strict=True)
    values = pa.array([text for pair in owners for text in pair], pa.string())
    keys = pa.array([otlp_spans.SERVICE, TENANT] * groups, pa.string())
    attributes = _lists(np.full(groups, 2), _struct(key=keys, value=_struct(string_value=values)))
    scopes = _struct(spans=_lists(np.diff(np.append(starts, table.num_rows)), _spans(table)))
    resource_spans = _struct(
        resource=_struct(attributes=attributes), scope_spans=_lists(np.ones(groups, np.int64), scopes)
    )
    batch = pa.RecordBatch.from_arrays([_lists(np.array([groups]), resource_spans)], ["resource_spans"])
    return bytes(_HANDLER.record_batch_to_array(batch)[0].as_py())


def _spans(table: pa.Table) -> pa.StructArray:
    start = _whole(table, "start_time").cast(pa.int64())
    duration = _whole(table, "duration_ns")
    instant = pc.equal(duration, 0).fill_null(True)
    mark = pc.if_else(duration.is_null(), otlp_spans.UNFINISHED, otlp_spans.INSTANT)
    return _struct(
        trace_id=_ids(_whole(table, "trace_id")),
        span_id=_ids(_whole(table, "span_id")),
        parent_span_id=_ids(_whole(table, "parent_span_id")),
        name=_whole(table, "operation"),
        kind=_whole(table, "kind").cast(pa.int32()),
        start_time_unix_nano=start.cast(pa.uint64()),
        end_time_unix_nano=pc.add(start, pc.if_else(instant, 1, duration)).cast(pa.uint64()),
        attributes=_tags(table, np.flatnonzero(_numpy(instant)), mark.filter(instant)),
        events=_events(table),
        links=_links(table),
        status=_struct(message=_whole(table, "status_message"), code=_whole(table, "status_code").cast(pa.int32())),
    )


def _tags(table: pa.Table, marked: Indices, marks: pa.Array) -> pa.ListArray:
    items, keys = [marked], [pa.array([otlp_spans.END] * len(marked), pa.string())]
    values: dict[str, list[pa.Array]] = {field: [] for field in _TYPES}
    parts = [("string_value", marks)]
    for field, (name, _, _) in _TYPES.items():
        counts, own, of_type = _map(_whole(table, name))
        items.append(np.repeat(np.arange(table.num_rows), counts))
        keys.append(own)
        parts.append((field, of_type))
    for field, part in parts:
        for other, (_, _, kind) in _TYPES.items():
            values[other].append(part if other == field else pa.nulls(len(part), kind))
    item = np.concatenate(items)
    in_order = pa.array(np.argsort(item, kind="stable"))
    joined = {field: pa.concat_arrays(arrays).take(in_order) for field, arrays in values.items()}
    return _lists(
        np.bincount(item, minlength=table.num_rows),
        _struct(key=pa.concat_arrays(keys).take(in_order), value=_struct(**joined)),
    )


def _events(table: pa.Table) -> pa.ListArray:
    counts, times = _list(_whole(table, "event_time"))
    _, maps = _list(_whole(table, "event_fields"))
    entries, keys, texts = _map(maps)
    item = np.repeat(np.arange(len(maps)), entries)
    is_text = pc.and_(pc.starts_with(texts, "s"), pc.greater(pc.binary_length(texts), 1))
    is_name = _numpy(pc.and_(pc.equal(keys, _EVENT), is_text))
    names = np.full(len(maps), "", object)
    named = pa.array(is_name)
    names[item[is_name]] = pc.utf8_slice_codeunits(texts.filter(named), 1).to_numpy(zero_copy_only=False)
    others = pc.invert(named)
    fields = _lists(np.bincount(item[~is_name], minlength=len(maps)), _typed(keys.filter(others), texts.filter(others)))
    events = _struct(time_unix_nano=times.cast(pa.uint64()), name=pa.array(names, pa.string()), attributes=fields)
    return _lists(counts, events)


def _links(table: pa.Table) -> pa.ListArray:
    counts, trace_ids = _list(_whole(table, "link_trace_id"))
    _, span_ids = _list(_whole(table, "link_span_id"))
    _, maps = _list(_whole(table, "link_tags"))
    entries, keys, texts = _map(maps)
    tags = _lists(entries, _typed(keys, texts))
    return _lists(counts, _struct(trace_id=_ids(trace_ids), span_id=_ids(span_ids), attributes=tags))


def _typed(keys: pa.Array, texts: pa.Array) -> pa.StructArray:
    """Entries whose values are texts with a type, as `typed_text` has them."""
    letters, rest = pc.utf8_slice_codeunits(texts, 0, 1), pc.utf8_slice_codeunits(texts, 1)
    values = {
        field: pc.if_else(pc.equal(letters, letter), rest, None).cast(kind)
        for field, (_, letter, kind) in _TYPES.items()
    }
    return _struct(key=keys, value=_struct(**values))


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list(lists: pa.ListArray) -> tuple[Indices, pa.Array]:
    """How many items each has, and all of them."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return np.diff(offsets), lists.values.slice(offsets[0], offsets[-1] - offsets[0])


def _map(maps: pa.MapArray) -> tuple[Indices, pa.Array, pa.Array]:
    """How many entries each has, and all keys and values."""
    offsets = maps.offsets.to_numpy().astype(np.int64)
    begin, length = offsets[0], offsets[-1] - offsets[0]
    return np.diff(offsets), maps.keys.slice(begin, length), maps.items.slice(begin, length)


def _lists(counts: Indices, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32)), values)


def _struct(**fields: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _ids(digits: pa.Array) -> pa.Array:
    """binary[n], of hex digits."""
    offsets, data = digits.buffers()[1:]
    ends = np.frombuffer(offsets, np.int32)[digits.offset : digits.offset + len(digits) + 1] if len(digits) else [0]
    first, last = int(ends[0]), int(ends[-1])
    raw = bytes.fromhex(data[first:last].to_pybytes().decode("ascii")) if last > first else b""
    places = ((np.asarray(ends) - first) // 2).astype(np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), len(digits), [None, pa.py_buffer(places), pa.py_buffer(raw)])


def _numpy(flags: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(flags.to_numpy(zero_copy_only=False), dtype=bool)
