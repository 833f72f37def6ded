"""A ClickHouse server that is away, hangs or refuses: what callers are told, and that all heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import structlog
from clickhouse_world import opened

from deploy.servers import Server, make_server
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.errors import AirisError, UnavailableError

pytestmark = pytest.mark.servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = make_server("clickhouse", tmp_path / "clickhouse")
    server.start()
    yield server
    server.stop()


async def test_a_server_that_is_killed_is_unavailable_until_it_is_back(server: Server) -> None:
    async with opened(f"{server.url}/airis_test") as clickhouse:
        # Every thread has a connection to the server that will be gone.
        await asyncio.gather(*(clickhouse.rows("SELECT sleep(0.2)", timeout=5) for _ in range(4)))
        await asyncio.to_thread(server.kill)
        for call in (clickhouse.check(), clickhouse.rows("SELECT 1", timeout=5), clickhouse.command("SELECT 1")):
            with pytest.raises(UnavailableError) as caught:
                await call
            assert caught.value.reason == "STORE_UNAVAILABLE"
        await asyncio.to_thread(server.start)
        await clickhouse.check()
        answers = await asyncio.gather(*(clickhouse.rows("SELECT 7 AS n", timeout=5) for _ in range(8)))
        assert answers == [[{"n": 7}]] * 8


async def test_a_server_that_hangs_lets_go_of_threads_in_time(server: Server) -> None:
    config = ClickHouseConfig(request_timeout=2)
    async with opened(f"{server.url}/airis_test", config) as clickhouse:
        await clickhouse.command(
            "CREATE TABLE airis.t (a Int64) ENGINE = MergeTree ORDER BY a "
            "SETTINGS non_replicated_deduplication_window = 100"
        )
        await clickhouse.check()
        rows = pa.table({"a": [1, 2, 3]})
        await clickhouse.insert("t", rows, token="before")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            calls = [clickhouse.rows("SELECT 1", timeout=1) for _ in range(4)]
            answers = await asyncio.gather(
                clickhouse.check(), clickhouse.insert("t", rows, token="hung"), *calls, return_exceptions=True
            )
            assert all(isinstance(answer, AirisError) for answer in answers), answers
            assert time.monotonic() - begun < 10
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await clickhouse.check()
        # Whether the server took what it was sent while it hung or not: repeated, it is there once.
        await clickhouse.insert("t", rows, token="hung")
        (row,) = await clickhouse.rows("SELECT count() AS n FROM airis.t", timeout=5)
        assert row == {"n": 6}


async def test_the_password_is_read_from_its_file_and_never_told(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong-and-secret\n")
    clickhouse = ClickHouse(server.url, ClickHouseConfig(password_file=file))
    with structlog.testing.capture_logs() as logs, pytest.raises(AirisError) as caught:
        await clickhouse.open()
    assert "secret" not in f"{caught.value.message}{logs}{clickhouse.__dict__}"
    # A password that was changed is taken without a restart.
    file.write_text("\n")
    await clickhouse.open()
    await clickhouse.check()
    await clickhouse.close()


async def test_a_server_that_was_never_there_is_unavailable(tmp_path: Path) -> None:
    absent = make_server("clickhouse", tmp_path / "clickhouse")
    clickhouse = ClickHouse(f"http://somebody:very-secret@{absent.address}/airis")
    with structlog.testing.capture_logs() as logs, pytest.raises(UnavailableError) as caught:
        await clickhouse.open()
    assert "secret" not in f"{caught.value.message}{caught.value.__cause__}{logs}"
    with contextlib.suppress(UnavailableError):
        await clickhouse.close()
