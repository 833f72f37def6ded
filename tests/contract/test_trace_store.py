"""What `services/traces/store/port.py` promises, on real engines, against plain calculations."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from clickhouse_world import ENGINES, dsn_of
from jaeger_world import durable_jaeger, open_store
from trace_world import CONFIG, TENANT, TIMEOUT, columns_of, store_spans, trace_store

from deploy.servers import Server
from services.shared.bus.port import Header
from services.shared.clickhouse.client import ClickHouse
from services.shared.errors import NotFoundError, ResourceExhaustedError, UnimplementedError
from services.shared.filter import read_filter
from services.traces.critical_path import critical_path
from services.traces.model import (
    Capabilities,
    Edge,
    LatencyQuery,
    Span,
    SpanKind,
    StatusCode,
    TraceOrder,
    TraceSearch,
    TraceSummary,
)
from services.traces.query import SCHEMA, TraceQuery
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore
from services.traces.store.adapters.jaeger import JaegerTraceStore

TraceStore = ClickHouseTraceStore | JaegerTraceStore

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
MILLISECOND = 1_000_000
END = 1_790_000_000 * SECOND + 17 * SECOND + 123
START = END - 60 * MINUTE
SERVICES = ("web", "cart", "payment", "stock")


def shop_traces(seed: int, count: int) -> list[list[Span]]:
    """Calls through the services of a shop; some are longer than a minute, fail, or do not end."""
    choose = random.Random(seed)
    traces = []
    for number in range(count):
        trace_id = f"{seed:016x}{number + 1:016x}"
        start = START - 5 * MINUTE + choose.randrange(70 * 60) * SECOND + choose.randrange(SECOND)
        spans: list[Span] = []
        for place in range(choose.randint(1, 7)):
            parent = choose.choice(spans) if spans else None
            begin = start if parent is None else parent.start_ns + choose.randrange(2 * SECOND)
            duration = choose.choice([0, MILLISECOND, choose.randrange(1, SECOND), choose.randrange(1, 3 * MINUTE)])
            service = choose.choice(SERVICES)
            spans.append(
                Span(
                    trace_id,
                    f"{number + 1:08x}{place + 1:08x}",
                    parent.span_id if parent else "",
                    f"{choose.choice(['GET', 'POST'])} /{service}",
                    service,
                    begin,
                    None if choose.random() < 0.1 else begin + duration,
                    choose.choice(list(SpanKind)),
                    choose.choice([StatusCode.UNSPECIFIED, StatusCode.OK, StatusCode.ERROR]),
                    tags={"http.status_code": float(choose.choice([200, 500])), "shop": choose.choice(["a", "b"])},
                )
            )
        traces.append(spans)
    return traces


TRACES = shop_traces(7, 150)
SPANS = [span for spans in TRACES for span in spans]


JAEGER = pytest.param("jaeger", marks=pytest.mark.servers)

# Jaeger is opted out of these; a test of its own says what it answers instead.
keeps_figures = pytest.mark.parametrize("opened", ENGINES, indirect=True, scope="module")


async def fill(store: TraceStore) -> None:
    shuffled = list(SPANS)
    random.Random(1).shuffle(shuffled)
    third = len(shuffled) // 3
    for begin in range(0, len(shuffled), third):
        await store_spans(store, shuffled[begin : begin + third], END)


@pytest.fixture(scope="module", params=(*ENGINES, JAEGER))
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClickHouseTraceStore, ClickHouse] | Server]:
    """A store that is filled, and its ClickHouse; or where a Jaeger is: its connections belong to one event loop."""
    folder = tmp_path_factory.mktemp("traces")
    if request.param != "jaeger":
        with trace_store(dsn_of(request.param, request, folder / "clickhouse")) as pair:
            asyncio.run(fill(pair[0]))
            yield pair
        return
    server = durable_jaeger(folder)
    server.start()

    async def fill_jaeger() -> None:
        async with open_store(server) as store:
            await fill(store)

    try:
        asyncio.run(fill_jaeger())
        yield server
    finally:
        server.stop()


@pytest.fixture
async def store(opened: tuple[ClickHouseTraceStore, ClickHouse] | Server) -> AsyncIterator[TraceStore]:
    if isinstance(opened, Server):
        async with open_store(opened) as store:
            yield store
    else:
        yield opened[0]


def in_range(span: Span, start: int = START, end: int = END) -> bool:
    return start <= span.start_ns < end


def duration(span: Span) -> int | None:
    return None if span.end_ns is None else span.end_ns - span.start_ns


def summary_of(spans: Sequence[Span]) -> TraceSummary:
    first = min(spans, key=lambda span: (span.parent_span_id != "", span.start_ns))
    start = min(span.start_ns for span in spans)
    return TraceSummary(
        spans[0].trace_id,
        first.service_name,
        first.operation_name,
        start,
        max(span.end_ns or span.start_ns for span in spans) - start,
        len(spans),
        sum(span.status_code is StatusCode.ERROR for span in spans),
        tuple(sorted({span.service_name for span in spans})),
    )


ORDERS: dict[TraceOrder, Callable[[TraceSummary], tuple[int, str]]] = {
    TraceOrder.NEWEST: lambda found: (-found.start_ns, found.trace_id),
    TraceOrder.OLDEST: lambda found: (found.start_ns, found.trace_id),
    TraceOrder.LONGEST: lambda found: (-found.duration_ns, found.trace_id),
}
FILTERS: dict[str, Callable[[Span], bool]] = {
    "": lambda span: True,
    "service = cart": lambda span: span.service_name == "cart",
    "service = cart status = ERROR": lambda s: s.service_name == "cart" and s.status_code is StatusCode.ERROR,
    "duration > 100ms": lambda span: (duration(span) or 0) > 100 * MILLISECOND,
    "NOT duration > 100ms": lambda span: not (duration(span) or 0) > 100 * MILLISECOND,
    "duration <= 1ms kind = SERVER": lambda s: (
        duration(s) is not None and (duration(s) or 0) <= MILLISECOND and s.kind is SpanKind.SERVER
    ),
    "tags.http.status_code >= 500": lambda span: span.tags["http.status_code"] == 500,
    "tags.shop = a post": lambda span: span.tags["shop"] == "a" and "POST" in span.operation_name,
    'operation = "GET *"': lambda span: span.operation_name.startswith("GET"),
    "kind = CLIENT OR kind = PRODUCER status != OK": lambda s: (
        s.kind in (SpanKind.CLIENT, SpanKind.PRODUCER) and s.status_code is not StatusCode.OK
    ),
    "tags.absent = 1": lambda span: False,
}


@pytest.mark.parametrize("order", TraceOrder)
@pytest.mark.parametrize("text", FILTERS)
async def test_a_search_finds_what_a_plain_calculation_finds_and_pages_visit_each_once(
    store: TraceStore, text: str, order: TraceOrder
) -> None:
    matches = FILTERS[text]
    matching = [spans for spans in TRACES if any(in_range(span) and matches(span) for span in spans)]
    expected = sorted(map(summary_of, matching), key=ORDERS[order])
    assert (text == "tags.absent = 1") == (not expected)
    found: list[TraceSummary] = []
    search = TraceSearch(TENANT, text, START, END, order, None, 40)
    if order not in store.capabilities().orders:
        with pytest.raises(UnimplementedError):
            await TraceQuery(store).search(search, TIMEOUT)
        return
    while page := await store.search(search, read_filter(text, SCHEMA), TIMEOUT):
        found += page
        last = page[-1]
        reached = last.duration_ns if order is TraceOrder.LONGEST else last.start_ns
        search = replace(search, after=(reached, last.trace_id))
    assert found == expected


async def test_traces_of_equal_order_are_each_on_one_page(store: TraceStore) -> None:
    tenant = "equal"
    spans = [Span(f"{n + 1:032x}", "00000000000000a1", "", "op", "s", START, START + 5) for n in range(9)]
    await store_spans(store, spans, END, tenant)
    for order in store.capabilities().orders:
        found, search = [], TraceSearch(tenant, "", START, END, order, None, 2)
        while page := await store.search(search, None, TIMEOUT):
            found += [trace.trace_id for trace in page]
            reached = page[-1].duration_ns if order is TraceOrder.LONGEST else page[-1].start_ns
            search = replace(search, after=(reached, page[-1].trace_id))
        assert found == [span.trace_id for span in spans]


async def test_a_trace_is_read_whole_by_start_time(store: TraceStore) -> None:
    for spans in TRACES[:20]:
        found = await store.trace(TENANT, spans[0].trace_id, 100, TIMEOUT)
        assert found == sorted(spans, key=lambda span: (span.start_ns, span.span_id))


async def test_an_unknown_trace_is_not_found_and_the_case_of_an_id_does_not_count(store: TraceStore) -> None:
    query = TraceQuery(store)
    with pytest.raises(NotFoundError):
        await query.trace(TENANT, "f" * 32, TIMEOUT)
    known = TRACES[0][0].trace_id
    assert await query.trace(TENANT, known.upper(), TIMEOUT) == await store.trace(TENANT, known, 100, TIMEOUT)


async def test_a_trace_beyond_the_limit_is_refused_and_not_cut(store: TraceStore) -> None:
    spans = next(spans for spans in TRACES if len(spans) > 3)
    assert len(await store.trace(TENANT, spans[0].trace_id, len(spans), TIMEOUT)) == len(spans)
    with pytest.raises(ResourceExhaustedError) as refused:
        await store.trace(TENANT, spans[0].trace_id, len(spans) - 1, TIMEOUT)
    assert refused.value.reason == "RESULT_TOO_LARGE"


@keeps_figures
async def test_a_trace_of_too_many_bytes_is_refused_with_what_to_do(store: TraceStore) -> None:
    tenant = "large"
    for begin in (0, 100):
        spans = [
            Span("a" * 32, f"{n + 1:016x}", "", "op", "s", START + n, START + n, tags={"text": f"{n}" + "x" * 200_000})
            for n in range(begin, begin + 100)
        ]
        if begin:
            # One of 20 MB is read whole.
            assert len(await store.trace(tenant, "a" * 32, 10_000, TIMEOUT)) == 100
        await store_spans(store, spans, END, tenant)
    with pytest.raises(ResourceExhaustedError, match=r"more than 28 MiB .* fewer and shorter tags") as refused:
        await store.trace(tenant, "a" * 32, 10_000, TIMEOUT)
    assert refused.value.reason == "RESULT_TOO_LARGE"


async def test_outlines_are_the_spans_without_their_tags_in_the_order_asked_for(store: TraceStore) -> None:
    wanted = [TRACES[at] for at in (5, 2, 9)]
    found = await store.outlines(TENANT, [summary_of(spans) for spans in wanted], TIMEOUT)
    for outline, spans in zip(found, wanted, strict=True):
        ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
        assert outline == [replace(span, tags={}) for span in ordered]
        assert critical_path(outline) == critical_path(spans)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, END),
        (START // MINUTE * MINUTE, END // MINUTE * MINUTE),
        (START + 7 * SECOND, START + 15 * SECOND),
        (START + 50 * SECOND, START + 70 * SECOND),
    ],
)
@keeps_figures
async def test_services_and_operations_count_exactly_the_spans_of_the_range(
    store: TraceStore, start: int, end: int
) -> None:
    chosen = [span for span in SPANS if in_range(span, start, end)]
    services: dict[str, list[Span]] = defaultdict(list)
    for span in chosen:
        services[span.service_name].append(span)
    found = []
    while page := await store.services(TENANT, start, end, found[-1].service if found else "", 3, TIMEOUT):
        found += page
    assert [(each.service, each.span_count, each.error_count) for each in found] == [
        (name, len(spans), errors(spans)) for name, spans in sorted(services.items())
    ]
    for name, spans in services.items():
        operations: dict[tuple[str, SpanKind], list[Span]] = defaultdict(list)
        for span in spans:
            operations[span.operation_name, span.kind].append(span)
        listed = []
        after: tuple[str, SpanKind | int] = ("", 0)
        while some := await store.operations(TENANT, name, start, end, after, 4, TIMEOUT):
            listed += some
            after = (some[-1].operation, some[-1].kind)
        assert [(each.operation, each.kind, each.span_count, each.error_count) for each in listed] == [
            (*key, len(those), errors(those)) for key, those in sorted(operations.items())
        ]
        for each in listed:
            assert_quantiles(each.durations, operations[each.operation, each.kind])


@pytest.mark.parametrize("operation", ["", "GET /cart"])
@pytest.mark.parametrize("step", [MINUTE, 7 * MINUTE])
@keeps_figures
async def test_latency_is_that_of_the_spans_that_handle_calls(store: TraceStore, operation: str, step: int) -> None:
    chosen = [
        span
        for span in SPANS
        if in_range(span)
        and span.service_name == "cart"
        and span.operation_name in (operation or span.operation_name, operation)
        and span.kind in (SpanKind.SERVER, SpanKind.CONSUMER)
    ]
    steps: dict[int, list[Span]] = defaultdict(list)
    for span in chosen:
        steps[span.start_ns // step * step].append(span)
    found = await store.latency(LatencyQuery(TENANT, "cart", operation, START, END, step), TIMEOUT)
    assert [point.timestamp_ns for point in found.points] == sorted(steps)
    for point in found.points:
        spans = steps[point.timestamp_ns]
        seconds = (min(point.timestamp_ns + step, END) - max(point.timestamp_ns, START)) / SECOND
        assert point.rate == pytest.approx(len(spans) / seconds)
        assert point.error_ratio == pytest.approx(errors(spans) / len(spans))
        assert_quantiles(point.durations, spans)
    assert found.total.timestamp_ns == START
    assert found.total.rate == pytest.approx(len(chosen) / ((END - START) / SECOND))
    assert_quantiles(found.total.durations, chosen)


@pytest.mark.parametrize(
    ("gone", "start", "end"),
    [
        # All spans; those up to a second behind the start.
        (END, START // MINUTE * MINUTE, -(-END // MINUTE) * MINUTE),
        (START + SECOND, START // MINUTE * MINUTE, END),
    ],
)
@keeps_figures
async def test_where_spans_are_gone_a_minute_that_the_range_cuts_counts_whole(
    opened: tuple[ClickHouseTraceStore, ClickHouse], gone: int, start: int, end: int
) -> None:
    late = ClickHouseTraceStore(opened[1], CONFIG, lambda: gone + CONFIG.raw_retention_days * 86_400 * SECOND)
    assert await late.services(TENANT, START, END, "", 10, TIMEOUT) == await opened[0].services(
        TENANT, start, end, "", 10, TIMEOUT
    )
    assert await late.operations(TENANT, "cart", START, END, ("", 0), 50, TIMEOUT) == await opened[0].operations(
        TENANT, "cart", start, end, ("", 0), 50, TIMEOUT
    )
    asked = LatencyQuery(TENANT, "cart", "", START, END, 7 * MINUTE)
    assert await late.latency(asked, TIMEOUT) == await opened[0].latency(
        replace(asked, start_ns=start, end_ns=end), TIMEOUT
    )


@keeps_figures
async def test_latency_is_of_all_spans_when_none_handles_calls_and_of_nothing_when_there_are_none(
    store: TraceStore,
) -> None:
    tenant = "client"
    spans = [
        Span(f"{n + 1:032x}", "00000000000000a1", "", "op", "job", START + n, START + n + 100, SpanKind.CLIENT)
        for n in range(4)
    ]
    await store_spans(store, spans, END, tenant)
    found = await store.latency(LatencyQuery(tenant, "job", "", START, END, MINUTE), TIMEOUT)
    assert found.total.rate == pytest.approx(4 / 3600)
    nothing = await store.latency(LatencyQuery(tenant, "none", "", START, END, MINUTE), TIMEOUT)
    assert (nothing.points, nothing.total.rate, nothing.total.error_ratio) == ((), 0, 0)


@keeps_figures
async def test_the_service_map_is_that_of_spans_joined_with_their_parents(store: TraceStore) -> None:
    first, last = START // MINUTE - 6, END // MINUTE + 10
    for begin in range(first, last + 1, 16):
        await store.refresh_edges(begin, min(begin + 15, last))
    low, high = START // MINUTE * MINUTE, -(-END // MINUTE) * MINUTE
    await assert_edges(store, TENANT, SPANS, low, high)


@keeps_figures
async def test_a_rerun_changes_nothing_and_late_spans_are_added(
    opened: tuple[ClickHouseTraceStore, ClickHouse],
) -> None:
    store, clickhouse = opened
    tenant, minute = "late", START // MINUTE + 3
    early, late = [], []
    for number in range(30):
        trace_id = f"{number + 1:032x}"
        parent = Span(trace_id, "00000000000000a1", "", "call", "web", minute * MINUTE - SECOND, minute * MINUTE)
        child = replace(
            parent,
            span_id="00000000000000b1",
            parent_span_id=parent.span_id,
            service_name="cart",
            start_ns=minute * MINUTE + number,
            end_ns=minute * MINUTE + number + MILLISECOND * (number + 1),
            status_code=StatusCode.ERROR if number % 3 == 0 else StatusCode.OK,
        )
        # Sometimes the caller is late, sometimes the called.
        (early if number < 10 else late).append(parent)
        (early if number < 20 else late).append(child)
    await store_spans(store, early, END, tenant)
    await store.refresh_edges(minute, minute)
    await assert_edges(store, tenant, early, minute * MINUTE, (minute + 1) * MINUTE)
    await store_spans(store, late, END, tenant)
    await store.refresh_edges(minute - 1, minute + 1)
    everything = [*early, *late]
    await assert_edges(store, tenant, everything, minute * MINUTE, (minute + 1) * MINUTE)
    before = await edge_rows(clickhouse, tenant)
    await store.refresh_edges(minute, minute)
    await store.refresh_edges(minute - 5, minute + 5)
    assert await edge_rows(clickhouse, tenant) == before
    await clickhouse.command("OPTIMIZE TABLE airis.service_edges_1m FINAL")
    assert await edge_rows(clickhouse, tenant) == before
    await assert_edges(store, tenant, everything, minute * MINUTE, (minute + 1) * MINUTE)


async def test_an_insert_that_is_repeated_with_its_token_stores_nothing_again(store: TraceStore) -> None:
    tenant = "repeated"
    span = Span("a" * 32, "b" * 16, "", "op", "once", START + MINUTE, START + MINUTE + 5)
    header = Header(tenant, "test", END, 1, request_id="r")
    for _ in range(3):
        await store.write([(header, columns_of([span], END, tenant))], "the same")
    assert await store.trace(tenant, span.trace_id, 10, TIMEOUT) == [span]
    (found,) = await store.search(TraceSearch(tenant, "", START, END, TraceOrder.NEWEST, None, 10), None, TIMEOUT)
    assert found.span_count == 1
    if store.capabilities().figures:
        (service,) = await store.services(tenant, START, END, "", 10, TIMEOUT)
        assert service.span_count == 1


async def test_spans_of_one_trace_in_several_inserts_are_one_trace_also_after_merges(
    opened: tuple[ClickHouseTraceStore, ClickHouse] | Server, store: TraceStore
) -> None:
    tenant, trace_id = "parts", "c" * 32
    spans = [
        Span(
            trace_id,
            f"{n + 1:016x}",
            f"{n:016x}" if n else "",
            f"op{n}",
            f"s{n % 3}",
            START + n * MINUTE,
            START + n * MINUTE + 90 * SECOND,
        )
        for n in range(6)
    ]
    for span in reversed(spans):
        await store_spans(store, [span], END, tenant)
    search = TraceSearch(tenant, "service = s2", START, START + 3 * MINUTE, TraceOrder.NEWEST, None, 10)
    for _ in range(2):
        assert await store.search(search, read_filter(search.filter, SCHEMA), TIMEOUT) == [summary_of(spans)]
        assert await store.trace(tenant, trace_id, 10, TIMEOUT) == spans
        for table in ("traces", "span_red_1m", "spans") if isinstance(opened, tuple) else ():
            await opened[1].command(f"OPTIMIZE TABLE airis.{table} FINAL")


async def test_a_tenant_sees_its_own_spans_only(store: TraceStore) -> None:
    known = TRACES[0][0].trace_id
    assert await store.trace("nobody", known, 10, TIMEOUT) == []
    search = TraceSearch("nobody", "", START, END, TraceOrder.NEWEST, None, 10)
    assert await store.search(search, None, TIMEOUT) == []
    if store.capabilities().figures:
        assert await store.services("nobody", START, END, "", 10, TIMEOUT) == []
        assert await store.edges("nobody", START, END, 10, TIMEOUT) == []


async def test_bottlenecks_are_those_of_the_newest_hundred_traces_of_the_service(store: TraceStore) -> None:
    with_cart = [t for t in TRACES if any(in_range(span) and span.service_name == "cart" for span in t)]
    newest = sorted(with_cart, key=lambda spans: ORDERS[TraceOrder.NEWEST](summary_of(spans)))[:100]
    paths = [critical_path(spans) for spans in newest]
    found, sampled = await TraceQuery(store).bottlenecks(TENANT, "cart", START, END, TIMEOUT)
    assert sampled == len(newest)
    expected: dict[tuple[str, str], int] = defaultdict(int)
    for path in paths:
        for segment in path.segments:
            expected[segment.service_name, segment.operation_name] += segment.duration_ns
    assert {(each.service_name, each.operation_name): each.self_time_ns for each in found} == expected


def errors(spans: Sequence[Span]) -> int:
    return sum(span.status_code is StatusCode.ERROR for span in spans)


def assert_quantiles(found: object, spans: Sequence[Span]) -> None:
    """Each quantile is within 1 % of one of the two durations that it lies between."""
    durations = sorted(took for span in spans if (took := duration(span)) is not None)
    if not durations:
        assert found.p50_ns == found.p95_ns == found.p99_ns == 0  # type: ignore[attr-defined]
        return
    for level, name in ((0.5, "p50_ns"), (0.95, "p95_ns"), (0.99, "p99_ns")):
        rank = level * (len(durations) - 1)
        low, high = durations[int(rank)], durations[min(int(rank) + 1, len(durations) - 1)]
        assert low * 0.989 - 1 <= getattr(found, name) <= high * 1.011 + 1, (name, durations)


async def assert_edges(store: TraceStore, tenant: str, spans: Sequence[Span], start: int, end: int) -> None:
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    expected: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for span in spans:
        parent = by_id.get((span.trace_id, span.parent_span_id))
        if parent and parent.service_name != span.service_name and start <= span.start_ns < end:
            expected[parent.service_name, span.service_name].append(span)
    found: list[Edge] = await store.edges(tenant, start, end, 100, TIMEOUT)
    assert [(edge.caller, edge.callee, edge.call_count, edge.error_count) for edge in found] == [
        (*names, len(called), errors(called)) for names, called in sorted(expected.items())
    ]
    for edge in found:
        assert_quantiles(edge.durations, expected[edge.caller, edge.callee])


async def edge_rows(clickhouse: ClickHouse, tenant: str) -> list[object]:
    rows = await clickhouse.rows(
        "SELECT minute, caller, callee, call_count, error_count, hex(finalizeAggregation(durations)[2]) AS q "
        "FROM airis.service_edges_1m FINAL WHERE tenant = {tenant:String} ORDER BY ALL",
        {"tenant": tenant},
        timeout=TIMEOUT,
    )
    return list(rows)


@keeps_figures
async def test_the_newest_minute_with_spans_is_known(store: TraceStore) -> None:
    until = max(span.start_ns for span in SPANS) // MINUTE
    assert await store.newest_minute(until) == until
    assert await store.newest_minute(0) is None


@pytest.mark.parametrize("opened", [JAEGER], indirect=True, scope="module")
async def test_what_jaeger_cannot_do_is_declared_and_refused(store: TraceStore) -> None:
    assert store.capabilities() == Capabilities(orders=frozenset({TraceOrder.NEWEST}))
    query = TraceQuery(store)
    for order in (TraceOrder.OLDEST, TraceOrder.LONGEST):
        with pytest.raises(UnimplementedError):
            await query.search(TraceSearch(TENANT, "", START, END, order, None, 10), TIMEOUT)
    for refused in (
        query.services(TENANT, START, END, "", 10, TIMEOUT),
        query.operations(TENANT, "cart", START, END, ("", 0), 10, TIMEOUT),
        query.service_map(TENANT, START, END, TIMEOUT),
        query.latency(LatencyQuery(TENANT, "cart", "", START, END, MINUTE), TIMEOUT),
    ):
        with pytest.raises(UnimplementedError):
            await refused
