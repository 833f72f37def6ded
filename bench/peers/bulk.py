"""Requests of logs in Elasticsearch's bulk format, and its answers."""

from __future__ import annotations

import json
import time
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_ACTION = b'{"create":{}}\n'
_TO_THE_SECOND = "%Y-%m-%dT%H:%M:%S"


def bulk_body(request: bytes) -> bytes:
    """The lines of an OTLP request of `bench.payloads` as documents, one for each record.

    Args:
        request: A serialised `ExportLogsServiceRequest`.
    """
    lines: list[bytes] = []
    for resource in ExportLogsServiceRequest.FromString(request).resource_logs:
        of_resource = _attributes(resource.resource.attributes)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                seconds, nanos = divmod(record.time_unix_nano, 1_000_000_000)
                document = {
                    # date_nanos reads milliseconds as a number, and a finer time only as text.
                    "@timestamp": f"{time.strftime(_TO_THE_SECOND, time.gmtime(seconds))}.{nanos:09d}Z",
                    "level": record.severity_text,
                    "service": of_resource.get("service.name", ""),
                    "message": record.body.string_value,
                    "resource": of_resource,
                    "attributes": _attributes(record.attributes),
                }
                lines.append(_ACTION + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    return b"\n".join(lines) + b"\n"


def bulk_refused(answer: bytes) -> tuple[int, str]:
    """How many documents an answer refuses, and why; it has the errors of its items, and nothing else of them."""
    found = json.loads(answer)
    if not found["errors"]:
        return 0, ""
    kinds = [done["error"]["type"] for item in found["items"] for done in item.values()]
    return len(kinds), f"bulk: {', '.join(sorted(set(kinds)))}"


def _attributes(pairs: Any) -> dict[str, str | int | float | bool]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> str | int | float | bool:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value") or "string_value"
    plain: str | int | float | bool = getattr(value, kind)
    return plain
