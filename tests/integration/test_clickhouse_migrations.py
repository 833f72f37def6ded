"""Replicas that start at the same time bring one server's tables up to date together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from clickhouse_signals import signals
from clickhouse_world import opened, own_database

from deploy.servers import Server

pytestmark = pytest.mark.servers

_REPLICAS = 6
_REPLICA = """
import asyncio, sys
from services.logs.config import LogsConfig
from services.logs.store.adapters.clickhouse import ClickHouseLogStore
from services.metrics.config import MetricsConfig
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.clickhouse.client import ClickHouse
from services.traces.config import TracesConfig
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    days = {"raw_retention_days": 33}
    clickhouse = ClickHouse(sys.argv[1])
    await clickhouse.open()
    await asyncio.gather(
        ClickHouseMetricStore(clickhouse, MetricsConfig(**days)).open(),
        ClickHouseLogStore(clickhouse, LogsConfig(**days)).open(),
        ClickHouseTraceStore(clickhouse, TracesConfig(**days)).open(),
    )
    await clickhouse.close()

asyncio.run(main())
"""


async def test_replicas_that_start_at_once_make_the_tables_together(clickhouse_server: Server) -> None:
    dsn = own_database(clickhouse_server.url)
    await asyncio.to_thread(start_together, dsn)
    async with opened(dsn) as clickhouse:
        assert await facts(dsn) == await facts_of_one_alone(clickhouse_server)
        for signal in signals(clickhouse):
            await signal.write(0)


def start_together(dsn: str) -> None:
    command = [sys.executable, "-c", _REPLICA, dsn]
    root = Path(__file__).parents[2]
    replicas = [
        subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(_REPLICAS)
    ]
    try:
        for replica in replicas:
            assert replica.stdout is not None
            assert replica.stdout.readline() == "ready\n"
        for replica in replicas:
            assert replica.stdin is not None
            replica.stdin.write("go\n")
            replica.stdin.flush()
        for replica in replicas:
            output, _ = replica.communicate(timeout=60)
            assert replica.returncode == 0, output
    finally:
        for replica in replicas:
            replica.kill()
            replica.wait()


async def facts_of_one_alone(server: Server) -> list[object]:
    dsn = own_database(server.url)
    await asyncio.to_thread(run_alone, dsn)
    async with opened(dsn):
        return await facts(dsn)


def run_alone(dsn: str) -> None:
    subprocess.run(
        [sys.executable, "-c", _REPLICA, dsn],
        cwd=Path(__file__).parents[2],
        input="go\n",
        text=True,
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )


async def facts(dsn: str) -> list[object]:
    """The migrations that are recorded, and what each table is."""
    async with opened(dsn, drops=False) as clickhouse:
        applied = await clickhouse.rows(
            "SELECT DISTINCT signal, number, checksum FROM airis.migrations ORDER BY ALL", timeout=30
        )
        tables = await clickhouse.rows(
            "SELECT name, replaceAll(create_table_query, {database:String}, '') AS text FROM system.tables "
            "WHERE database = {database:String} ORDER BY name",
            {"database": clickhouse.database},
            timeout=30,
        )
    return [
        applied,
        [(row["name"], row["text"].split(" UUID ")[0], "toIntervalDay(33)" in row["text"]) for row in tables],
    ]
