"""The traces service with its spans in a real Jaeger: what it keeps, its limits, and both of them killed."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.common.v1 import ingest_pb2
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from jaeger_world import durable_jaeger, eventually, open_store
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from service_process import ServiceProcess
from trace_world import CONFIG, TIMEOUT, columns_of, store_spans

from deploy.servers import Server
from services.shared.bus.port import Header
from services.shared.errors import ResourceExhaustedError
from services.traces import convert, otlp_spans
from services.traces.ingest import Checker
from services.traces.model import Event, Link, Span, SpanKind, StatusCode, TraceOrder, TraceSearch
from services.traces.query import SCHEMA, TraceQuery, read_filter
from services.traces.store.adapters import jaeger_export
from services.traces.store.adapters.jaeger import JaegerTraceStore

pytestmark = pytest.mark.servers

SECOND = 1_000_000_000
NOW = time.time_ns()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = durable_jaeger(tmp_path_factory.mktemp("jaeger"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[JaegerTraceStore]:
    async with open_store(server, search_depth=10) as opened:
        yield opened


def span(trace: int, number: int = 1, start: int = NOW - 60 * SECOND, **changes: Any) -> Span:
    made = Span(f"{0xF00D:016x}{trace:016x}", f"{number:016x}", "", "op", "web", start, start + 1000)
    return replace(made, **changes)


def found_by(trace: int, tenant: str, text: str = "", limit: int = 20) -> TraceSearch:
    return TraceSearch(tenant, text, NOW - 3600 * SECOND, NOW + SECOND, TraceOrder.NEWEST, None, limit)


async def test_spans_of_every_type_come_back_as_sent(store: JaegerTraceStore) -> None:
    values = {
        "text": "결제", "empty": "", "whole": 2**53 + 1, "least": -(2**63), "fraction": 0.5, "yes": True, "no": False,
        "list": [1, "a", [True]], "map": {"a": {"b": 1.5}}, "bytes": b"\0\xff", "nothing": None,
        "service.name": "another", "error": "true",
    }  # fmt: skip
    sent = [
        span(1, 1, tags=values, kind=SpanKind.SERVER, status_code=StatusCode.ERROR, status_message="no"),
        span(
            1,
            2,
            parent_span_id="0000000000000001",
            kind=SpanKind.CLIENT,
            status_code=StatusCode.OK,
            events=(Event(NOW, {"event": "one", **values}), Event(0, {"event": 5}), Event(NOW, {"event": "", "a": 1})),
            links=(Link("c" * 32, "d" * 16, values), Link("c" * 32, "e" * 16)),
        ),
        span(1, 3, end_ns=None, tags={"a": 1}),
        span(1, 4, end_ns=NOW - 60 * SECOND, kind=SpanKind.PRODUCER),
        # The two sides of a call may share an id.
        span(1, 5, kind=SpanKind.CLIENT),
        span(1, 5, kind=SpanKind.SERVER, service_name="cart"),
    ]
    columns = columns_by_otlp(sent, "types")
    await store.write([(Header("types", "test", NOW, len(sent)), columns)], "t")
    found = await store.trace("types", sent[0].trace_id, 10, TIMEOUT)
    assert sorted(found, key=lambda each: (each.span_id, each.kind, each.service_name)) == sorted(
        sent, key=lambda each: (each.span_id, each.kind, each.service_name)
    )


def columns_by_otlp(spans: list[Span], tenant: str) -> Any:
    """By way of OTLP, which keeps all types."""
    decoded = convert.read(convert.OTLP, [otlp(spans).SerializeToString()]).items
    checked = Checker(CONFIG).check(decoded, tenant, NOW)
    assert not checked.rejected
    return checked.columns


async def test_no_tenant_reads_what_another_wrote_under_the_same_ids(store: JaegerTraceStore) -> None:
    """Also not what somebody wrote into Jaeger directly, or who names another tenant in a tag."""
    mine, theirs = span(2, 1, operation_name="mine"), span(2, 2, operation_name="theirs", tags={"airis.tenant": "a"})
    await store_spans(store, [mine], NOW, "a")
    await store_spans(store, [theirs], NOW, "b")
    request = otlp([span(2, 3, operation_name="nobody's")])
    await store._jaeger.export(request.SerializeToString(), TIMEOUT)
    for tenant, expected in (("a", mine), ("b", theirs)):
        assert await store.trace(tenant, mine.trace_id, 10, TIMEOUT) == [expected]
        (found,) = await store.search(found_by(2, tenant), None, TIMEOUT)
        assert (found.root_operation_name, found.span_count) == (expected.operation_name, 1)
    for nobody in ("", "c", "%", "*"):
        assert await store.trace(nobody, mine.trace_id, 10, TIMEOUT) == []
        assert await store.search(found_by(2, nobody), None, TIMEOUT) == []
    text = 'tags.airis.tenant = "a"'
    assert len(await store.search(found_by(2, "b", text), read_filter(text, SCHEMA), TIMEOUT)) == 1
    assert await store.search(found_by(2, "a", text), read_filter(text, SCHEMA), TIMEOUT) == []


async def test_a_busy_moment_is_looked_at_piece_by_piece_and_nothing_is_missed(store: JaegerTraceStore) -> None:
    """Jaeger may give ten traces at once here; a hundred have spans in the same second."""
    spans = [span(1000 + n, 1, NOW - 30 * SECOND + n * 5_000_000, service_name=f"s{n % 3}") for n in range(100)]
    await store_spans(store, spans, NOW, "busy")
    search, visited = found_by(0, "busy", "service != s0", 7), list[str]()
    checked = read_filter(search.filter, SCHEMA)
    while page := await store.search(search, checked, TIMEOUT):
        visited += [trace.trace_id for trace in page]
        search = replace(search, after=(page[-1].start_ns, page[-1].trace_id))
    assert visited == [each.trace_id for each in reversed(spans) if each.service_name != "s0"]


async def test_more_traces_in_a_microsecond_than_jaeger_gives_are_refused_and_not_cut(store: JaegerTraceStore) -> None:
    spans = [span(2000 + n) for n in range(11)]
    await store_spans(store, spans, NOW, "crowd")
    with pytest.raises(ResourceExhaustedError) as refused:
        await store.search(found_by(0, "crowd"), None, TIMEOUT)
    assert refused.value.reason == "RESULT_TOO_LARGE"
    text = f"trace_id = {spans[3].trace_id}"
    assert (await TraceQuery(store).trace("crowd", spans[3].trace_id, TIMEOUT)) == [spans[3]], text


async def test_an_insert_that_is_repeated_is_kept_twice_and_seen_once(store: JaegerTraceStore) -> None:
    assert not store.capabilities().deduplicates
    spans = [span(3, 1), span(3, 2)]
    header = Header("again", "test", NOW, 2, request_id="r")
    for _ in range(3):
        await store.write([(header, columns_of(spans, NOW, "again"))], "the same")
    assert await store.trace("again", spans[0].trace_id, 2, TIMEOUT) == spans
    (found,) = await store.search(found_by(3, "again"), None, TIMEOUT)
    assert found.span_count == 2


async def test_an_insert_larger_than_a_message_goes_in_several_and_a_huge_span_is_cut(server: Server) -> None:
    spans = [span(4, n + 1, tags={"text": "x" * 10_000}) for n in range(500)]
    huge = span(5, 1, tags={"text": "x" * 6_000_000}, events=(Event(NOW, {"event": "kept not"}),))
    async with open_store(server) as store:
        await store_spans(store, [*spans, huge], NOW, "large")
        assert len(await store.trace("large", spans[0].trace_id, 500, TIMEOUT)) == 500
        (cut,) = await store.trace("large", huge.trace_id, 10, TIMEOUT)
    assert cut == replace(huge, tags=cut.tags, events=())
    assert cut.tags[jaeger_export.CUT] > 6_000_000  # type: ignore[operator]


def otlp(spans: list[Span]) -> trace_service_pb2.ExportTraceServiceRequest:
    request = trace_service_pb2.ExportTraceServiceRequest()
    for each in spans:
        added = request.resource_spans.add()
        added.resource.attributes.extend(otlp_spans.key_values({"service.name": each.service_name}))
        message = added.scope_spans.add().spans.add()
        message.CopyFrom(otlp_spans.message(replace(each, end_ns=each.start_ns + 1)))
        message.end_time_unix_nano = each.end_ns or 0
    return request


def test_the_service_answers_from_jaeger_and_says_what_it_cannot(server: Server, tmp_path: Path) -> None:
    service = ServiceProcess("traces", tmp_path, **server.settings)
    service.start()
    try:
        with grpc.insecure_channel(service.grpc) as channel:
            stub = traces_pb2_grpc.TraceServiceStub(channel)
            request = traces_pb2.IngestSpansRequest(wait_for=ingest_pb2.Acknowledgement.QUERYABLE)
            for number in (1, 2):
                added = request.spans.add(
                    trace_id="ab" * 16, span_id=f"{number:016x}", operation_name="GET /", service_name="through"
                )
                added.parent_span_id = "" if number == 1 else f"{1:016x}"
                added.start_time.FromNanoseconds(NOW - SECOND)
                added.end_time.FromNanoseconds(NOW - SECOND // number)
            stub.IngestSpans(request, timeout=20)
            assert len(stub.GetTrace(traces_pb2.GetTraceRequest(trace_id="AB" * 16)).spans) == 2
            (found,) = stub.SearchTraces(traces_pb2.SearchTracesRequest(filter="service = through")).traces
            assert (found.trace_id, found.span_count) == ("ab" * 16, 2)
            path = stub.GetCriticalPath(traces_pb2.GetCriticalPathRequest(trace_id="ab" * 16))
            assert path.duration.ToNanoseconds() == SECOND // 2
            assert len(stub.ListBottlenecks(traces_pb2.ListBottlenecksRequest(service="through")).bottlenecks) == 1
            for method, refused in (
                (stub.ListServices, traces_pb2.ListServicesRequest()),
                (stub.ListOperations, traces_pb2.ListOperationsRequest(service="through")),
                (stub.GetServiceMap, traces_pb2.GetServiceMapRequest()),
                (stub.GetLatency, traces_pb2.GetLatencyRequest(service="through")),
                (stub.SearchTraces, traces_pb2.SearchTracesRequest(order_by="duration desc")),
            ):
                with pytest.raises(grpc.RpcError) as error:
                    method(refused)
                assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
            with pytest.raises(grpc.RpcError) as error:
                stub.GetTrace(traces_pb2.GetTraceRequest(trace_id="cd" * 16))
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        service.stop()


def stored(stub: Any, number: int) -> int | str:
    """How many spans a trace has, or what is said instead."""
    try:
        return len(stub.GetTrace(traces_pb2.GetTraceRequest(trace_id=span(number).trace_id), timeout=10).spans)
    except grpc.RpcError as error:
        return str(error.code())


def ready(service: ServiceProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{service.http}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_nothing_acknowledged_is_lost_or_seen_twice_when_each_is_killed_during_load(tmp_path: Path) -> None:
    """Jaeger on disk (Badger), which keeps microseconds."""
    folders = {"keys": str(tmp_path / "keys"), "values": str(tmp_path / "values")}
    badger = {"badger": {"directories": folders, "ephemeral": False}}
    server = durable_jaeger(tmp_path / "jaeger", badger)
    server.start()
    service = ServiceProcess("traces", tmp_path / "airis", **server.settings)
    service.start()
    acknowledged: list[int] = []
    reached = asyncio.Condition()

    async def load() -> None:
        """Batches of spans of one trace each, one after the other, repeated until they are acknowledged."""
        for number in range(1, 61):
            spans = [span(number, n + 1, NOW - SECOND, operation_name=f"op{n}") for n in range(20)]
            request = otlp(spans)
            while True:
                try:
                    async with grpc.aio.insecure_channel(service.grpc) as channel:
                        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
                        await stub.Export(request, timeout=3)
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
            acknowledged.append(number)
            async with reached:
                reached.notify_all()

    async def after(count: int) -> None:
        async with asyncio.timeout(60), reached:
            await reached.wait_for(lambda: len(acknowledged) >= count)

    async def run() -> None:
        loading = asyncio.create_task(load())
        await after(10)
        server.kill()
        await after(25)
        status, reason = await asyncio.to_thread(ready, service)
        assert status == 503
        assert "Jaeger" in reason
        await asyncio.to_thread(server.start)
        await after(40)
        service.kill()
        await asyncio.to_thread(service.start)
        await loading

    def counts() -> list[int | str]:
        with grpc.insecure_channel(service.grpc) as channel:
            return [stored(traces_pb2_grpc.TraceServiceStub(channel), number) for number in acknowledged]

    try:
        asyncio.run(run())
        assert eventually(counts, lambda found: found == [20] * 60) == [20] * 60
        assert eventually(lambda: ready(service), lambda answer: answer[0] == 200)
    finally:
        service.stop()
        server.stop()
