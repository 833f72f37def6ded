"""OTLP logs as columns, flattened without a loop over records.

Resource attributes that are texts become labels. The record's own attributes, the scope's and the resource's others
become metadata; on a clash the record wins over its scope, and that over its resource.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.logs.model import Level, Records
from services.shared.rpc.attribute_merge import merge, single
from services.shared.rpc.attributes import Attributes, from_key_values
from services.shared.rpc.hex_ids import to_hex
from services.shared.rpc.otlp_times import nanoseconds

_INT32 = range(-(2**31), 2**31)
_TEXT_LEVELS = {
    **dict.fromkeys(("TRACE", "DEBUG", "VERBOSE"), Level.DEBUG),
    **dict.fromkeys(("INFO", "INFORMATION", "NOTICE"), Level.INFO),
    **dict.fromkeys(("WARN", "WARNING"), Level.WARN),
    **dict.fromkeys(("ERR", "ERROR", "SEVERE"), Level.ERROR),
    **dict.fromkeys(("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC"), Level.FATAL),
}
_LEVEL_NAMES = pa.array(list(_TEXT_LEVELS))
_LEVEL_NUMBERS = pa.array([int(level) for level in _TEXT_LEVELS.values()], pa.int32())
_NAMES = pa.array(["", *(level.name for level in Level)])


def records(resource_logs: pa.StructArray) -> Records:
    """Flattens the `resource_logs` of a request, as ptars gives them."""
    scope_lists = pc.struct_field(resource_logs, "scope_logs")
    scope_logs = scope_lists.flatten()
    record_lists = pc.struct_field(scope_logs, "log_records")
    resource_of_scope = pc.list_parent_indices(scope_lists).to_numpy().astype(np.int64)
    scope_of_record = pc.list_parent_indices(record_lists).to_numpy().astype(np.int64)
    resource_of_record = pa.array(resource_of_scope[scope_of_record])
    flat = record_lists.flatten()

    resource = _distinct(from_key_values(pc.struct_field(pc.struct_field(resource_logs, "resource"), "attributes")))
    is_label = resource.string.is_valid()
    labels, others = _chosen(resource, is_label), _chosen(resource, pc.invert(is_label))
    level = _level(flat)
    metadata = merge(
        _own(flat, level),
        merge(_scope(pc.struct_field(scope_logs, "scope")), others, resource_of_scope),
        scope_of_record,
    )
    stack_trace = _pick(metadata, "exception.stacktrace", "string")
    metadata = _chosen(metadata, _is_kept(metadata))
    label_maps = pa.MapArray.from_arrays(pa.array(labels.offsets), labels.keys, labels.string)
    return Records(
        pa.table(
            {
                "index": pa.array(np.arange(len(flat), dtype=np.int32)),
                "time": _time(flat),
                "level": level,
                "message": _message(flat, level),
                "service": _pick(resource, "service.name", "string").take(resource_of_record).fill_null(""),
                "trace_id": to_hex(pc.struct_field(flat, "trace_id"), 16),
                "span_id": to_hex(pc.struct_field(flat, "span_id"), 8),
                "stack_trace": stack_trace.fill_null(""),
                "user_id": _pick(metadata, "enduser.id", "string").fill_null(""),
                "request_id": pa.repeat("", len(flat)),
                "duration_ms": pa.repeat(0.0, len(flat)),
                "status_code": _status_code(metadata),
                "url": _pick(metadata, "url.full", "string").fill_null(""),
                "method": _pick(metadata, "http.request.method", "string").fill_null(""),
                "labels": label_maps.take(resource_of_record),
                "metadata_count": pa.array(metadata.counts),
                **metadata.maps("metadata"),
            }
        ),
        "log_records",
    )


def _time(records: pa.StructArray) -> pa.Array:
    time, observed = (pc.struct_field(records, name) for name in ("time_unix_nano", "observed_time_unix_nano"))
    return pc.coalesce(nanoseconds(time), nanoseconds(observed))


def _level(records: pa.StructArray) -> pa.Array:
    number = pc.struct_field(records, "severity_number")
    text = pc.utf8_upper(pc.utf8_trim_whitespace(pc.struct_field(records, "severity_text")))
    by_text = _LEVEL_NUMBERS.take(pc.index_in(text, _LEVEL_NAMES)).fill_null(int(Level.INFO))
    known = pc.and_(pc.greater(number, 0), pc.less_equal(number, 24))
    # Four numbers a level: 1 to 4 is TRACE, which is DEBUG here, 5 to 8 DEBUG, and so on.
    by_number = pc.max_element_wise(pc.divide(pc.subtract(number, 1), 4), pa.scalar(1, pa.int32()))
    return pc.if_else(pc.equal(number, 0), by_text, pc.if_else(known, by_number, pa.scalar(-1, pa.int32())))


def _message(records: pa.StructArray, level: pa.Array) -> pa.Array:
    body = pc.struct_field(records, "body")
    text = pc.struct_field(body, "string_value")
    if text.null_count:
        count = len(records)
        entries = pa.StructArray.from_arrays([pa.repeat("", count), body], names=["key", "value"])
        each = pa.array(np.arange(count + 1, dtype=np.int32))
        text = from_key_values(pa.ListArray.from_arrays(each, entries)).texts()
    for fallback in (
        pc.struct_field(records, "event_name"),
        pc.struct_field(records, "severity_text"),
        _NAMES.take(pc.max_element_wise(level, pa.scalar(0, pa.int32()))),
    ):
        empty = pc.equal(text, "")
        if not pc.any(empty).as_py():
            break
        text = pc.if_else(empty, fallback, text)
    return text


def _own(records: pa.StructArray, level: pa.Array) -> Attributes:
    own = from_key_values(pc.struct_field(records, "attributes"))
    text = pc.struct_field(records, "severity_text")
    named = _NAMES.take(pc.max_element_wise(level, pa.scalar(0, pa.int32())))
    # Only where the level does not say it already.
    further = pc.if_else(pc.equal(pc.utf8_upper(text), named), "", text)
    for key, texts in (("event_name", pc.struct_field(records, "event_name")), ("severity_text", further)):
        if pc.any(pc.not_equal(texts, "")).as_py():
            own = merge(own, single(key, texts))
    return own


def _scope(scopes: pa.StructArray) -> Attributes:
    attributes = from_key_values(pc.struct_field(scopes, "attributes"))
    for key in ("name", "version"):
        attributes = merge(attributes, single(f"otel.scope.{key}", pc.struct_field(scopes, key)))
    return attributes


def _distinct(attributes: Attributes) -> Attributes:
    return merge(attributes, _chosen(attributes, pa.repeat(False, len(attributes.keys))))


def _chosen(attributes: Attributes, kept: pa.Array) -> Attributes:
    before = np.concatenate(([0], np.cumsum(kept.to_numpy(zero_copy_only=False), dtype=np.int32)))
    arrays = {
        field.name: getattr(attributes, field.name).filter(kept)
        for field in dataclasses.fields(attributes)
        if field.name != "offsets"
    }
    return Attributes(before[attributes.offsets].astype(np.int32), **arrays)


def _is_kept(metadata: Attributes) -> pa.Array:
    # A stack trace is long: it is kept once, as the field.
    is_stack_trace = pc.and_(pc.equal(metadata.keys, "exception.stacktrace"), metadata.string.is_valid())
    return pc.invert(is_stack_trace)


def _pick(attributes: Attributes, key: str, values: str) -> pa.Array:
    """The values of one key and type: [n], null where there is none."""
    entries = np.flatnonzero(pc.equal(attributes.keys, key).to_numpy(zero_copy_only=False))
    place = np.full(len(attributes.counts), -1, np.int64)
    place[np.searchsorted(attributes.offsets, entries, side="right") - 1] = entries
    return getattr(attributes, values).take(pa.array(place, mask=place < 0))


def _status_code(metadata: Attributes) -> pa.Array:
    code = _pick(metadata, "http.response.status_code", "int64")
    fits = pc.and_(pc.greater_equal(code, _INT32.start), pc.less(code, _INT32.stop)).fill_null(False)
    return pc.if_else(fits, code, pa.scalar(0, pa.int64())).cast(pa.int32())
