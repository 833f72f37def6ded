"""Elasticsearch gets what the others get: each OTLP record as one document."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from bench.load_lane import HttpSender, Outcome
from bench.payloads import ITEMS, payloads
from bench.peers.bulk import bulk_body, bulk_refused
from bench.target import Endpoint

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


@contextmanager
def answering(document: object) -> Iterator[Endpoint]:
    """A server that answers each bulk request with success and a document."""
    body = json.dumps(document).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield Endpoint("http", f"127.0.0.1:{server.server_port}", "/_bulk", refused=bulk_refused)
    finally:
        server.shutdown()
        server.server_close()


def test_documents_that_an_answer_of_success_refuses_are_not_acknowledged() -> None:
    full = {"create": {"error": {"type": "es_rejected_execution_exception"}}}
    for document, outcome in (
        ({"errors": False}, Outcome(0)),
        ({"errors": True, "items": [full, full]}, Outcome(2, "bulk: es_rejected_execution_exception")),
    ):
        with answering(document) as endpoint:
            sender = HttpSender(endpoint)
            assert sender.send(b"{}", 1000) == outcome
            sender.close()
