"""A bounded pool of blocking ClickHouse clients behind coroutines.

A chdb client serialises its queries, so each thread has a client of its own. Inserts and queries have separate
threads: a flood of queries cannot keep acknowledged data from being stored.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    ResourceExhaustedError,
    UnavailableError,
)

logger = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")

DATABASE = "airis"

_TIMEOUT_CODES = {159, 160}
_TOO_LARGE_CODES = {158, 191, 307, 396}
_MEMORY_CODES = {241}
_DISK_FULL_CODES = {243}
# Network, aborted and read-only states: what passes by itself.
_PASSING_CODES = {202, 209, 210, 236, 242, 252, 279, 394, 425, 1000, 1001}
_NOT_ENOUGH_SPACE = "No space left on device"


class ClickHouse:
    """Runs statements on one ClickHouse, in threads.

    Args:
        dsn: `chdb:///path` or `http://host:port`; secrets in it are never logged.
        query_threads: Queries that run at once; further ones wait.
        insert_threads: Inserts that run at once; further ones wait.
        max_memory_bytes: What one query may use.
    """

    def __init__(
        self,
        dsn: str,
        *,
        query_threads: int = 4,
        insert_threads: int = 2,
        max_memory_bytes: int = 2 * 1024**3,
    ) -> None:
        self._dsn = dsn
        self._max_memory_bytes = max_memory_bytes
        self._queries = ThreadPoolExecutor(query_threads, thread_name_prefix="clickhouse-query")
        self._inserts = ThreadPoolExecutor(insert_threads, thread_name_prefix="clickhouse-insert")
        self._local = threading.local()
        self._clients: list[Any] = []
        self._clients_lock = threading.Lock()

    async def open(self) -> None:
        """Connects and makes the database. Raises `UnavailableError` if ClickHouse does not answer."""
        await self.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")

    async def close(self) -> None:
        """Waits for what runs and closes the clients."""
        for executor in (self._inserts, self._queries):
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
    ) -> pa.Table:
        """Runs a SELECT.

        Args:
            sql: With `{name:Type}` where a parameter stands.
            parameters: The values; never part of the text.
            timeout: Seconds after which ClickHouse gives up.
            max_rows: Rows of the result beyond which it is refused.

        Raises:
            DeadlineExceededError: It took longer than `timeout`.
            ResourceExhaustedError: The result is too large, or it needed too much memory.
            UnavailableError: ClickHouse did not answer.
        """
        settings = {
            "max_execution_time": max(timeout, 0.001),
            "max_result_rows": max_rows,
            "result_overflow_mode": "throw",
            "max_memory_usage": self._max_memory_bytes,
            "optimize_read_in_order": 1,
        }
        return await self._run(
            self._queries,
            lambda client: client.query_arrow(sql, parameters=dict(parameters or {}), settings=settings),
        )

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
            token: A repeated insert with the same token stores nothing, in materialized views too.
            settings: Further settings of ClickHouse.

        Raises:
            ResourceExhaustedError: The disk is full (DISK_FULL).
            UnavailableError: ClickHouse did not answer.
        """
        if rows.num_rows == 0:
            return
        all_settings: dict[str, object] = {"async_insert": 0, **(settings or {})}
        if token is not None:
            all_settings["insert_deduplication_token"] = token
            all_settings["deduplicate_blocks_in_dependent_materialized_views"] = 1
        await self._run(
            self._inserts,
            lambda client: client.insert_arrow(f"{DATABASE}.{table}", rows, settings=all_settings),
        )

    async def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement that gives no rows, such as DDL."""
        await self._run(self._inserts, lambda client: client.command(sql, parameters=dict(parameters or {})))

    async def retain(self, table: str, column: str, days: int) -> None:
        """Sets how long a table keeps its rows, unless it is set so already. Names and days are the program's own."""
        clause = f"toDateTime({column}) + toIntervalDay({days})"
        rows = await self.rows(
            "SELECT create_table_query AS text FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": DATABASE, "table": table},
            timeout=30.0,
        )
        if clause not in rows[0]["text"]:
            await self.command(
                f"ALTER TABLE {DATABASE}.{table} MODIFY TTL {clause} SETTINGS materialize_ttl_after_modify = 0"
            )

    async def rows(self, sql: str, parameters: Mapping[str, object] | None = None, *, timeout: float) -> Sequence[Any]:
        """Runs a SELECT with a small result and gives it as dictionaries."""
        table = await self.query(sql, parameters, timeout=timeout, max_rows=100_000)
        return list(table.to_pylist())

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[[Any], ResultT]) -> ResultT:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, lambda: call(self._client()))
        except ClickHouseError as error:
            raise _translate(error) from error
        except (OSError, RuntimeError) as error:
            raise UnavailableError(
                "The store does not answer. Try again shortly.", reason="STORE_UNAVAILABLE", retry_after=1.0
            ) from error

    def _client(self) -> Any:
        client = getattr(self._local, "client", None)
        if client is None:
            with self._clients_lock:
                client = clickhouse_connect.get_client(dsn=self._dsn)
                self._clients.append(client)
            self._local.client = client
        return client


def _translate(error: ClickHouseError) -> AirisError:
    code = getattr(error, "code", None)
    if code in _TIMEOUT_CODES:
        return DeadlineExceededError(
            "The query took longer than its deadline. Ask for a shorter range or fewer series."
        )
    if code in _TOO_LARGE_CODES:
        return ResourceExhaustedError(
            "The result is too large. Ask for a shorter range, a longer step or fewer groups.",
            reason="RESULT_TOO_LARGE",
        )
    if code in _DISK_FULL_CODES or _NOT_ENOUGH_SPACE in str(error):
        return ResourceExhaustedError("The disk of the store is full.", reason="DISK_FULL", retry_after=30.0)
    if code in _MEMORY_CODES:
        return ResourceExhaustedError(
            "The query needs more memory than is allowed. Ask for a shorter range or fewer groups.",
            reason="RESULT_TOO_LARGE",
        )
    # What ClickHouse says may hold parts of the data: it belongs into the log, not into the answer.
    logger.error("clickhouse_error", code=code, error=str(error)[:2000])
    if code is None or code in _PASSING_CODES:
        return UnavailableError(
            "The store failed to answer. Try again shortly.", reason="STORE_UNAVAILABLE", retry_after=1.0
        )
    return AirisError("The store refused the statement; the service's log says why.")
