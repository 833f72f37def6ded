"""OTLP spans as columns, flattened without a loop over spans.

A span's tags are its own attributes and, where it has no such key itself, those of its scope and its resource, so
that a filter over tags finds what a reader of the trace sees. The resource's `service.name` becomes the service. The
scope's name and version become the tags `otel.scope.name` and `otel.scope.version`, the trace state
`w3c.tracestate`, and an event's name its field `event`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.rpc.attribute_merge import first_of_each_key, merged
from services.shared.rpc.attribute_pool import AttributeSets, pooled, single
from services.shared.rpc.attributes import (
    AS_BYTES,
    NAMES,
    WITHOUT,
    Numbers,
    children,
    flattened,
    from_key_values,
    owners,
)
from services.shared.rpc.expansion import refuse_expansion
from services.shared.rpc.hex_ids import hex_digits
from services.shared.rpc.opaque import variant
from services.shared.rpc.otlp_times import nanoseconds
from services.shared.text_columns import byte_lengths
from services.traces import typed_text
from services.traces.model import SpanKind, Spans

REQUEST = variant(
    trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR,
    AS_BYTES,
    WITHOUT | {"entity_refs", "schema_url", "flags", "dropped_events_count", "dropped_links_count"},
)
"""What is read of a request."""

UNKNOWN_SERVICE = "unknown_service"

_TEXT_MAP = pa.map_(pa.string(), pa.string())
_STATE = "w3c.tracestate"
_NO_PARENT = "0" * 16


def spans(resource_spans: pa.StructArray) -> Spans:
    """Flattens the `resource_spans` of requests, as ptars gives them."""
    resources = children(resource_spans)
    scope_offsets, scope_spans = flattened(resources["scope_spans"])
    scopes = children(scope_spans)
    span_offsets, flat = flattened(scopes["spans"])
    resource_of_scope, scope_of_span = owners(scope_offsets), owners(span_offsets)
    resource_of_span = resource_of_scope[scope_of_span]
    field, scope = children(flat), children(scopes["scope"])

    own, state, of_scope, scope_name, scope_version, of_resource = pooled(
        from_key_values(field["attributes"]),
        single(_STATE, field["trace_state"]),
        from_key_values(scope["attributes"]),
        single("otel.scope.name", scope["name"]),
        single("otel.scope.version", scope["version"]),
        from_key_values(children(resources["resource"])["attributes"]),
    )
    services, resource = _services(first_of_each_key(of_resource))
    refuse_expansion(resource_of_span, [services])
    shared = merged((of_scope, None), (scope_name, None), (scope_version, None), (resource, resource_of_scope))
    tags = merged((own, None), (state, None), (shared, scope_of_span))
    status = children(field["status"])
    columns = {
        "index": pa.array(np.arange(len(flat), dtype=np.int32)),
        "trace_id": hex_digits(field["trace_id"]),
        "span_id": hex_digits(field["span_id"]),
        "parent_span_id": _parents(hex_digits(field["parent_span_id"])),
        "operation": field["name"],
        "service": services.take(pa.array(resource_of_span)),
        "kind": known_kind(field["kind"]),
        "status_code": status["code"].fill_null(0),
        "status_message": status["message"].fill_null(""),
        "start": nanoseconds(field["start_time_unix_nano"]),
        "end": nanoseconds(field["end_time_unix_nano"]),
        "tag_count": pa.array(own.counts.astype(np.int32)),
        **tags.maps("tag"),
        **_events(field["events"]),
        **_links(field["links"]),
    }
    return Spans(pa.table(columns), "spans")


def _services(resource: AttributeSets) -> tuple[pa.Array, AttributeSets]:
    """The service of each resource, and its other attributes."""
    mask = resource.having("service.name")
    if mask is None:
        return pa.repeat(UNKNOWN_SERVICE, len(resource.offsets) - 1), resource
    named = resource.kept(mask)
    texts = named.written_out().texts()
    at = np.where(named.counts > 0, named.offsets[:-1], -1)
    known = at >= 0
    known[known] = byte_lengths(texts)[at[known]] > 0
    services = texts.take(pa.array(at, mask=~known)).fill_null(UNKNOWN_SERVICE)
    return services, resource.kept(~mask)


def _parents(digits: pa.Array) -> pa.Array:
    # Some senders write the absent parent of a first span as zeros.
    absent = pc.equal(digits, _NO_PARENT)
    return pc.if_else(absent, "", digits) if absent.true_count else digits


def _events(lists: pa.ListArray) -> dict[str, pa.Array]:
    offsets, flat = flattened(lists)
    if len(flat) == 0:
        return {"event_time": _no_items(offsets, pa.int64()), "event_fields": _no_items(offsets, _TEXT_MAP)}
    field = children(flat)
    name, own = pooled(single("event", field["name"]), from_key_values(field["attributes"]))
    return {
        "event_time": nested(offsets, nanoseconds(field["time_unix_nano"]).fill_null(0)),
        "event_fields": nested(offsets, texts(merged((name, None), (own, None)))),
    }


def _links(lists: pa.ListArray) -> dict[str, pa.Array]:
    offsets, flat = flattened(lists)
    if len(flat) == 0:
        ids = _no_items(offsets, pa.string())
        return {"link_trace_id": ids, "link_span_id": ids, "link_tags": _no_items(offsets, _TEXT_MAP)}
    field = children(flat)
    own, state = pooled(from_key_values(field["attributes"]), single(_STATE, field["trace_state"]))
    return {
        "link_trace_id": nested(offsets, hex_digits(field["trace_id"])),
        "link_span_id": nested(offsets, hex_digits(field["span_id"])),
        "link_tags": nested(offsets, texts(merged((own, None), (state, None)))),
    }


def texts(fields: AttributeSets) -> pa.MapArray:
    """map<string, string>[n], the values as `typed_text` has them."""
    written = fields.written_out()
    values = {NAMES[kind]: values for kind, values in written.values.items()}
    offsets = pa.array(written.offsets.astype(np.int32))
    return pa.MapArray.from_arrays(offsets, written.keys, typed_text.encode(values, len(written.keys)))


def _no_items(offsets: Numbers, of_type: pa.DataType) -> pa.ListArray:
    return nested(offsets, pa.array([], of_type))


def nested(offsets: Numbers, values: pa.Array) -> pa.ListArray:
    """Puts values, one for each flattened item of lists, into lists that begin there."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def known_kind(kinds: pa.Array) -> pa.Array:
    """INTERNAL where the kind is not said."""
    numbers = kinds.to_numpy()
    return pa.array(np.where(numbers == 0, np.int32(SpanKind.INTERNAL), numbers))
