"""Migration 0004: what was stored before it is read as before, beside what is stored after it and merged with it."""

from __future__ import annotations

import random
from importlib.resources import files
from pathlib import Path

import pytest
from airis.logs.v1 import logs_pb2
from clickhouse_signals import NOW, header
from clickhouse_world import ENGINES, dsn_of, migrations_before, opened
from trace_world import TENANT, TIMEOUT, columns_of

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import LogColumns, LogEntry, SearchQuery, Selection
from services.logs.query import SCHEMA
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.shared.bus.port import Position
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.migrations import migrate
from services.shared.filter import read_filter
from services.traces.config import TracesConfig
from services.traces.model import LatencyQuery, Span, SpanKind, StatusCode, TraceOrder, TraceSearch, TraceSummary
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

SECOND = 1_000_000_000
BEGIN = NOW - 3600 * SECOND
# More than one of the blocks that a word's lines are packed in.
LINES = 600
TRACES = 40
FILTERS = ("", 'message:"결제"', "message:timeout", "message:rare", "level = ERROR")
WORDS = ("주문", "결제가", "timeout", "upstream", "order", "retry", "java.net.ConnectException", "지연")


async def run_again(clickhouse: ClickHouse, signal: str) -> None:
    """As another replica does that started at the same time."""
    text = (files(f"services.{signal}.store") / "sql" / "0004_cheaper_storing.sql").read_text(encoding="utf-8")
    for statement in clickhouse.layout.statements(text):
        await clickhouse.command(statement)


async def columns_of_table(clickhouse: ClickHouse, table: str) -> dict[str, str]:
    """How each column of a table is compressed."""
    rows = await clickhouse.rows(
        "SELECT name, compression_codec AS codec FROM system.columns "
        "WHERE database = {database:String} AND table = {table:String}",
        {"database": clickhouse.database, "table": table},
        timeout=TIMEOUT,
    )
    return {row["name"]: row["codec"] for row in rows}


def lines(number: int) -> LogColumns:
    chance = random.Random(number)
    request = logs_pb2.IngestLogsRequest()
    for row in range(LINES):
        text = " ".join(chance.choices(WORDS, k=12)) + (" rare" if row % 299 == 0 else f" {row}")
        entry = request.entries.add(
            message=text,
            level=chance.choice([2, 2, 2, 4]),
            service=chance.choice(["shop", "결제"]),
            status_code=chance.choice([0, -1, 200, 2**31 - 1, -(2**31)]),
            labels={"host": f"h{chance.randrange(9)}", "빈": ""},
        )
        # From far apart to the same nanosecond, in no order.
        entry.timestamp.FromNanoseconds(BEGIN + chance.choice([0, 1, chance.randrange(3600 * SECOND)]))
        entry.metadata["ratio"].number_value = chance.choice([0.0, -0.0, 1e308, chance.random()])
        entry.metadata["attempt"].number_value = chance.choice([0, 3, 2**53])
        entry.metadata["thread"].string_value = f"worker-{chance.randrange(9)}"
    records = convert.read(convert.UNARY, [request.SerializeToString()]).items
    checked = Checker(LogsConfig()).check(records, TENANT, NOW)
    assert checked.rejected == {}
    return checked.columns


def calls(number: int) -> list[Span]:
    """Traces of two services; some fail, or do not end."""
    chance = random.Random(number)
    spans = []
    for trace in range(TRACES):
        start = BEGIN + chance.choice([0, chance.randrange(3500 * SECOND)])
        parent = ""
        for place in range(8):
            begin = start + place * 1_000_000
            end = chance.choice([begin, begin + chance.randrange(SECOND), begin + 3_000 * SECOND, None])
            status = chance.choice([StatusCode.UNSPECIFIED, StatusCode.ERROR])
            kind = chance.choice([SpanKind.CLIENT, SpanKind.SERVER])
            span_id = f"{chance.getrandbits(63) + 1:016x}"
            tags = {"user": f"사용자-{chance.randrange(99)}", "code": chance.choice([0, -1, 2**40])}
            service, operation = ("web", "shop")[place % 2], f"op-{place}"
            trace_id = f"{number:016x}{trace + 1:016x}"
            spans.append(Span(trace_id, span_id, parent, operation, service, begin, end, kind, status, "", tags))
            parent = span_id
    return spans


@pytest.mark.parametrize("engine", ENGINES)
async def test_log_entries_stay_as_they_are(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(dsn_of(engine, request, tmp_path / "data")) as clickhouse:
        store = ClickHouseLogStore(clickhouse, LogsConfig(raw_retention_days=3650))

        async def write(number: int) -> None:
            await store.write([(Position(number), header(number), lines(number))], f"token-{number}")

        async def found(last: int) -> list[list[LogEntry]]:
            """What came up to a batch, by each filter."""
            selections = [Selection(TENANT, text, BEGIN, NOW) for text in FILTERS]
            arrived = ((0, ((last + 1) << 18) - 1),)
            return [
                await store.search(
                    SearchQuery(selection, newest_first=False, limit=100_000, arrived=arrived),
                    read_filter(selection.filter, SCHEMA),
                    TIMEOUT,
                )
                for selection in selections
            ]

        await migrate(clickhouse, "logs", migrations_before("logs", "0004", tmp_path / "sql"))
        for number in (1, 2):
            await write(number)
        before, kept_before = await found(2), await columns_of_table(clickhouse, "logs")
        assert [len(entries) for entries in before][::3] == [2 * LINES, 2 * 3]
        await store.open()
        assert await found(2) == before
        assert await columns_of_table(clickhouse, "logs") != kept_before
        await store.open()
        await run_again(clickhouse, "logs")
        for number in (3, 2):
            await write(number)
        assert await found(2) == before
        with_new = await found(3)
        assert len(with_new[0]) == 3 * LINES
        await clickhouse.command("OPTIMIZE TABLE airis.logs FINAL")
        assert await found(2) == before
        assert await found(3) == with_new


@pytest.mark.parametrize("engine", ENGINES)
async def test_spans_stay_as_they_are(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(dsn_of(engine, request, tmp_path / "data")) as clickhouse:
        store = ClickHouseTraceStore(clickhouse, TracesConfig(raw_retention_days=3650))

        async def write(number: int) -> None:
            await store.write([(header(number), columns_of(calls(number), NOW))], f"token-{number}")

        async def found(number: int) -> tuple[list[TraceSummary], list[list[Span]]]:
            """The traces of an insert, and all that is kept of their spans."""
            search = TraceSearch(TENANT, "", BEGIN, NOW, TraceOrder.OLDEST, None, 100_000)
            prefix = f"{number:016x}"
            every = await store.search(search, None, TIMEOUT)
            traces = [trace for trace in every if trace.trace_id.startswith(prefix)]
            return traces, [await store.trace(TENANT, trace.trace_id, 100, TIMEOUT) for trace in traces[:4]]

        async def figures() -> list[object]:
            return [
                await store.services(TENANT, BEGIN, NOW, "", 10, TIMEOUT),
                await store.operations(TENANT, "web", BEGIN, NOW, ("", 0), 100, TIMEOUT),
                await store.latency(LatencyQuery(TENANT, "shop", "", BEGIN, NOW, 60 * SECOND), TIMEOUT),
            ]

        await migrate(clickhouse, "traces", migrations_before("traces", "0004", tmp_path / "sql"))
        for number in (1, 2):
            await write(number)
        before, figures_before = [await found(1), await found(2)], await figures()
        kept_before = [await columns_of_table(clickhouse, table) for table in ("spans", "traces")]
        assert [len(traces) for traces, _ in before] == [TRACES, TRACES]
        assert sorted(before[0][1][0], key=lambda span: span.start_ns) == _of_trace(calls(1), before[0][0][0].trace_id)
        await store.open()
        kept = [await columns_of_table(clickhouse, table) for table in ("spans", "traces")]
        assert all(new != old for new, old in zip(kept, kept_before, strict=True))
        await store.open()
        await run_again(clickhouse, "traces")
        await write(2)
        assert await figures() == figures_before
        await write(3)
        assert [await found(1), await found(2)] == before
        new, figures_of_all = await found(3), await figures()
        assert len(new[0]) == TRACES
        for table in ("spans", "traces", "span_red_1m"):
            await clickhouse.command(f"OPTIMIZE TABLE airis.{table} FINAL")
        assert [await found(1), await found(2), await found(3)] == [*before, new]
        assert await figures() == figures_of_all


def _of_trace(spans: list[Span], trace_id: str) -> list[Span]:
    return [span for span in spans if span.trace_id == trace_id]
