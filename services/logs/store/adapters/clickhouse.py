"""Logs in ClickHouse, in-process or as a server: one SQL, two DSNs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from services.logs.config import LogsConfig
from services.logs.model import (
    MAX_ROWS,
    METADATA_COLUMNS,
    PLAIN_COLUMNS,
    Arrived,
    Capabilities,
    CountGroup,
    CountQuery,
    Counts,
    Level,
    LogColumns,
    LogEntry,
    Sample,
    SearchQuery,
    Selection,
)
from services.logs.store.adapters import clickhouse_sql
from services.logs.store.port import MAX_BUCKETS, too_many_buckets
from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.ids import StoredIds
from services.shared.clickhouse.inserts import Inserts, Rollup, Source
from services.shared.clickhouse.migrations import migrate
from services.shared.filter import Checked

_IDS_TABLE = "log_known_ids"
_LOGS = Source(
    "logs",
    "tenant, service, timestamp, ingest_position",
    "timestamp",
    (
        Rollup(
            "logs_1m",
            "logs_to_1m",
            "tenant, service, level, timestamp",
            "tenant, service, level, toStartOfMinute(timestamp)",
            "count",
        ),
    ),
)


class ClickHouseLogStore:
    """Implements `LogWriter` and `LogReader`.

    Args:
        clickhouse: An open pool.
        config: The retention.
    """

    def __init__(self, clickhouse: ClickHouse, config: LogsConfig) -> None:
        self._clickhouse = clickhouse
        self._config = config
        self._inserts = Inserts(clickhouse, config.raw_retention_days)
        self.ids = StoredIds(clickhouse, _IDS_TABLE)

    async def open(self) -> None:
        """Brings the tables up to date and applies the retention."""
        await migrate(self._clickhouse, "logs", files("services.logs.store") / "sql")
        await self._inserts.open()
        for table in ("logs", "logs_1m"):
            await self._clickhouse.retain(table, "timestamp", self._config.raw_retention_days)

    async def load_ids(self, into: RecentIds) -> None:
        """Reads back the ids of stored requests."""
        await self.ids.load(into)

    async def write(
        self, batches: Sequence[tuple[Position, Header, LogColumns]], token: str, is_repeated: bool = False
    ) -> None:
        """See `LogWriter.write`."""
        entries = pa.concat_tables([_placed(position, columns.entries) for position, _, columns in batches])
        await self._inserts.store(_LOGS, entries, token, is_repeated)
        await self.ids.write([header for _, header, _ in batches])

    def capabilities(self) -> Capabilities:
        """See `LogReader.capabilities`."""
        return Capabilities(full_text=True, tail=True, fine_counts=True)

    async def search(self, query: SearchQuery, condition: Checked | None, timeout: float) -> list[LogEntry]:
        """See `LogReader.search`."""
        return await self._entries(clickhouse_sql.search(query, condition), timeout)

    async def tail(
        self, tenant: str, condition: Checked | None, arrived: Sequence[Arrived], limit: int, timeout: float
    ) -> list[LogEntry]:
        """See `LogReader.tail`."""
        return await self._entries(clickhouse_sql.tail(tenant, condition, arrived, limit), timeout)

    async def count(self, query: CountQuery, condition: Checked | None, timeout: float) -> Counts:
        """See `LogReader.count`."""
        sql, parameters = clickhouse_sql.count(query, condition)
        rows = await self._clickhouse.rows(sql, parameters, timeout=timeout)
        if sum(len(row["buckets"]) for row in rows) > MAX_BUCKETS:
            raise too_many_buckets()
        groups = [
            CountGroup(_fields(query.group_by, row["g"]), row["n"], [tuple(pair.values()) for pair in row["buckets"]])
            for row in rows
        ]
        return Counts(groups, rows[0]["total"] if rows else 0, query.step)

    async def sample(self, selection: Selection, condition: Checked | None, limit: int, timeout: float) -> list[Sample]:
        """See `LogReader.sample`."""
        sql, parameters = clickhouse_sql.sample(selection, condition, limit)
        rows = await self._clickhouse.rows(sql, parameters, timeout=timeout)
        return [Sample(row["text"], Level(row["level"]), row["writer"]) for row in rows]

    async def _entries(self, statement: clickhouse_sql.Statement, timeout: float) -> list[LogEntry]:
        sql, parameters = statement
        return [_entry(row) for row in await self._clickhouse.rows(sql, parameters, timeout=timeout)]


def _placed(position: Position, entries: pa.Table) -> pa.Table:
    row = entries.column("index").cast(pa.uint64())
    first = pa.scalar(int(position) * MAX_ROWS, pa.uint64())
    return entries.drop_columns("index").append_column("ingest_position", pc.add(row, first))


def _entry(row: dict[str, Any]) -> LogEntry:
    *typed, encoded = (dict(row[name]) for name in METADATA_COLUMNS)
    return LogEntry(
        ingest_position=row["ingest_position"],
        timestamp=row["time"],
        level=Level(row["level"]),
        labels=dict(row["labels"]),
        metadata={key: value for entries in typed for key, value in entries.items()},
        metadata_encoded=encoded,
        **{name: row[name] for name in PLAIN_COLUMNS},
    )


def _fields(group_by: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {
        field: Level(int(value)).name if field == "level" else value
        for field, value in zip(group_by, values, strict=True)
    }
