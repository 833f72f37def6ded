"""OTLP spans as columns, flattened without a loop over spans.

A span's tags are its own attributes and, where it has no such key itself, those of its scope and its resource, so
that a filter over tags finds what a reader of the trace sees. The resource's `service.name` becomes the service. The
scope's name and version become the tags `otel.scope.name` and `otel.scope.version`, the trace state
`w3c.tracestate`, and an event's name its field `event`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.rpc import attributes
from services.shared.rpc.attribute_merge import merge, single, without
from services.shared.rpc.attributes import Attributes, children
from services.shared.rpc.hex_ids import hex_digits
from services.shared.rpc.otlp_times import nanoseconds
from services.traces import typed_text
from services.traces.model import SpanKind, Spans

UNKNOWN_SERVICE = "unknown_service"

_STATE = "w3c.tracestate"


def spans(resource_spans: pa.StructArray) -> Spans:
    """Flattens the `resource_spans` of a request, as ptars gives them."""
    scope_lists = pc.struct_field(resource_spans, "scope_spans")
    scopes = scope_lists.flatten()
    resource_of_scope = pc.list_parent_indices(scope_lists).to_numpy()
    span_lists = pc.struct_field(scopes, "spans")
    scope_of_span = pc.list_parent_indices(span_lists).to_numpy()
    flat = span_lists.flatten()
    services, shared = _inherited(resource_spans, scopes, resource_of_scope)
    field = children(flat)
    own = attributes.from_key_values(field["attributes"])
    tags = merge(_with(own, _STATE, field["trace_state"]), shared, scope_of_span)
    status = children(field["status"])
    parent = hex_digits(field["parent_span_id"])
    columns = {
        "index": pa.array(np.arange(len(flat), dtype=np.int32)),
        "trace_id": hex_digits(field["trace_id"]),
        "span_id": hex_digits(field["span_id"]),
        # Some senders write the absent parent of a first span as zeros.
        "parent_span_id": pc.if_else(pc.equal(parent, "0" * 16), "", parent),
        "operation": field["name"],
        "service": services.take(pa.array(resource_of_scope[scope_of_span])),
        "kind": known_kind(field["kind"]),
        "status_code": status["code"].fill_null(0),
        "status_message": status["message"].fill_null(""),
        "start": nanoseconds(field["start_time_unix_nano"]),
        "end": nanoseconds(field["end_time_unix_nano"]),
        "tag_count": pa.array(own.counts),
        **tags.maps("tag"),
        **_events(field["events"]),
        **_links(field["links"]),
    }
    return Spans(pa.table(columns), "spans")


def _inherited(
    resources: pa.StructArray, scopes: pa.StructArray, resource_of_scope: np.ndarray[Any, np.dtype[Any]]
) -> tuple[pa.Array, Attributes]:
    """The service of each resource, and what the spans of each scope inherit."""
    resource = pc.struct_field(resources, "resource")
    of_resources, services = without(
        attributes.from_key_values(pc.struct_field(resource, "attributes")), "service.name"
    )
    scope = pc.struct_field(scopes, "scope")
    of_scopes = attributes.from_key_values(pc.struct_field(scope, "attributes"))
    for key in ("name", "version"):
        of_scopes = _with(of_scopes, f"otel.scope.{key}", pc.struct_field(scope, key))
    known = pc.if_else(pc.equal(services, ""), None, services).fill_null(UNKNOWN_SERVICE)
    return known, merge(of_scopes, of_resources, resource_of_scope)


def _events(lists: pa.ListArray) -> dict[str, pa.Array]:
    field = children(lists.flatten())
    fields = merge(single("event", field["name"]), attributes.from_key_values(field["attributes"]))
    return {
        "event_time": nested(lists, nanoseconds(field["time_unix_nano"]).fill_null(0)),
        "event_fields": nested(lists, texts(fields)),
    }


def _links(lists: pa.ListArray) -> dict[str, pa.Array]:
    field = children(lists.flatten())
    tags = _with(attributes.from_key_values(field["attributes"]), _STATE, field["trace_state"])
    return {
        "link_trace_id": nested(lists, hex_digits(field["trace_id"])),
        "link_span_id": nested(lists, hex_digits(field["span_id"])),
        "link_tags": nested(lists, texts(tags)),
    }


def _with(own: Attributes, key: str, values: pa.Array) -> Attributes:
    """Adds an entry where a text is not empty."""
    return merge(own, single(key, values)) if pc.any(pc.not_equal(values, "")).as_py() else own


def texts(fields: Attributes) -> pa.MapArray:
    """map<string, string>[n], the values as `typed_text` has them."""
    if len(fields.keys) == 0:
        return pa.MapArray.from_arrays(pa.array(fields.offsets), fields.keys, fields.string)
    values = typed_text.encode(fields.string, fields.int64, fields.double, fields.boolean, fields.encoded)
    return pa.MapArray.from_arrays(pa.array(fields.offsets), fields.keys, values)


def nested(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """Puts values, one for each flattened item of lists, into lists of the same lengths."""
    counts = pc.list_value_length(lists).fill_null(0).to_numpy()
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32)), values)


def known_kind(kinds: pa.Array) -> pa.Array:
    """INTERNAL where the kind is not said."""
    return pc.if_else(pc.equal(kinds, 0), pa.scalar(int(SpanKind.INTERNAL), pa.int32()), kinds)
