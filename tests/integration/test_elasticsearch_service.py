"""The logs service as a process on Elasticsearch: stored once, found, followed, also after a restart."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from service_process import ServiceProcess

from deploy.servers import Server

pytestmark = pytest.mark.servers


def test_the_service_keeps_its_logs_in_elasticsearch(elasticsearch: Server, tmp_path: Path) -> None:
    settings = {
        "AIRIS_LOGS__ELASTICSEARCH__INDEX_PREFIX": f"service{time.time_ns()}",
        "AIRIS_LOGS__ELASTICSEARCH__REPLICAS": "0",
        "AIRIS_LOGS__ELASTICSEARCH__SHARDS": "1",
    }
    process = ServiceProcess("logs", tmp_path, **elasticsearch.settings, **settings)
    process.start()
    request = logs_pb2.IngestLogsRequest(request_id="once", wait_for="QUERYABLE")
    for number in range(300):
        entry = request.entries.add(message=f"결제서비스 timeout {number}", service="pay", level=number % 5 + 1)
        entry.timestamp.FromNanoseconds(time.time_ns() - number * 1_000_000)
    try:
        with grpc.insecure_channel(process.grpc) as channel:
            stub = logs_pb2_grpc.LogServiceStub(channel)
            stub.IngestLogs(request, timeout=30)
            stub.IngestLogs(request, timeout=30)
            assert stub.CountLogs(logs_pb2.CountLogsRequest(filter="서비"), timeout=30).total_count == 300
            found: list[str] = []
            token = ""
            while True:
                page = stub.SearchLogs(
                    logs_pb2.SearchLogsRequest(filter="timeout level >= ERROR", page_size=50, page_token=token),
                    timeout=30,
                )
                found += [entry.id for entry in page.entries]
                assert all(each.highlights for each in page.highlights)
                if not (token := page.next_page_token):
                    break
            assert len(found) == len(set(found)) == 120
        process.kill()
        process.start()
        with grpc.insecure_channel(process.grpc) as channel:
            stub = logs_pb2_grpc.LogServiceStub(channel)
            stub.IngestLogs(request, timeout=30)
            request.request_id = "another"
            stub.IngestLogs(request, timeout=30)
            assert stub.CountLogs(logs_pb2.CountLogsRequest(), timeout=30).total_count == 600
            tail = stub.TailLogs(logs_pb2.TailLogsRequest(filter="timeout", backlog=5), timeout=30)
            assert next(iter(tail)).entries
            tail.cancel()
    finally:
        assert process.stop() == 0, process.log()
