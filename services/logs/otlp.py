"""OTLP logs as columns, flattened without a loop over records.

Resource attributes that are texts become labels. The record's own attributes, the scope's and the resource's others
become metadata; on a clash the record wins over its scope, and that over its resource.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs.model import Level, Records
from services.shared.rpc.attribute_merge import first_of_each_key, merged
from services.shared.rpc.attribute_pool import AttributeSets, pooled, single
from services.shared.rpc.attributes import (
    AS_BYTES,
    WITHOUT,
    Attributes,
    Kind,
    children,
    flattened,
    from_any_values,
    from_key_values,
    owners,
    valid,
)
from services.shared.rpc.hex_ids import to_hex
from services.shared.rpc.opaque import variant
from services.shared.rpc.otlp_times import nanoseconds
from services.shared.text_columns import byte_lengths

REQUEST = variant(
    logs_service_pb2.ExportLogsServiceRequest.DESCRIPTOR, AS_BYTES, WITHOUT | {"entity_refs", "schema_url", "flags"}
)
"""What is read of a request."""

Levels = np.ndarray[Any, np.dtype[np.int32]]

_INT32 = range(-(2**31), 2**31)
_TEXT_LEVELS = {
    **dict.fromkeys(("TRACE", "DEBUG", "VERBOSE"), Level.DEBUG),
    **dict.fromkeys(("INFO", "INFORMATION", "NOTICE"), Level.INFO),
    **dict.fromkeys(("WARN", "WARNING"), Level.WARN),
    **dict.fromkeys(("ERR", "ERROR", "SEVERE"), Level.ERROR),
    **dict.fromkeys(("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC"), Level.FATAL),
}
_LEVEL_NAMES = pa.array(list(_TEXT_LEVELS))
# Behind the last, for a text that names no level.
_LEVELS_OF_TEXTS = np.array([*_TEXT_LEVELS.values(), Level.INFO], np.int32)
_UNKNOWN = -1
# Four numbers a level: 1 to 4 is TRACE, which is DEBUG here, 5 to 8 DEBUG, and so on. Number 0 is not given.
_LEVELS_OF_NUMBERS = np.array(
    [_UNKNOWN, 0, *(max((number - 1) // 4, Level.DEBUG) for number in range(1, 25)), _UNKNOWN], np.int32
)
_NAMES = pa.array(["", *(level.name for level in Level)])


def records(resource_logs: pa.StructArray) -> Records:
    """Flattens the `resource_logs` of requests, as ptars gives them."""
    resources = children(resource_logs)
    scope_offsets, scope_logs = flattened(resources["scope_logs"])
    scopes = children(scope_logs)
    record_offsets, flat = flattened(scopes["log_records"])
    resource_of_scope, scope_of_record = owners(scope_offsets), owners(record_offsets)
    resource_of_record = resource_of_scope[scope_of_record]
    field, scope = children(flat), children(scopes["scope"])

    level, level_text = _levels(field["severity_number"].to_numpy(), field["severity_text"])
    own, event, severity, of_scope, scope_name, scope_version, of_resource = pooled(
        from_key_values(field["attributes"]),
        single("event_name", field["event_name"]),
        level_text,
        from_key_values(scope["attributes"]),
        single("otel.scope.name", scope["name"]),
        single("otel.scope.version", scope["version"]),
        from_key_values(children(resources["resource"])["attributes"]),
    )
    resource = first_of_each_key(of_resource)
    is_label = resource.kinds == Kind.STRING
    service = _text(resource, "service.name", pa.repeat("", len(resource_logs)))
    labels = merged((resource.kept(is_label), resource_of_record))
    shared = merged(
        (of_scope, None), (scope_name, None), (scope_version, None), (resource.kept(~is_label), resource_of_scope)
    )
    metadata = merged((own, None), (event, None), (severity, None), (shared, scope_of_record))
    stack_trace = metadata.having("exception.stacktrace", Kind.STRING)
    # A stack trace is long: it is kept once, as the field.
    others = metadata if stack_trace is None else metadata.kept(~stack_trace)
    count = len(flat)
    no_text = pa.repeat("", count)
    return Records(
        pa.table(
            {
                "index": pa.array(np.arange(count, dtype=np.int32)),
                "time": _time(field),
                "level": pa.array(level),
                "message": _message(field, level),
                "service": service.take(pa.array(resource_of_record)),
                "trace_id": to_hex(field["trace_id"], 16),
                "span_id": to_hex(field["span_id"], 8),
                "stack_trace": _text(metadata, "exception.stacktrace", no_text),
                "user_id": _text(metadata, "enduser.id", no_text),
                "request_id": no_text,
                "duration_ms": pa.repeat(0.0, count),
                "status_code": _status_code(metadata),
                "url": _text(metadata, "url.full", no_text),
                "method": _text(metadata, "http.request.method", no_text),
                "labels": labels.map(Kind.STRING),
                "metadata_count": pa.array(others.counts.astype(np.int32)),
                **others.maps("metadata"),
            }
        ),
        "log_records",
    )


def _time(record: dict[str, pa.Array]) -> pa.Array:
    time = nanoseconds(record["time_unix_nano"])
    return pc.coalesce(time, nanoseconds(record["observed_time_unix_nano"])) if time.null_count else time


def _levels(numbers: Levels, texts: pa.Array) -> tuple[Levels, Attributes]:
    """The level of each record, and its text where that says more than the level."""
    encoded = texts.dictionary_encode()
    upper = pc.utf8_upper(encoded.dictionary)
    text_of_record = encoded.indices.to_numpy()
    levels = _LEVELS_OF_NUMBERS[np.clip(numbers, -1, 25) + 1]
    if np.count_nonzero(levels) < len(levels):
        known = pc.index_in(pc.utf8_trim_whitespace(upper), _LEVEL_NAMES).fill_null(len(_LEVEL_NAMES)).to_numpy()
        levels = np.where(levels == 0, _LEVELS_OF_TEXTS[known][text_of_record], levels)
    named = pc.index_in(upper, _NAMES).fill_null(len(_NAMES)).to_numpy()
    further = (byte_lengths(texts) > 0) & (named[text_of_record] != np.maximum(levels, 0))
    return levels, single("severity_text", texts, further)


def _message(record: dict[str, pa.Array], level: Levels) -> pa.Array:
    body = record["body"]
    text = children(body)["string_value"]
    if text.null_count:
        missing = ~valid(text)
        others = from_any_values(body.filter(pa.array(missing)))
        text = pc.replace_with_mask(text, pa.array(missing), others.texts())
    for fallback in ("event_name", "severity_text", None):
        empty = byte_lengths(text) == 0
        if not np.count_nonzero(empty):
            break
        names = record[fallback] if fallback else _NAMES.take(pa.array(np.maximum(level, 0)))
        text = pc.if_else(pa.array(empty), names, text)
    return text


def _text(attributes: AttributeSets, key: str, no_text: pa.Array) -> pa.Array:
    """string[n]: the text that each item has under a key; empty, as `no_text` is, where it has none."""
    mask = attributes.having(key, Kind.STRING)
    if mask is None:
        return no_text
    return attributes.picked(mask, attributes.pool.values[Kind.STRING]).fill_null("")


def _status_code(metadata: AttributeSets) -> pa.Array:
    mask = metadata.having("http.response.status_code", Kind.INT64)
    if mask is None:
        return pa.array(np.zeros(len(metadata.offsets) - 1, np.int32))
    code = metadata.picked(mask, metadata.pool.values[Kind.INT64]).fill_null(0).to_numpy()
    fits = (code >= _INT32.start) & (code < _INT32.stop)
    return pa.array(np.where(fits, code, 0).astype(np.int32))
