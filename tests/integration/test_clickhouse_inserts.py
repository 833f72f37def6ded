"""Each insert is in every table once: written at the same time by two, and through kills of the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_signals import ROWS, Signal, signals, stored
from clickhouse_world import opened, own_database

from deploy.servers import Server, make_server
from services.shared.errors import UnavailableError

pytestmark = pytest.mark.servers

_ROUNDS = 12
_KILLS = 5


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = make_server("clickhouse", tmp_path / "clickhouse")
    server.start()
    yield server
    server.stop()


async def test_the_same_insert_by_two_at_the_same_time_is_stored_once(clickhouse_server: Server) -> None:
    dsn = own_database(clickhouse_server.url)
    async with opened(dsn) as clickhouse, opened(dsn, drops=False) as other:
        for mine, others in zip(signals(clickhouse), signals(other), strict=True):
            await mine.open()
            for number in range(_ROUNDS):
                await asyncio.gather(mine.write(number), others.write(number), mine.write(number))
            assert await stored(clickhouse, mine) == dict.fromkeys(mine.figures, _ROUNDS * ROWS)


async def test_inserts_are_stored_once_through_kills_of_the_server(own_server: Server) -> None:
    chance = random.Random(5)
    async with opened(f"{own_server.url}/airis_test", insert_threads=3) as clickhouse:
        all_signals = signals(clickhouse)
        for signal in all_signals:
            await signal.open()
        failures = [0]
        ended = asyncio.Event()
        writers = [asyncio.create_task(keep_writing(signal, failures, ended)) for signal in all_signals]
        for _ in range(_KILLS):
            # From in the middle of one insert to some inserts later.
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
        ended.set()
        written = await asyncio.gather(*writers)
        assert failures[0] >= _KILLS, "the server was killed while nothing was written"
        for signal, inserts in zip(all_signals, written, strict=True):
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, inserts * ROWS), signal.name


async def keep_writing(signal: Signal, failures: list[int], ended: asyncio.Event) -> int:
    """Writes one insert after another, each until it succeeds; gives their number."""
    number = 0
    while not ended.is_set():
        while True:
            try:
                await signal.write(number)
                break
            except UnavailableError:
                failures[0] += 1
                await asyncio.sleep(0.05)
        number += 1
    return number
