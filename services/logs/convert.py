"""Wire to columns, and protobuf to model and back. Nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from airis.logs.v1 import logs_pb2
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs import otlp
from services.logs.model import (
    PLAIN_COLUMNS,
    Anomaly,
    CountQuery,
    Counts,
    Cursor,
    LogEntry,
    Pattern,
    Records,
    SearchQuery,
    Selection,
    Span,
)
from services.shared.bus.ingest import Requests
from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.rpc import attributes, times
from services.shared.rpc.attribute_merge import last_of_each_key
from services.shared.rpc.attribute_pool import pooled
from services.shared.rpc.attributes import Kind
from services.shared.rpc.ingest_wire import Dialect, IngestWire

# What may be sent, as `read` names it.
UNARY = logs_pb2.IngestLogsRequest.DESCRIPTOR.full_name
STREAM = logs_pb2.StreamLogsRequest.DESCRIPTOR.full_name
OTLP = logs_service_pb2.ExportLogsServiceRequest.DESCRIPTOR.full_name

_NEWEST_FIRST = {"": True, "timestamp desc": True, "timestamp asc": False, "timestamp": False}
# gRPC clients take messages of 4 MiB unless told otherwise.
_MAX_RESPONSE_BYTES = 3 * 1024 * 1024


def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Records]:
    """Turns the bytes of ingest requests of one type into entries. See `IngestWire.read`."""
    return _WIRE.read(message_type, payloads)


def _airis_records(entries: pa.StructArray) -> Records:
    field = attributes.children(entries)
    # Of a key that is twice in a map on the wire the last counts, as in any protobuf map.
    labels, metadata = (
        last_of_each_key(pooled(read(field[name]))[0])
        for name, read in (("labels", attributes.from_text_map), ("metadata", attributes.from_value_map))
    )
    return Records(
        pa.table(
            {
                "index": pa.array(np.arange(len(entries), dtype=np.int32)),
                "time": field["timestamp"].cast(pa.int64()),
                "level": field["level"],
                **{name: field[name] for name in PLAIN_COLUMNS},
                "labels": labels.map(Kind.STRING),
                "metadata_count": pa.array(metadata.counts.astype(np.int32)),
                **metadata.maps("metadata"),
            }
        ),
        "entries",
    )


_WIRE = IngestWire(
    Dialect(logs_pb2.IngestLogsRequest, "entries", _airis_records),
    Dialect(logs_pb2.StreamLogsRequest, "entries", _airis_records),
    Dialect(
        logs_service_pb2.ExportLogsServiceRequest,
        "resource_logs",
        otlp.records,
        (("scope_logs",), ("log_records",)),
        otlp.REQUEST,
    ),
)


def selection(request: Any, tenant: str, now_ns: int) -> Selection:
    """Reads `filter`, `start_time` and `end_time`. Raises `InvalidArgumentError` for an empty range."""
    start, end = times.time_range(
        request.start_time if request.HasField("start_time") else None,
        request.end_time if request.HasField("end_time") else None,
        now_ns,
    )
    return Selection(tenant, request.filter, start, end)


def search_query(
    request: logs_pb2.SearchLogsRequest, chosen: Selection, limit: int, after: Cursor | None
) -> SearchQuery:
    """Reads a search. Raises `InvalidArgumentError` for an unknown order."""
    order = " ".join(request.order_by.split()).lower()
    if order not in _NEWEST_FIRST:
        description = 'must be "timestamp desc" or "timestamp asc"'
        raise InvalidArgumentError(f"order_by {description}.", violations=(FieldViolation("order_by", description),))
    return SearchQuery(chosen, _NEWEST_FIRST[order], limit, after)


def count_query(request: logs_pb2.CountLogsRequest, tenant: str, now_ns: int) -> CountQuery:
    """Reads a count."""
    return CountQuery(
        selection(request, tenant, now_ns), times.duration_ns(request.step), tuple(dict.fromkeys(request.group_by))
    )


def log_entry(entry: LogEntry) -> logs_pb2.LogEntry:
    """A stored entry."""
    message = logs_pb2.LogEntry(
        id=f"{entry.ingest_position:016x}",
        timestamp=times.to_timestamp(entry.timestamp),
        level=entry.level.name,
        labels=entry.labels,
        **{name: getattr(entry, name) for name in PLAIN_COLUMNS},
    )
    for key, value in entry.metadata.items():
        target = message.metadata[key]
        if isinstance(value, bool):
            target.bool_value = value
        elif isinstance(value, str):
            target.string_value = value
        elif isinstance(value, float) and not math.isfinite(value):
            # JSON has no such numbers: they leave as protobuf's JSON words them.
            target.string_value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        else:
            plain = attributes.plain_integer(value) if isinstance(value, int) else value
            if isinstance(plain, str):
                target.string_value = plain
            else:
                target.number_value = plain
    for key, encoded in entry.metadata_encoded.items():
        plain_json: Any = attributes.plain_value(encoded)
        json_format.ParseDict(plain_json, message.metadata[key])
    return message


@dataclass(slots=True)
class Chunk:
    """Entries of one response, small enough for any client; a larger entry stands alone.

    Attributes:
        entries: The entries.
        messages: The same for the wire.
        size: Their bytes on the wire.
    """

    entries: list[LogEntry] = field(default_factory=list)
    messages: list[logs_pb2.LogEntry] = field(default_factory=list)
    size: int = 0

    def take(self, entries: Sequence[LogEntry]) -> int:
        """Takes entries as long as they fit. Returns how many it has taken."""
        for taken, entry in enumerate(entries):
            message = log_entry(entry)
            size = message.ByteSize()
            if self.messages and self.size + size > _MAX_RESPONSE_BYTES:
                return taken
            self.entries.append(entry)
            self.messages.append(message)
            self.size += size
        return len(entries)

    def room(self, size: float) -> int:
        """How many more entries of a size, in bytes, fit."""
        return int((_MAX_RESPONSE_BYTES - self.size) / size)


def fitting(entries: Sequence[LogEntry]) -> Iterator[list[logs_pb2.LogEntry]]:
    """Entries in as many lists as keep each response small enough for any client; a larger entry stands alone."""
    begin = 0
    while begin < len(entries):
        chunk = Chunk()
        begin += chunk.take(entries[begin:])
        yield chunk.messages


def highlights(spans: Sequence[Span]) -> logs_pb2.Highlights:
    """What the filter's words matched in one message."""
    return logs_pb2.Highlights(
        highlights=[logs_pb2.Highlight(field="message", start=start, end=end) for start, end in spans]
    )


def count_response(counts: Counts) -> logs_pb2.CountLogsResponse:
    """The answer to a count."""
    return logs_pb2.CountLogsResponse(
        groups=[
            logs_pb2.CountLogsResponse.Group(
                fields=group.fields,
                count=group.count,
                buckets=[
                    logs_pb2.CountLogsResponse.Bucket(timestamp=times.to_timestamp(at), count=count)
                    for at, count in group.buckets
                ],
            )
            for group in counts.groups
        ],
        total_count=counts.total,
        step=times.to_duration(counts.step),
    )


def log_pattern(pattern: Pattern) -> logs_pb2.LogPattern:
    """A template."""
    return logs_pb2.LogPattern(
        template=pattern.template,
        count=pattern.count,
        example=pattern.example,
        max_level=pattern.max_level.name,
        services=pattern.services,
    )


def log_anomaly(anomaly: Anomaly) -> logs_pb2.LogAnomaly:
    """An unusual step."""
    return logs_pb2.LogAnomaly(
        timestamp=times.to_timestamp(anomaly.timestamp),
        service=anomaly.service,
        level=anomaly.level.name,
        count=anomaly.count,
        expected_count=anomaly.expected_count,
        score=anomaly.score,
    )
