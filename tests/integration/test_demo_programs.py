"""The demo's programs as child processes, seen by a real OTLP/gRPC receiver."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import psutil
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

SHOP = {"shop-frontend", "shop-catalog", "shop-cart", "shop-payment", "shop-shipping"}
HANGUL = re.compile("[가-힣]")
KINDS = Span.SpanKind


@dataclass(frozen=True)
class Seen:
    """A span, log record or metric, and the resource that sent it."""

    resource: dict[str, str]
    item: Any

    @property
    def service(self) -> str:
        return self.resource["service.name"]


@dataclass
class Receiver:
    """What arrived over OTLP so far.

    Attributes:
        over: The traces of visits that were over when the shop was ended.
    """

    spans: list[Seen] = field(default_factory=list)
    logs: list[Seen] = field(default_factory=list)
    metrics: list[Seen] = field(default_factory=list)
    over: set[bytes] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, promise: Callable[[], bool], seconds: float = 15) -> None:
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(promise)

    def span(self, span_id: bytes) -> Seen | None:
        return next((seen for seen in self.spans if seen.item.span_id == span_id), None)

    def metric(self, name: str) -> list[Seen]:
        return [seen for seen in self.metrics if seen.item.name == name]

    async def take(self, into: list[Seen], found: Iterator[Seen]) -> None:
        async with self.changed:
            into.extend(found)
            self.changed.notify_all()


def flat(resources: Any, scopes: str, items: str) -> Iterator[Seen]:
    for sent in resources:
        resource = {entry.key: entry.value.string_value for entry in sent.resource.attributes}
        for scope in getattr(sent, scopes):
            for item in getattr(scope, items):
                yield Seen(resource, item)


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.receiver.take(self.receiver.spans, flat(request.resource_spans, "scope_spans", "spans"))
        return trace_service_pb2.ExportTraceServiceResponse()


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.receiver.take(self.receiver.logs, flat(request.resource_logs, "scope_logs", "log_records"))
        return logs_service_pb2.ExportLogsServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.receiver.take(self.receiver.metrics, flat(request.resource_metrics, "scope_metrics", "metrics"))
        return metrics_service_pb2.ExportMetricsServiceResponse()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(receiver), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(receiver), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(receiver), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield receiver, f"http://127.0.0.1:{bound}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def program(module: str, *arguments: str, endpoint: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "AIRIS_OTLP_ENDPOINT": endpoint}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"services.demo.{module}", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def started(child: asyncio.subprocess.Process) -> None:
    assert child.stdout is not None
    assert await asyncio.wait_for(child.stdout.readline(), 20)


async def ended_by_sigterm(child: asyncio.subprocess.Process) -> str:
    """Ends it as the supervisor does, and gives what it wrote on stderr."""
    child.send_signal(signal.SIGTERM)
    _, complaints = await asyncio.wait_for(child.communicate(), 5)
    assert child.returncode == 0
    return complaints.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop() -> AsyncIterator[Receiver]:
    """What a shop under brisk load sent until it was ended."""
    async with (
        receiving() as (receiver, endpoint),
        program("shop", "--rate", "15", "--seed", "7", "--metric-interval", "1", endpoint=endpoint) as child,
    ):

        def enough() -> bool:
            errors = {seen.service for seen in receiver.spans if seen.item.status.code == Status.STATUS_CODE_ERROR}
            consumed = any(seen.item.kind == KINDS.SPAN_KIND_CONSUMER for seen in receiver.spans)
            levels = {seen.item.severity_text for seen in receiver.logs}
            measured = {seen.item.name for seen in receiver.metrics}
            return (
                {"shop-shipping", "shop-frontend"} <= errors
                and consumed
                and {"INFO", "WARN", "ERROR"} <= levels
                and {"shop.orders", "shop.payment.declined", "shop.shipments"} <= measured
                and bool(failed_shipments(receiver, visits_over(receiver)))
            )

        await started(child)
        await receiver.until(enough, 30)
        receiver.over = visits_over(receiver)
        assert await ended_by_sigterm(child) == ""
        yield receiver


def visits_over(receiver: Receiver) -> set[bytes]:
    """The traces of visits that are over: their own span comes last."""
    return {seen.item.trace_id for seen in receiver.spans if not seen.item.parent_span_id}


def failed_shipments(receiver: Receiver, traces: set[bytes]) -> list[Seen]:
    """The spans of shipments that failed, as the shipping service saw them."""
    return [
        seen
        for seen in receiver.spans
        if seen.item.kind == KINDS.SPAN_KIND_SERVER
        and seen.service == "shop-shipping"
        and seen.item.status.code == Status.STATUS_CODE_ERROR
        and seen.item.trace_id in traces
    ]


def whole_traces(receiver: Receiver) -> dict[bytes, list[Seen]]:
    """The traces of checkouts that went through all services, up to the notification."""
    traces: dict[bytes, list[Seen]] = {}
    for seen in receiver.spans:
        traces.setdefault(seen.item.trace_id, []).append(seen)
    return {
        trace_id: spans
        for trace_id, spans in traces.items()
        if {seen.service for seen in spans} == SHOP
        and any(seen.item.kind == KINDS.SPAN_KIND_CONSUMER for seen in spans)
    }


@pytest.mark.asyncio(loop_scope="module")
async def test_a_checkout_is_one_trace_through_all_five_services(shop: Receiver) -> None:
    traces = whole_traces(shop)
    assert traces
    for spans in traces.values():
        by_id = {seen.item.span_id: seen for seen in spans}
        roots = [seen for seen in spans if not seen.item.parent_span_id]
        assert [(root.service, root.item.kind) for root in roots] == [("shop-frontend", KINDS.SPAN_KIND_SERVER)]
        for seen in spans:
            span, parent = seen.item, by_id.get(seen.item.parent_span_id)
            assert parent is not None or not span.parent_span_id
            if parent is not None and span.kind == KINDS.SPAN_KIND_SERVER:
                assert parent.item.kind == KINDS.SPAN_KIND_CLIENT
                assert (parent.service, parent.item.name) == ("shop-frontend", span.name)
                assert seen.service == f"shop-{span.name.removeprefix('/shop.').split('/')[0].lower()}"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_frontend_asks_catalog_and_cart_at_once(shop: Receiver) -> None:
    for spans in whole_traces(shop).values():
        calls = {seen.item.name: seen.item for seen in spans if seen.item.kind == KINDS.SPAN_KIND_CLIENT}
        listed, held = calls["/shop.Catalog/ListPrices"], calls["/shop.Cart/GetItems"]
        assert listed.parent_span_id == held.parent_span_id
        assert listed.start_time_unix_nano < held.end_time_unix_nano
        assert held.start_time_unix_nano < listed.end_time_unix_nano


@pytest.mark.asyncio(loop_scope="module")
async def test_the_notification_is_produced_by_shipping_and_consumed_by_the_frontend(shop: Receiver) -> None:
    consumed = [seen for seen in shop.spans if seen.item.kind == KINDS.SPAN_KIND_CONSUMER]
    assert consumed
    for seen in consumed:
        produced = shop.span(seen.item.parent_span_id)
        assert produced is not None
        assert (produced.service, produced.item.kind) == ("shop-shipping", KINDS.SPAN_KIND_PRODUCER)
        assert seen.service == "shop-frontend"
        assert [link.span_id for link in seen.item.links] == [produced.item.span_id]
        assert seen.item.start_time_unix_nano >= produced.item.start_time_unix_nano


@pytest.mark.asyncio(loop_scope="module")
async def test_a_failed_call_fails_at_both_ends_and_says_why(shop: Receiver) -> None:
    # A shop that ends amid a visit sends it away: only the one end of a call may be there, and the visit's own span.
    failed = failed_shipments(shop, shop.over)
    assert failed
    for seen in failed:
        caller = shop.span(seen.item.parent_span_id)
        assert caller is not None
        assert caller.item.status.code == Status.STATUS_CODE_ERROR
        assert "does not answer" in caller.item.status.message
        assert [event.name for event in seen.item.events] == ["exception"]


@pytest.mark.asyncio(loop_scope="module")
async def test_korean_logs_carry_the_span_they_were_written_in(shop: Receiver) -> None:
    assert {seen.service for seen in shop.logs} <= SHOP
    korean = [seen for seen in shop.logs if HANGUL.search(seen.item.body.string_value)]
    assert korean
    matched = [(seen, shop.span(seen.item.span_id)) for seen in korean]
    assert all(len(seen.item.trace_id) == 16 for seen in korean)
    assert all(
        span is None or (span.service == seen.service and span.item.trace_id == seen.item.trace_id)
        for seen, span in matched
    )
    assert sum(span is not None for _, span in matched) > len(korean) / 2


@pytest.mark.asyncio(loop_scope="module")
async def test_the_shop_measures_with_every_kind_of_instrument(shop: Receiver) -> None:
    orders = shop.metric("shop.orders")[-1]
    assert orders.service == "shop-frontend"
    assert orders.item.sum.is_monotonic
    assert sum(point.as_int for point in orders.item.sum.data_points) > 0

    duration = shop.metric("shop.checkout.duration")[-1].item
    assert duration.unit == "ms"
    assert sum(point.count for point in duration.histogram.data_points) == sum(
        point.as_int for point in orders.item.sum.data_points
    )

    items = shop.metric("shop.cart.items")[-1]
    assert items.service == "shop-cart"
    assert not items.item.sum.is_monotonic

    stock = shop.metric("shop.catalog.stock")[-1]
    assert stock.service == "shop-catalog"
    assert {point.attributes[0].value.string_value for point in stock.item.gauge.data_points} >= {"keyboard"}


async def test_a_receiver_that_comes_late_hears_from_the_shop(unused_tcp_port_factory: Callable[[], int]) -> None:
    port = unused_tcp_port_factory()
    arguments = ("--rate", "10", "--metric-interval", "1")
    async with program("shop", *arguments, endpoint=f"http://127.0.0.1:{port}") as child:
        await started(child)
        async with receiving(port) as (receiver, _):
            await receiver.until(lambda: bool(receiver.spans and receiver.logs and receiver.metrics))
            await ended_by_sigterm(child)


@pytest.mark.parametrize("module", ["shop", "host_metrics"])
async def test_without_a_receiver_it_ends_in_time_and_complains_little(
    module: str, unused_tcp_port_factory: Callable[[], int]
) -> None:
    async with program(module, endpoint=f"http://127.0.0.1:{unused_tcp_port_factory()}") as child:
        await started(child)
        complaints = await ended_by_sigterm(child)
    assert len(complaints.splitlines()) <= 1


async def test_the_host_reports_its_own_metrics() -> None:
    names = {
        "system.cpu.utilization": {"cpu", "state"},
        "system.cpu.load_average.1m": set(),
        "system.memory.usage": {"state"},
        "system.network.io": {"device", "direction"},
        "system.filesystem.utilization": {"mountpoint", "device"},
        "system.process.count": set(),
    }
    async with (
        receiving() as (receiver, endpoint),
        program("host_metrics", "--interval", "0.5", endpoint=endpoint) as child,
    ):
        await receiver.until(lambda: len(receiver.metric("system.process.count")) >= 2)
        assert await ended_by_sigterm(child) == ""
    for name, keys in names.items():
        seen = receiver.metric(name)[-1]
        points = getattr(seen.item, seen.item.WhichOneof("data")).data_points
        assert points
        assert all({entry.key for entry in point.attributes} == keys for point in points)
        assert seen.service == "host"
        assert seen.resource["host.name"]
    # The last report comes right after another: not every processor has a tick to account for.
    utilization = receiver.metric("system.cpu.utilization")[0].item.gauge.data_points
    by_cpu: dict[str, float] = {}
    for point in utilization:
        attributes = {entry.key: entry.value.string_value for entry in point.attributes}
        by_cpu[attributes["cpu"]] = by_cpu.get(attributes["cpu"], 0) + point.as_double
    assert len(by_cpu) == psutil.cpu_count()
    assert all(total == pytest.approx(1, abs=0.05) for total in by_cpu.values())


async def test_a_missing_endpoint_is_named() -> None:
    async with program("host_metrics", endpoint="") as child:
        _, complaints = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 1
    assert "AIRIS_OTLP_ENDPOINT" in complaints.decode()
