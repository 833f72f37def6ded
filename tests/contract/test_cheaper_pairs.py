"""Migration 0006: Korean is found as before, whatever has become of the index that it takes the place of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from airis.logs.v1 import logs_pb2
from clickhouse_signals import NOW, header
from clickhouse_world import ENGINES, dsn_of, migrations_before, opened
from trace_world import TENANT, TIMEOUT

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import SearchQuery, Selection
from services.logs.query import SCHEMA
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.shared.bus.port import Position
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.migrations import migrate
from services.shared.errors import UnavailableError
from services.shared.filter import read_filter

MESSAGES = ("결제가 늦었다", "배송 Order-7 결제", "제결 순서", "plain ASCII", "큰따옴표'결제'\\{}", "결 제")


async def write(store: ClickHouseLogStore, number: int) -> None:
    message = logs_pb2.IngestLogsRequest()
    for text in MESSAGES:
        message.entries.add(message=text, service="shop").timestamp.FromNanoseconds(NOW)
    records = convert.read(convert.UNARY, [message.SerializeToString()]).items
    columns = Checker(LogsConfig()).check(records, TENANT, NOW).columns
    await store.write([(Position(number), header(number), columns)], f"token-{number}")


async def found(store: ClickHouseLogStore) -> list[str]:
    selection = Selection(TENANT, "message:결제", NOW - 1, NOW + 1)
    query = SearchQuery(selection, newest_first=False, limit=1000)
    return [entry.message for entry in await store.search(query, read_filter(selection.filter, SCHEMA), TIMEOUT)]


async def indexes(clickhouse: ClickHouse) -> set[str]:
    rows = await clickhouse.rows(
        "SELECT name FROM system.data_skipping_indices WHERE database = {database:String} AND table = 'logs'",
        {"database": clickhouse.database},
        timeout=TIMEOUT,
    )
    return {row["name"] for row in rows}


def in_text(*numbers: int) -> list[str]:
    return [text for _ in numbers for text in MESSAGES if "결제" in text]


@pytest.mark.parametrize("engine", ENGINES)
async def test_lines_of_before_and_after_are_found(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with opened(dsn_of(engine, request, tmp_path / "data")) as clickhouse:
        store = ClickHouseLogStore(clickhouse, LogsConfig(raw_retention_days=3650))
        await migrate(clickhouse, "logs", migrations_before("logs", "0006", tmp_path / "sql"))
        await write(store, 1)
        await store.open()
        await write(store, 2)
        assert await found(store) == in_text(1, 2)
        await clickhouse.command("OPTIMIZE TABLE airis.logs FINAL")
        assert await found(store) == in_text(1, 2)
        assert {"message_text", "message_neighbours"} < await indexes(clickhouse)
        assert "message_pairs" not in await indexes(clickhouse)


@pytest.mark.parametrize("engine", ENGINES)
async def test_while_the_former_index_is_being_built_the_start_waits(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path / "data")) as clickhouse:
        store = ClickHouseLogStore(clickhouse, LogsConfig(raw_retention_days=3650))
        await migrate(clickhouse, "logs", migrations_before("logs", "0006", tmp_path / "sql"))
        await write(store, 1)
        await clickhouse.command("SYSTEM STOP MERGES airis.logs")
        await clickhouse.command("ALTER TABLE airis.logs MATERIALIZE INDEX message_pairs SETTINGS mutations_sync = 0")
        with pytest.raises(UnavailableError):
            await store.open()
        await clickhouse.command("SYSTEM START MERGES airis.logs")
        async with asyncio.timeout(30):
            while True:
                try:
                    await store.open()
                    break
                except UnavailableError:
                    await asyncio.sleep(0.1)
        assert await found(store) == in_text(1)
        assert "message_pairs" not in await indexes(clickhouse)
