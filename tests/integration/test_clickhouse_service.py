"""The metrics service on a ClickHouse server: the answers of the one in-process, and nothing lost when it is killed."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from airis.common.v1 import aggregation_pb2
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from clickhouse_world import opened, own_database
from google.protobuf import json_format
from service_process import ServiceProcess

from deploy.servers import Server, make_server

pytestmark = pytest.mark.servers

Stub = metrics_pb2_grpc.MetricsServiceStub
Aggregation = aggregation_pb2.Aggregation
QUERYABLE = 2
SECOND = 1_000_000_000
POINTS = 40
BEGIN = time.time_ns() // (3600 * SECOND) * 3600 * SECOND - 2 * 3600 * SECOND


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = make_server("clickhouse", tmp_path / "clickhouse")
    server.start()
    yield server
    server.stop()


def test_the_same_questions_have_the_same_answers_in_process_and_on_a_server(
    clickhouse_server: Server, tmp_path: Path
) -> None:
    dsn = own_database(clickhouse_server.url)
    answers = [
        answers_of(ServiceProcess("metrics", tmp_path / "embedded")),
        answers_of(ServiceProcess("metrics", tmp_path / "server", AIRIS_METRICS__STORE_DSN=dsn)),
    ]
    assert answers[0] == answers[1]
    assert all(text.count('"value"') > 20 for text in answers[0])


def answers_of(service: ServiceProcess) -> list[str]:
    """What the service says, as JSON, after it got the same points as others."""
    service.start()
    try:
        with grpc.insecure_channel(service.grpc) as channel:
            stub = Stub(channel)
            for part in range(4):
                stub.IngestMetrics(history(part), timeout=30)
            return [json_format.MessageToJson(stub.QueryMetrics(each, timeout=30)) for each in questions()]
    finally:
        service.stop()


def history(part: int) -> metrics_pb2.IngestMetricsRequest:
    request = metrics_pb2.IngestMetricsRequest(request_id=f"part-{part}", wait_for=QUERYABLE)
    for number in range(part * 500, part * 500 + 500):
        for host in ("a", "b"):
            metric = request.metrics.add(name="cpu", value=(number * 37 + ord(host)) % 101 / 7, labels={"host": host})
            metric.timestamp.FromNanoseconds(BEGIN + number * 3 * SECOND)
    return request


def questions() -> Iterator[metrics_pb2.QueryMetricsRequest]:
    for aggregation, group_by, seconds in (
        (Aggregation.AVG, ["host"], 60),
        (Aggregation.MAX, [], 45),
        (Aggregation.RATE, ["host"], 120),
    ):
        query = metrics_pb2.QueryMetricsRequest(metric="cpu", aggregation=aggregation, group_by=group_by)
        query.start_time.FromNanoseconds(BEGIN + 17 * SECOND)
        query.end_time.FromNanoseconds(BEGIN + 5000 * SECOND)
        query.step.seconds = seconds
        yield query


async def test_what_was_acknowledged_while_the_server_was_killed_is_there_once(
    own_server: Server, tmp_path: Path
) -> None:
    dsn = f"{own_server.url}/airis_service"
    service = ServiceProcess("metrics", tmp_path / "service", AIRIS_METRICS__STORE_DSN=dsn)
    service.start()
    with grpc.insecure_channel(service.grpc) as channel:
        load = Load(Stub(channel))
        try:
            load.after(5)
            for _ in range(2):
                own_server.kill()
                assert until(lambda: ready(service)[0] == 503), "it said to be ready"
                assert "store" in ready(service)[1]
                # The journal takes what the store cannot.
                load.after(5)
                own_server.start()
                load.after(5)
                assert until(lambda: ready(service)[0] == 200), service.log()
        finally:
            sent = load.stop()
        load.send(sent, wait_for=QUERYABLE)
    assert service.stop() == 0, service.log()
    async with opened(dsn) as clickhouse:
        for table, figure in (("samples", "count()"), ("samples_1m", "sum(count)"), ("samples_1h", "sum(count)")):
            (row,) = await clickhouse.rows(f"SELECT {figure} AS n FROM airis.{table}", timeout=30)
            assert row["n"] == (sent + 1) * POINTS, table


class Load:
    """Sends batches one after another, each until it is acknowledged."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._acknowledged = 0
        self._progress = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def send(self, number: int, wait_for: int = 0) -> None:
        request = metrics_pb2.IngestMetricsRequest(request_id=f"batch-{number}", wait_for=wait_for)
        now = time.time_ns()
        for point in range(POINTS):
            request.metrics.add(name="load", value=point).timestamp.FromNanoseconds(now + point * 1_000_000)
        while True:
            try:
                answer = self._stub.IngestMetrics(request, timeout=30)
                assert answer.accepted_count == POINTS
                return
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise

    def after(self, batches: int) -> None:
        """Returns when so many more are acknowledged."""
        with self._progress:
            wanted = self._acknowledged + batches
            assert self._progress.wait_for(lambda: self._acknowledged >= wanted, timeout=30)

    def stop(self) -> int:
        """Ends it; gives how many were acknowledged."""
        self._ended.set()
        self._thread.join()
        return self._acknowledged

    def _run(self) -> None:
        while not self._ended.is_set():
            self.send(self._acknowledged)
            with self._progress:
                self._acknowledged += 1
                self._progress.notify_all()


def ready(service: ServiceProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{service.http}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.1)
    return False
