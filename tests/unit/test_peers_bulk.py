"""Elasticsearch gets what the others get: each OTLP record as one document."""

from __future__ import annotations

import json
from datetime import datetime

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from bench.payloads import ITEMS, payloads
from bench.peers.bulk import bulk_body

BASE_NS = 1_790_000_000_000_000_000


def test_each_record_is_one_document_with_its_text_level_service_and_time() -> None:
    body = payloads("logs", BASE_NS).request(7)
    request = ExportLogsServiceRequest.FromString(body)
    records = [
        (resource.resource.attributes[0].value.string_value, record)
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]

    lines = bulk_body(body).decode().splitlines()

    assert len(records) == ITEMS["logs"]
    assert [json.loads(line) for line in lines[::2]] == [{"create": {}}] * len(records)
    for (service, record), line in zip(records, lines[1::2], strict=True):
        document = json.loads(line)
        seconds, nanos = divmod(record.time_unix_nano, 1_000_000_000)
        assert document["message"] == record.body.string_value
        assert (document["service"], document["level"]) == (service, record.severity_text)
        assert document["resource"]["service.name"] == service
        assert int(datetime.fromisoformat(document["@timestamp"][:19] + "+00:00").timestamp()) == seconds
        assert document["@timestamp"][19:] == f".{nanos:09d}Z"


def test_attributes_keep_their_types() -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="text").value.string_value = "둘"
    record.attributes.add(key="whole").value.int_value = 2
    record.attributes.add(key="part").value.double_value = 2.5
    record.attributes.add(key="yes").value.bool_value = True

    document = json.loads(bulk_body(request.SerializeToString()).splitlines()[1])

    assert document["attributes"] == {"text": "둘", "whole": 2, "part": 2.5, "yes": True}
