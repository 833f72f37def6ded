"""What the tests of stores on ClickHouse share: the same store in-process and on a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.config import ClickHouseConfig

ENGINES = ("chdb", pytest.param("clickhouse", marks=pytest.mark.servers))
"""Parameters of a fixture: in-process, and a server."""


def dsn_of(engine: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Where an empty ClickHouse of one of the `ENGINES` is: on the session's server a database of its own."""
    if engine == "chdb":
        return f"chdb://{folder}"
    return own_database(request.getfixturevalue("clickhouse_server").url)


def own_database(url: str) -> str:
    """The DSN of a database that is nobody else's, on a server."""
    return f"{url}/airis_test_{uuid.uuid4().hex[:12]}"


def migrations_before(signal: str, number: str, folder: Path) -> Path:
    """A folder with the migrations of a signal that came before one: `migrations_before("logs", "0004", folder)`."""
    folder.mkdir()
    for entry in files(f"services.{signal}.store").joinpath("sql").iterdir():
        if entry.name < number:
            (folder / entry.name).write_text(entry.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


@asynccontextmanager
async def opened(
    dsn: str, config: ClickHouseConfig | None = None, *, insert_threads: int = 2, drops: bool = True
) -> AsyncIterator[ClickHouse]:
    """An open pool; in the end a server's database is dropped, unless it is another's."""
    clickhouse = ClickHouse(dsn, config, query_threads=2, insert_threads=insert_threads)
    await clickhouse.open()
    try:
        yield clickhouse
        if drops and not dsn.startswith("chdb:"):
            await clickhouse.command(f"DROP DATABASE IF EXISTS {clickhouse.database} SYNC")
    finally:
        await clickhouse.close()
