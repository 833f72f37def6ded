"""What every log store promises, on real engines. Answers are compared with an independent calculation."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import pytest
import pytest_asyncio
from airis.logs.v1 import logs_pb2
from clickhouse_world import ENGINES, dsn_of, opened
from elasticsearch_world import ELASTICSEARCH, elasticsearch_store
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import (
    MAX_ROWS,
    CountQuery,
    Cursor,
    Level,
    LogColumns,
    LogEntry,
    SearchQuery,
    Selection,
    Span,
)
from services.logs.query import SCHEMA, LogQuery
from services.logs.rpc import LogServicer
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.logs.store.adapters.elasticsearch import ElasticsearchLogStore
from services.logs.store.port import LogReader, LogWriter
from services.shared.application import Store
from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnimplementedError,
)
from services.shared.filter import matches, read_filter

MINUTE = 60_000_000_000
START = 1_790_000_040_000_000_000 // MINUTE * MINUTE
END = START + 60 * MINUTE
DAY = 1440 * MINUTE
MESSAGES = (
    "결제서비스 응답 지연: timeout after 30s",
    "order_id=42 accepted",
    "Reordering finished",
    "the order:7 was refused by java.net.ConnectException",
    "주문확인 메일을 보냈습니다",
    "GET /api/v1/orders 200",
    "서버 재시작 😀 완료 TIMEOUT",
)
SECONDS = 30.0


class LogStore(LogWriter, LogReader, Store, Protocol):
    """A log store as its service uses it."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


def sample_request() -> logs_pb2.IngestLogsRequest:
    chance = random.Random(11)
    request = logs_pb2.IngestLogsRequest()
    for number in range(1500):
        entry = request.entries.add(
            message=chance.choice(MESSAGES),
            level=chance.choice([1, 2, 2, 2, 3, 4, 5]),
            service=chance.choice(["결제", "shop", "mail", ""]),
            trace_id=chance.choice(["", "0af7651916cd43dd8448eb211c80319c"]),
            # Empty is not absent, but one group with it.
            labels={"host": chance.choice(["", "h1", "h2"])} if chance.random() < 0.8 else {},
            status_code=chance.choice([0, 200, 503]),
            duration_ms=chance.choice([0, 1.5, 1500]),
            user_id=chance.choice(["", "u1"]),
        )
        # Many share a nanosecond, so that ties are there to be broken.
        entry.timestamp.FromNanoseconds(START + chance.randrange(600) * 6_000_000_000 + chance.randrange(2))
        entry.metadata["attempt"].number_value = number % 4
        entry.metadata["cached"].bool_value = number % 2 == 0
    return request


REQUEST = sample_request()
POSITIONS = {7: (0, 500), 8: (500, 1000), 1000: (1000, 1500)}


def columns(request: Any, message_type: str = convert.UNARY, received_at: int = END) -> LogColumns:
    records = convert.read(message_type, [request.SerializeToString()]).items
    checked = Checker(LogsConfig()).check(records, "default", received_at)
    assert checked.rejected == {}
    return checked.columns


def header(request_id: str = "", tenant: str = "default") -> Header:
    return Header(tenant, convert.UNARY, END, 1, request_id=request_id)


def placed(first: int, end: int, position: int) -> tuple[Position, Header, LogColumns]:
    part = logs_pb2.IngestLogsRequest(entries=REQUEST.entries[first:end])
    return Position(position), header(f"request-{position}"), columns(part)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*ENGINES, ELASTICSEARCH])
async def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LogStore]:
    if request.param == "elasticsearch":
        async with elasticsearch_store(request.getfixturevalue("elasticsearch").url) as on_elasticsearch:
            await fill(on_elasticsearch)
            yield on_elasticsearch
        return
    async with opened(dsn_of(request.param, request, tmp_path_factory.mktemp("clickhouse"))) as clickhouse:
        store = ClickHouseLogStore(clickhouse, LogsConfig(raw_retention_days=3650))
        await fill(store)
        yield store


async def fill(store: LogStore) -> None:
    await store.open()
    await store.open()
    batches = [placed(first, end, position) for position, (first, end) in POSITIONS.items()]
    await store.write(batches[:2], "token-1")
    await store.write(batches[2:], "token-2")
    # The same insert again, as after a crash.
    await store.write(batches[:2], "token-1")


def expected_rows() -> list[dict[str, Any]]:
    rows = []
    for position, (first, end) in POSITIONS.items():
        for row, entry in enumerate(REQUEST.entries[first:end]):
            rows.append(
                {
                    "position": position * MAX_ROWS + row,
                    "timestamp": entry.timestamp.ToNanoseconds(),
                    "level": Level(entry.level).name,
                    "message": entry.message,
                    "service": entry.service,
                    "trace_id": entry.trace_id,
                    "labels": dict(entry.labels),
                    "metadata": {
                        "attempt": entry.metadata["attempt"].number_value,
                        "cached": entry.metadata["cached"].bool_value,
                    },
                    "status_code": entry.status_code,
                    "duration_ms": entry.duration_ms,
                    "duration": entry.duration_ms,
                    "user_id": entry.user_id,
                }
            )
    return rows


ROWS = expected_rows()


def selection(text: str = "", start: int = START, end: int = END, tenant: str = "default") -> Selection:
    return Selection(tenant, text, start, end)


def chosen(query: Selection) -> list[dict[str, Any]]:
    condition = read_filter(query.filter, SCHEMA)
    return [row for row in ROWS if query.start <= row["timestamp"] < query.end and matches(condition, row)]


async def search(store: LogStore, query: SearchQuery) -> list[LogEntry]:
    return list((await LogQuery(store).search(query, SECONDS)).entries)


FILTERS = [
    "",
    "timeout",
    "서비",
    "결제 timeout",
    "주문확",
    '"order:7"',
    "order",
    "conn* OR *ception",
    "-timeout level >= WARN",
    "severity = ERROR OR service = 결제",
    'service = ""',
    "labels.host = h1 NOT labels:missing",
    "labels.host != h1",
    'labels.host = ""',
    "metadata.attempt >= 2 metadata.cached = true",
    "status_code >= 500 duration > 1s",
    "trace_id = 0AF7651916CD43DD8448EB211C80319C user_id:*",
    "message : 😀",
    "timestamp >= 2026-09-21T14:30:00Z",
]


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_search_finds_what_the_filter_says_in_a_total_order(
    store: LogStore, text: str, newest_first: bool
) -> None:
    found = await search(store, SearchQuery(selection(text), newest_first, 2000))
    expected = sorted(
        chosen(selection(text)), key=lambda row: (row["timestamp"], row["position"]), reverse=newest_first
    )
    assert [entry.ingest_position for entry in found] == [row["position"] for row in expected]
    assert [entry.message for entry in found] == [row["message"] for row in expected]
    assert text in ("", "timestamp >= 2026-09-21T14:30:00Z") or 0 < len(found) < len(ROWS)


async def test_the_start_is_included_and_the_end_is_not(store: LogStore) -> None:
    moment = ROWS[0]["timestamp"]
    for start, end in ((moment, moment + 1), (moment - 1, moment), (moment + 1, moment + 2)):
        found = await search(store, SearchQuery(selection("", start, end), True, 100))
        assert len(found) == len(chosen(selection("", start, end)))
        assert all(start <= entry.timestamp < end for entry in found)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_visit_everything_once_while_entries_come_in(store: LogStore, newest_first: bool) -> None:
    query = selection('labels.host = h2 OR service = "late"')
    position = 2000 if newest_first else 3000
    seen: list[int] = []
    after: Cursor | None = None
    while True:
        page = await search(store, SearchQuery(query, newest_first, 37, after))
        seen += [entry.ingest_position for entry in page]
        if len(page) < 37:
            break
        after = Cursor(page[-1].timestamp, page[-1].ingest_position)
        request = logs_pb2.IngestLogsRequest()
        for offset in (0, 1, 30 * MINUTE, 59 * MINUTE, after.timestamp - START):
            entry = request.entries.add(message="late", service="late", level=1)
            entry.timestamp.FromNanoseconds(START + offset)
        position += 1
        await store.write([(Position(position), header(), columns(request))], f"late-{position}")
    assert len(seen) == len(set(seen))
    assert {row["position"] for row in chosen(query)} <= set(seen)


@pytest.mark.parametrize("order", ["timestamp desc", "timestamp asc"])
async def test_pages_of_large_messages_visit_every_entry_once_in_order(store: LogStore, order: str) -> None:
    days = 5 if order == "timestamp desc" else 6
    start = START - days * DAY
    stored = logs_pb2.IngestLogsRequest()
    for number in range(150):
        # Mostly large ones, with small ones between and behind them; three share each nanosecond.
        size = 100_000 if number % 5 and number < 120 else 1_000
        entry = stored.entries.add(message=f"{number} large " + "x" * size, level=1)
        entry.timestamp.FromNanoseconds(start + number // 3)
    await store.write([(Position(8000 + days), header(), columns(stored))], order)
    servicer = LogServicer(None, LogQuery(store), None, lambda: END)  # type: ignore[arg-type]
    request = logs_pb2.SearchLogsRequest(filter="large", order_by=order, page_size=120)
    request.start_time.FromNanoseconds(start)
    request.end_time.FromNanoseconds(start + MINUTE)
    seen: list[int] = []
    pages = 0
    while pages == 0 or request.page_token:
        answer = await servicer.SearchLogs(request, None)
        seen += [int(entry.message.split()[0]) for entry in answer.entries]
        assert answer.ByteSize() < 4 * 1024**2
        assert [len(each.highlights) for each in answer.highlights] == [1] * len(answer.entries)
        request.page_token = answer.next_page_token
        pages += 1
    assert seen == sorted(range(150), reverse=order == "timestamp desc")
    assert pages > 1


COUNTS = [
    ("", MINUTE, ("level",)),
    ("", MINUTE, ()),
    ("level >= WARN", 5 * MINUTE, ("service", "level")),
    ("-service = shop", MINUTE, ("service",)),
    ("timeout", MINUTE, ("level", "labels.host")),
    ("labels.host = h1", 90_000_000_000, ("service",)),
    ("", 7_000_000_000, ("level",)),
    ("서비", 3600_000_000_000, ("labels.missing",)),
]


@pytest.mark.parametrize(("text", "step", "group_by"), COUNTS)
@pytest.mark.parametrize(("start", "end"), [(START, END), (START + 61_000_000_001, END - 59_000_000_003)])
async def test_counts_equal_an_independent_calculation(
    store: LogStore, text: str, step: int, group_by: tuple[str, ...], start: int, end: int
) -> None:
    # What other tests have added is told apart by its service.
    text = f'({text}) -service = "late"' if text else '-service = "late"'
    query = CountQuery(selection(text, start, end), step, group_by)
    counts = await LogQuery(store).count(query, SECONDS)
    expected: Counter[tuple[tuple[str, ...], int]] = Counter()
    for row in chosen(query.selection):
        key = tuple(row["labels"].get(f[7:], "") if f.startswith("labels.") else row[f] for f in group_by)
        expected[key, row["timestamp"] // step * step] += 1
    found = {
        (tuple(group.fields[field] for field in group_by), at): count
        for group in counts.groups
        for at, count in group.buckets
    }
    assert found == expected
    assert counts.total == expected.total()
    assert [g.count for g in counts.groups] == sorted((g.count for g in counts.groups), reverse=True)
    assert all(g.count == sum(count for _, count in g.buckets) for g in counts.groups)
    assert all(g.buckets == sorted(g.buckets) for g in counts.groups)


async def test_a_group_of_empty_and_absent_labels_is_counted_whole_among_many_others(store: LogStore) -> None:
    start = START - 3 * DAY
    others = [("absent", f"m{number:05}") for number in range(10_500) for _ in range(2)]
    # Of one group most have the empty label, of the other few.
    halves = [("", "z")] * 9 + [("absent", "z")] + [("", "a")] + [("absent", "a")] * 9
    request = logs_pb2.IngestLogsRequest()
    for number, (half, many) in enumerate(others + halves):
        labels = {"many": many} if half == "absent" else {"many": many, "half": half}
        request.entries.add(message="m", level=1, labels=labels).timestamp.FromNanoseconds(start + number % 2 * 10**9)
    await store.write([(Position(6900), header(), columns(request))], "halves")
    query = CountQuery(selection("", start, start + 2 * 10**9), 10**9, ("labels.half", "labels.many"))
    counts = await LogQuery(store).count(query, SECONDS)
    assert [(group.fields["labels.many"], group.count) for group in counts.groups[:2]] == [("a", 10), ("z", 10)]
    assert [group.buckets for group in counts.groups[:2]] == [[(start, 5), (start + 10**9, 5)]] * 2
    assert (len(counts.groups), counts.total) == (1000, len(request.entries))


async def test_what_too_many_words_begin_with_for_a_store_is_said_to_be(store: LogStore) -> None:
    start = START - 4 * DAY
    request = logs_pb2.IngestLogsRequest()
    for first in range(0, 120_000, 20_000):
        words = " ".join(f"req-a{number:06}" for number in range(first, first + 20_000))
        request.entries.add(message=words, level=1).timestamp.FromNanoseconds(start)
    await store.write([(Position(6950), header(), columns(request))], "pieces")
    for text in ('message : "req-a"', "req-a*"):
        query = SearchQuery(selection(text, start, start + 1), True, 10)
        if isinstance(store, ElasticsearchLogStore):
            with pytest.raises(ResourceExhaustedError, match="longer words"):
                await search(store, query)
        else:
            assert len(await search(store, query)) == 6
    found = await search(store, SearchQuery(selection('message : "req-a04242"', start, start + 1), True, 10))
    assert len(found) == 1


@pytest.mark.parametrize("text", ["timeout -서비", "timeout", "서비 OR level = ERROR"])
async def test_the_first_few_are_the_first_of_all(store: LogStore, text: str) -> None:
    whole = await search(store, SearchQuery(selection(text), True, 1000))
    for limit in (1, 5, 50, 200):
        assert await search(store, SearchQuery(selection(text), True, limit)) == whole[:limit]


async def test_steps_that_are_not_whole_milliseconds_are_counted_or_refused(store: LogStore) -> None:
    moment = ROWS[0]["timestamp"]
    query = CountQuery(selection('-service = "late"', moment - 1_500_000, moment + 1_500_000), 1_500_000, ())
    if not store.capabilities().fine_counts:
        with pytest.raises(UnimplementedError, match="milliseconds"):
            await LogQuery(store).count(query, SECONDS)
        return
    counts = await LogQuery(store).count(query, SECONDS)
    expected = Counter(row["timestamp"] // 1_500_000 * 1_500_000 for row in chosen(query.selection))
    assert dict(counts.groups[0].buckets) == expected


async def test_highlights_are_where_the_words_are(store: LogStore) -> None:
    for entry, spans in await highlighted(store, "timeout 서비"):
        assert [entry.message[start:end].lower() for start, end in spans] == ["서비", "timeout"]
    for entry, spans in await highlighted(store, "timeout -서비"):
        # An emoji stands before it: code points are counted, not bytes nor UTF-16 units.
        assert [entry.message[start:end] for start, end in spans] == ["TIMEOUT"]
    assert [list(spans) for _, spans in await highlighted(store, "level = ERROR")] == [[]] * 5


async def highlighted(store: LogStore, text: str) -> list[tuple[LogEntry, Sequence[Span]]]:
    """Five entries that a filter finds, each with what its words match."""
    query = LogQuery(store)
    found = await query.search(SearchQuery(selection(text), True, 5), SECONDS)
    assert len(found.entries) == 5
    return list(zip(found.entries, await query.highlights(found.entries, found.terms, 30), strict=True))


async def test_the_tail_gives_entries_in_the_order_of_ingest(store: LogStore) -> None:
    query = LogQuery(store)
    through = 9 * MAX_ROWS - 1
    seen: list[int] = []
    cursor = 7 * MAX_ROWS + 9
    while page := await query.tail("default", query.condition("level >= ERROR"), [(cursor, through)], 50, SECONDS):
        seen += [entry.ingest_position for entry in page]
        cursor = seen[-1]
    expected = [r["position"] for r in ROWS if r["level"] in ("ERROR", "FATAL")]
    assert seen == [position for position in expected if 7 * MAX_ROWS + 9 < position <= through]


async def test_a_sample_is_the_newest_entries_cut_to_a_bounded_length(store: LogStore) -> None:
    request = logs_pb2.IngestLogsRequest()
    entry = request.entries.add(message="긴" * 5000, level=3, service="late")
    entry.timestamp.FromNanoseconds(END - 1)
    await store.write([(Position(4000), header(), columns(request))], "long")
    samples = await store.sample(selection(), None, 3, SECONDS)
    assert (samples[0].message, samples[0].level, samples[0].service) == ("긴" * 1000, Level.WARN, "late")
    assert len(samples) == 3


async def test_patterns_and_anomalies_are_those_of_the_range(store: LogStore) -> None:
    found, sampled = await LogQuery(store).patterns(selection('-service = "late"'), SECONDS)
    assert sampled == len(ROWS)
    assert {p.template: p.count for p in found} == Counter(row["message"] for row in ROWS)
    request = logs_pb2.IngestLogsRequest()
    for _ in range(200):
        entry = request.entries.add(message="burst", level=4, service="shop", labels={"burst": "yes"})
        entry.timestamp.FromNanoseconds(START + 30 * MINUTE)
    await store.write([(Position(5000), header(), columns(request))], "burst")
    anomalies = await LogQuery(store).anomalies(selection('service = "shop"'), MINUTE, SECONDS)
    usual = Counter(
        row["timestamp"] // MINUTE * MINUTE for row in ROWS if row["service"] == "shop" and row["level"] == "ERROR"
    )
    first = anomalies[0]
    assert (first.timestamp, first.service, first.level) == (START + 30 * MINUTE, "shop", Level.ERROR)
    assert first.count == 200 + usual[START + 30 * MINUTE]
    assert first.score > 50


async def test_one_tenant_never_sees_another(store: LogStore) -> None:
    assert await search(store, SearchQuery(selection(tenant="other"), True, 10)) == []
    assert (await LogQuery(store).count(CountQuery(selection(tenant="other"), MINUTE, ()), SECONDS)).total == 0
    assert await store.tail("other", None, [(0, 2**62)], 10, SECONDS) == []


async def test_every_kind_of_value_survives_the_round_trip(store: LogStore) -> None:
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START - DAY + 123_456_789)
    record.body.string_value = "every kind\x00 of value"
    attributes = record.attributes
    for key, field, value in (
        ("text", "string_value", "값"),
        ("empty", "string_value", ""),
        ("zero", "int_value", 0),
        ("exact", "int_value", 2**53),
        ("large", "int_value", -(2**63)),
        ("double", "double_value", 0.1),
        ("double_zero", "double_value", 0.0),
        ("infinite", "double_value", float("inf")),
        ("no", "bool_value", False),
        ("yes", "bool_value", True),
        ("bytes", "bytes_value", b"\x00\xff"),
    ):
        setattr(attributes.add(key=key).value, field, value)
    attributes.add(key="null")
    items = attributes.add(key="list").value.array_value.values
    items.add(int_value=2**60)
    items.add(bytes_value=b"\xff")
    items.add()
    items.add(kvlist_value={"values": [{"key": "k", "value": {"bool_value": False}}, {"key": ""}]})
    attributes.add(key="map").value.kvlist_value.SetInParent()
    await store.write([(Position(6000), header(), columns(request, convert.OTLP))], "kinds")
    (entry,) = await search(store, SearchQuery(selection("", START - DAY, START - DAY + MINUTE), True, 10))
    message = convert.log_entry(entry)
    assert message.message == "every kind\x00 of value"
    assert message.timestamp.ToNanoseconds() == START - DAY + 123_456_789
    assert json_format.MessageToDict(message)["metadata"] == {
        "text": "값",
        "empty": "",
        "zero": 0,
        "exact": 2**53,
        "large": str(-(2**63)),
        "double": 0.1,
        "double_zero": 0,
        "infinite": "Infinity",
        "no": False,
        "yes": True,
        "bytes": "AP8=",
        "null": None,
        "map": {},
        "list": [str(2**60), "/w==", None, {"k": False, "": None}],
    }


async def test_wrong_questions_are_refused(store: LogStore) -> None:
    query = LogQuery(store)
    for group_by in (("message",), ("labels.",), ("labels",), ("level", "metadata.x")):
        with pytest.raises(InvalidArgumentError, match="group_by"):
            await query.count(CountQuery(selection(), MINUTE, group_by), SECONDS)
    with pytest.raises(InvalidArgumentError, match="step"):
        await query.count(CountQuery(selection(), 1_000_000, ()), SECONDS)
    with pytest.raises(InvalidArgumentError, match="no field"):
        await search(store, SearchQuery(selection("levl = ERROR"), True, 10))
    with pytest.raises(DeadlineExceededError):
        await query.patterns(selection(), 0.0)


@pytest.mark.parametrize("part", ["(timeout OR (order AND ", "-(timeout OR -(서비 OR ", "-(order AND (timeout OR "])
async def test_a_filter_may_be_as_deep_as_the_parser_takes(store: LogStore, part: str) -> None:
    text = part * 16 + "mail" + "))" * 16
    found = await search(store, SearchQuery(selection(text), True, 5000))
    # Others are of other tests.
    positions = [entry.ingest_position for entry in found if entry.ingest_position // MAX_ROWS in POSITIONS]
    assert sorted(positions) == [row["position"] for row in chosen(selection(text))]


async def test_what_is_too_deep_for_a_store_is_said_to_be(store: LogStore) -> None:
    text = "(order timeout OR " * 32 + "mail" + ")" * 32
    if isinstance(store, ElasticsearchLogStore):
        with pytest.raises(InvalidArgumentError, match="flatten it"):
            await search(store, SearchQuery(selection(text), True, 2000))
        return
    found = await search(store, SearchQuery(selection(text), True, 5000))
    assert sum(entry.ingest_position // MAX_ROWS in POSITIONS for entry in found) == len(chosen(selection(text)))


async def test_ids_of_stored_requests_are_read_back(store: LogStore) -> None:
    now = time.time_ns()
    request = logs_pb2.IngestLogsRequest(entries=[logs_pb2.LogEntry(message="m", service="late")])
    fresh = Header("default", convert.UNARY, now, 1, request_id="fresh")
    await store.write([(Position(6500), fresh, columns(request))], "ids")
    recent = RecentIds(clock=time.time_ns)
    await store.load_ids(recent)
    # The others were received long ago.
    assert len(recent) == 1


async def test_too_many_buckets_are_refused(store: LogStore) -> None:
    request = logs_pb2.IngestLogsRequest()
    for number in range(20):
        for at in range(10_500):
            entry = request.entries.add(message="m", level=1, labels={"many": str(number)})
            entry.timestamp.FromNanoseconds(START - 2 * DAY + at * 1_000_000_000)
        if len(request.entries) > 50_000 or number == 19:
            await store.write([(Position(7000 + number), header(), columns(request))], f"many-{number}")
            del request.entries[:]
    query = CountQuery(selection("", START - 2 * DAY, START - 2 * DAY + 10_500 * 10**9), 10**9, ("labels.many",))
    with pytest.raises(ResourceExhaustedError, match="buckets"):
        await LogQuery(store).count(query, SECONDS)
