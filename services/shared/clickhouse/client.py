"""A bounded pool of blocking ClickHouse clients behind coroutines.

A chdb client serialises its queries, so each thread has a client of its own. Inserts and queries have separate
threads: a flood of queries cannot keep acknowledged data from being stored.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from services.shared.clickhouse.blocks import insert_block, settings_clause
from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.clickhouse.faults import late, translate, unavailable
from services.shared.clickhouse.layout import Layout
from services.shared.clickhouse.room import Room
from services.shared.clickhouse.target import DATABASE, Target, read_target
from services.shared.errors import ResourceExhaustedError

ResultT = TypeVar("ResultT")

_CHECK_SECONDS = 2.0
# A server that ends a query at its deadline still needs a moment to say so.
_GRACE = 2.0

# A tenant's rows are on one shard: joins and subqueries stay there.
_READING_A_CLUSTER = {"distributed_product_mode": "local", "optimize_skip_unused_shards": 1}
_SMALL_BYTES = 1024 * 1024
# Stored means stored on the shards.
_WRITING_TO_A_CLUSTER = {"distributed_foreground_insert": 1}
# A table has a partition a month, and keeps up to ten years: an insert may touch each.
_INSERTING = {"async_insert": 0, "max_partitions_per_insert_block": 0}
# Measured at half the peak of lines and spans: p95 of acknowledgements is half and a third of what it was.
_ENGINE_NICENESS = 5


class ClickHouse:
    """Runs statements on one ClickHouse, in threads.

    Args:
        dsn: `chdb:///path` or `http://user:password@host:port/database`; secrets in it are never logged.
        config: What all connections share.
        query_threads: Queries that run at once; further ones wait.
        insert_threads: Inserts that run at once; further ones wait.
        max_memory_bytes: What one query may use.

    Raises:
        InvalidArgumentError: The DSN cannot be read.
    """

    def __init__(
        self,
        dsn: str | Target,
        config: ClickHouseConfig | None = None,
        *,
        query_threads: int = 4,
        insert_threads: int = 2,
        max_memory_bytes: int = 2 * 1024**3,
    ) -> None:
        self._config = config or ClickHouseConfig()
        self._target = dsn if isinstance(dsn, Target) else read_target(dsn, self._config)
        self.layout = Layout(self._config.cluster, self._config.replicated, self._target.database)
        alone = self._config.model_copy(update={"nodes": ()})
        self._servers = [
            ClickHouse(self._target.at(node), alone, query_threads=1, insert_threads=1) for node in self._config.nodes
        ]
        self._max_memory_bytes = max_memory_bytes
        begin = _give_way if self._target.is_embedded else None
        self._queries = ThreadPoolExecutor(query_threads, "clickhouse-query", begin)
        self._inserts = ThreadPoolExecutor(insert_threads, "clickhouse-insert", begin)
        # Of its own, so that whether the server answers can be told while queries wait for one that hangs.
        self._checks = ThreadPoolExecutor(1, "clickhouse-check", begin)
        # Of a server, its own operators watch the disk.
        self._room = Room(self._target.folder) if self._target.is_embedded else None
        self._watching: asyncio.Task[None] | None = None
        self._local = threading.local()
        self._clients: list[Any] = []
        self._clients_lock = threading.Lock()

    @property
    def database(self) -> str:
        """The database of the tables; statements say `airis`, and this is put in its place."""
        return self._target.database

    @property
    def is_embedded(self) -> bool:
        """Whether it runs in this process, and nobody else uses it."""
        return self._target.is_embedded

    @property
    def servers(self) -> Sequence[ClickHouse]:
        """Each server on which tables are to be made."""
        return self._servers or [self]

    async def open(self) -> None:
        """Connects and makes the database. Raises `UnavailableError` if ClickHouse does not answer."""
        for server in self.servers:
            await server.command(f"CREATE DATABASE IF NOT EXISTS {self.database} ENGINE = Atomic")
        if self._room is not None and self._watching is None:
            self._watching = asyncio.create_task(self._room.keep(self._tell), name="room for ClickHouse")

    async def check(self) -> None:
        """Raises `AirisError` with the reason if ClickHouse does not answer now, within seconds."""

        def ask(client: Any) -> None:
            self._give(client, _CHECK_SECONDS)
            client.command("SELECT 1")

        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._run(self._checks, ask)
        except TimeoutError:
            raise unavailable() from None

    async def close(self) -> None:
        """Waits for what runs and closes the clients."""
        watching, self._watching = self._watching, None
        if watching is not None and not watching.done():
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        for server in self._servers:
            await server.close()
        for executor in (self._inserts, self._queries, self._checks):
            await asyncio.to_thread(executor.shutdown)
        for client in self._clients:
            await asyncio.to_thread(client.close)
        self._clients.clear()

    async def query(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        timeout: float,
        max_rows: int = 1_000_000,
        max_bytes: int | None = None,
        for_insert: bool = False,
    ) -> pa.Table:
        """Runs a SELECT.

        Args:
            sql: With `{name:Type}` where a parameter stands.
            parameters: The values; never part of the text.
            timeout: Seconds after which ClickHouse gives up.
            max_rows: Rows of the result beyond which it is refused.
            max_bytes: Bytes of the result, uncompressed, beyond which it is refused; None: any.
            for_insert: Whether an insert waits for it: then it does not wait behind other queries.

        Raises:
            DeadlineExceededError: It took longer than `timeout`.
            ResourceExhaustedError: The result is too large, or it needed too much memory.
            UnavailableError: ClickHouse did not answer.
        """
        ends_at = time.monotonic() + timeout
        settings = {
            "max_result_rows": max_rows,
            "result_overflow_mode": "throw",
            "max_memory_usage": self._max_memory_bytes,
            "optimize_read_in_order": 1,
            **({} if max_bytes is None else {"max_result_bytes": max_bytes}),
            **(_READING_A_CLUSTER if self.layout.cluster else {}),
        }
        if "hasAllTokens(" in sql:
            # With this the newest few are found without the text index, and so by other words (ClickHouse 26.7).
            settings["use_top_k_dynamic_filtering"] = 0

        def ask(client: Any) -> pa.Table:
            # It may have waited for its thread: nobody wants an answer after the deadline.
            left = ends_at - time.monotonic()
            if left <= 0:
                raise late()
            self._give(client, left + _GRACE)
            limited = {**settings, "max_execution_time": max(left, 0.001)}
            # In the text: for settings beside it the driver sets and restores each by a statement of its own (chdb).
            return client.query_arrow(f"{text}\n{settings_clause(limited)}", parameters=dict(parameters or {}))

        text = self._target.localize(sql)
        table = await self._run(self._inserts if for_insert else self._queries, ask)
        # A text that ClickHouse has once in a dictionary is here in each row.
        if max_bytes is not None and table.nbytes > max_bytes:
            raise ResourceExhaustedError(
                f"The result has more than {max_bytes >> 20} MiB. Ask for less at once.", reason="RESULT_TOO_LARGE"
            )
        return table

    async def insert(
        self,
        table: str,
        rows: pa.Table,
        *,
        token: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Inserts rows as one block.

        Args:
            table: Its name, without the database.
            rows: Columns named as the table's.
            token: A repeated insert with the same token stores nothing, whatever its rows are, in materialized views
                too, while it is among the newest that the table remembers. None: it stores its rows each time.
            settings: Further settings of ClickHouse.

        Raises:
            ResourceExhaustedError: The disk is full (DISK_FULL).
            UnavailableError: ClickHouse did not answer.
        """
        if rows.num_rows == 0:
            return
        if self._room is not None:
            self._room.check()
        all_settings: dict[str, object] = {**_INSERTING, **self._writing, **(settings or {})}
        # Without one, equal rows count as a repetition, and a server that was killed amid the first may lack them.
        all_settings["insert_deduplication_token"] = token or uuid.uuid4().hex
        all_settings["deduplicate_blocks_in_dependent_materialized_views"] = 1
        name = self._target.localize(f"{DATABASE}.{table}")

        def write(client: Any) -> None:
            insert_block(client, name, rows, all_settings, is_embedded=self.is_embedded)

        await self._run(self._inserts, write)

    async def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement that gives no rows, such as DDL."""
        text = self._target.localize(sql)
        await self._run(
            self._inserts,
            lambda client: client.command(text, parameters=dict(parameters or {}), settings=dict(self._writing)),
        )

    async def _tell(self, statement: str) -> None:
        # Not behind inserts, which may be what waits for it.
        await self._run(self._checks, lambda client: client.command(statement))

    async def retain(self, table: str, column: str, days: int) -> None:
        """Sets how long a table keeps its rows, unless it is set so already. Names and days are the program's own."""
        for server in self.servers:
            await server._retain_here(self.layout.local(table), column, days)

    async def _retain_here(self, table: str, column: str, days: int) -> None:
        clause = f"toDateTime({column}) + toIntervalDay({days})"
        rows = await self.rows(
            "SELECT create_table_query AS text FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": self.database, "table": table},
            timeout=30.0,
        )
        if clause not in rows[0]["text"]:
            await self.command(
                f"ALTER TABLE {DATABASE}.{table} MODIFY TTL {clause} SETTINGS materialize_ttl_after_modify = 0"
            )

    async def rows(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        timeout: float,
        max_bytes: int | None = None,
        for_insert: bool = False,
    ) -> Sequence[Any]:
        """Runs a SELECT with a small result and gives it as dictionaries. See `query`."""
        table = await self.query(
            sql, parameters, timeout=timeout, max_rows=100_000, max_bytes=max_bytes, for_insert=for_insert
        )
        # Many, or large ones, take longer than the way to a thread and back.
        rows = await asyncio.to_thread(table.to_pylist) if table.nbytes > _SMALL_BYTES else table.to_pylist()
        return list(rows)

    @property
    def _writing(self) -> Mapping[str, object]:
        return _WRITING_TO_A_CLUSTER if self.layout.cluster else {}

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[[Any], ResultT]) -> ResultT:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, self._call, call)
        except ClickHouseError as error:
            raise translate(error) from error
        except (OSError, RuntimeError, HTTPError) as error:
            raise unavailable() from error

    def _call(self, call: Callable[[Any], ResultT]) -> ResultT:
        client = self._client()
        try:
            return call(client)
        except Exception:
            if self._target.is_embedded:
                self._replace(client)
            raise

    def _replace(self, client: Any) -> None:
        """The next answer of a client whose query failed would begin with what is left of this one (chdb 26.9)."""
        self._local.client = None
        # First the new one: with its last client the engine would end.
        with suppress(ClickHouseError, OSError, RuntimeError):
            self._client()
        with self._clients_lock:
            self._clients.remove(client)
            client.close()

    def _client(self) -> Any:
        """The client of this thread. It finds a server that was restarted by itself."""
        client = getattr(self._local, "client", None)
        if client is None:
            if self._target.is_embedded:
                with self._clients_lock:
                    client = clickhouse_connect.get_client(**self._target.arguments())
            else:
                # Not under the lock: a server that hangs must not make the threads wait for each other.
                client = clickhouse_connect.get_client(
                    **self._target.arguments(),
                    connect_timeout=math.ceil(self._config.connect_timeout),
                    send_receive_timeout=math.ceil(self._config.request_timeout),
                    # A request that was given up may still run: with a session, the next one would be refused.
                    autogenerate_session_id=False,
                    dedicated_pool=True,
                )
            self._local.client = client
            self._clients.append(client)
        return client

    def _give(self, client: Any, seconds: float) -> None:
        """Bounds how long the thread waits for a server without a sign of life."""
        if not self._target.is_embedded:
            read = min(seconds, self._config.request_timeout)
            client.timeout = Timeout(connect=self._config.connect_timeout, read=read)


def _give_way() -> None:
    """Lets calls that wait for an answer go before inserts and merges, where both want the processor.

    Threads that the engine in this process makes have the priority of the one that first asked it for something.
    """
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _ENGINE_NICENESS
        )
