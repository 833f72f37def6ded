"""Inserts whose earlier attempt may have ended together with ClickHouse.

A table that is not replicated notes the token of an insert and keeps its rows afterwards, within a millisecond. A
server that is killed in between comes back with the token and without the rows, and takes the repetition for one of
what it has (seen with ClickHouse 26.7: the note is a write, the rows are a rename). So after a repetition it is looked
whether the rows are there, in the table itself and in those that views fill from it, and what is missing is put there.

A replicated table notes both in one transaction of its keeper: for a cluster nothing is done here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
import xxhash

from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.target import DATABASE
from services.shared.errors import AirisError, DeadlineExceededError, ResourceExhaustedError, UnavailableError

logger = structlog.get_logger(__name__)

_TIMEOUT = 30.0
# An insert of another worker that is under way, or was cut off as well and is repeated after a pause, is in a table and
# not yet in what is filled from it. In this process there is no other.
_LOOKS = 16
_LOOKS_ALONE = 1
_LOOK_SECONDS = 1.0
# Rows of the same key are not further away in time: those of an hour, and nearly all of a trace.
_NEARBY = timedelta(hours=1)
# Somebody else who repeats the same insert may drop the tables.
_ATTEMPTS = 3
# For so long a look that lacks memory or time is repeated with its insert.
_PATIENCE_SECONDS = 300.0
_PREFIX = "repeated_"
_NAMES = rf"^{_PREFIX}\w+_[0-9a-f]{{16}}(_\w+)?$"
_MONTHS = "max_partitions_per_insert_block = 0"
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table that a view fills: each row stands for a number of rows with the same key.

    Attributes:
        table: Its name.
        view: Which fills it.
        key: Its columns of the key.
        source_key: The same from a row of the source.
        count: The column that says for how many rows of the source a row stands.
    """

    table: str
    view: str
    key: str
    source_key: str
    count: str


@dataclass(frozen=True, slots=True)
class Source:
    """A table that workers insert into.

    Attributes:
        table: Its name.
        key: Columns that tell its rows apart, as far as copies need not be told apart; the sorting key first.
        time: The column of time.
        rollups: What is filled from it.
    """

    table: str
    key: str
    time: str
    rollups: tuple[Rollup, ...] = ()


class Inserts:
    """Stores inserts once, also those that are repeated.

    Args:
        clickhouse: Where.
        keeps_days: How long sources keep their rows.
        sleep: Waits.
        clock: Seconds.
    """

    def __init__(
        self,
        clickhouse: ClickHouse,
        keeps_days: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clickhouse = clickhouse
        self._keeps_days = keeps_days
        self._sleep = sleep
        self._clock = clock
        # The insert that cannot be looked at: its token, and by its tables since when.
        self._failing: tuple[str, dict[str, float]] = ("", {})

    async def store(self, source: Source, rows: pa.Table, token: str, is_repeated: bool) -> None:
        """Stores the rows of an insert in a table and in what is filled from it.

        Args:
            source: The table.
            rows: Columns named as the table's.
            token: The same for the same rows.
            is_repeated: Whether an earlier attempt may have been cut off.

        Raises:
            AirisError: As `ClickHouse.insert`; what is stored by then is known by its token, or found, the next time.
        """
        # First of all: from here on no earlier attempt that still runs somewhere can store anything.
        await self._clickhouse.insert(source.table, rows, token=token)
        if is_repeated and rows.num_rows and not self._clickhouse.layout.cluster:
            await self._mend(source, rows, token)

    async def open(self) -> None:
        """Drops what somebody left who died amid a look, and whose insert nobody repeated. Raises `AirisError`."""
        left = await self._clickhouse.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND match(name, {names:String}) "
            "AND metadata_modification_time < now() - {seconds:Int32}",
            {"database": self._clickhouse.database, "names": _NAMES, "seconds": _ABANDONED_SECONDS},
            timeout=_TIMEOUT,
        )
        for row in left:
            await _drop(self._clickhouse, row["name"])

    async def _mend(self, source: Source, rows: pa.Table, token: str) -> None:
        fault = ""
        for _ in range(_ATTEMPTS):
            try:
                await _Repetition(self._clickhouse, source, token, self._keeps_days, self._sleep).mend(rows)
            except UnavailableError:
                raise
            except AirisError as error:
                if self._may_pass(error, source.table, token):
                    # The bus keeps the insert until then.
                    raise
                fault = error.message
            else:
                if self._failing[0] == token:
                    self._failing[1].pop(source.table, None)
                return
        # What comes after must not wait for it for ever: a loss is rare, and this may have another cause.
        logger.error("insert_not_checked", table=source.table, token=token, error=fault)

    def _may_pass(self, error: AirisError, table: str, token: str) -> bool:
        """Whether it is want of memory or time, and no older than minutes."""
        if not isinstance(error, (ResourceExhaustedError, DeadlineExceededError)):
            return False
        if self._failing[0] != token:
            self._failing = (token, {})
        return self._clock() - self._failing[1].setdefault(table, self._clock()) < _PATIENCE_SECONDS


class _Repetition:
    """Keeps the rows of one insert in tables of its own while it looks for them."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        source: Source,
        token: str,
        keeps_days: int,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._clickhouse = clickhouse
        self._source = source
        self._token = token
        self._keeps_days = keeps_days
        self._sleep = sleep
        # Of the token, so that whoever repeats an insert once more finds what a crash left here.
        self._rows = f"{_PREFIX}{source.table}_{xxhash.xxh3_64_hexdigest(token.encode())}"

    async def mend(self, rows: pa.Table) -> None:
        """Puts what is missing where it belongs. Raises `AirisError`."""
        try:
            await self._copy(self._rows, self._source.table)
            await self._clickhouse.insert(self._rows, rows, token=self._token)
            for rollup in self._source.rollups:
                await self._roll_up(rollup)
            await self._find_missing()
            await self._move(self._missing, self._source.table, await self._partitions(self._missing))
            for rollup in self._source.rollups:
                await self._move(self._rolled_up(rollup), rollup.table, await self._lost(rollup, rows))
        finally:
            with suppress(AirisError):
                for table in (self._rows, self._missing, *map(self._rolled_up, self._source.rollups)):
                    await _drop(self._clickhouse, table)

    @property
    def _missing(self) -> str:
        return f"{self._rows}_missing"

    def _rolled_up(self, rollup: Rollup) -> str:
        return f"{self._rows}_{rollup.table}"

    async def _copy(self, name: str, table: str) -> None:
        await _drop(self._clickhouse, name)
        await self._clickhouse.command(f"CREATE TABLE {DATABASE}.{name} AS {DATABASE}.{table}")

    async def _roll_up(self, rollup: Rollup) -> None:
        """What the view makes of the rows."""
        views = await self._ask(
            "SELECT as_select FROM system.tables WHERE database = {database:String} AND name = {view:String}",
            {"database": self._clickhouse.database, "view": rollup.view},
        )
        source = rf"\bFROM `?{self._clickhouse.database}`?\.`?{self._source.table}`?(?: AS \w+)?"
        mine = f"FROM {DATABASE}.{self._rows} AS {self._source.table}"
        query, found = re.subn(source, mine, "".join(view["as_select"] for view in views))
        if found != 1:
            raise AirisError(f"The view {rollup.view} cannot be seen, or is not the one that this program made.")
        table = self._rolled_up(rollup)
        await self._copy(table, rollup.table)
        await self._clickhouse.command(f"INSERT INTO {DATABASE}.{table} SETTINGS {_MONTHS} {query}")

    async def _find_missing(self) -> None:
        """Rows that the source has not, but for those that are too old for it."""
        key, mine = self._source.key, f"{DATABASE}.{self._rows}"
        await self._copy(self._missing, self._source.table)
        await self._clickhouse.command(
            f"INSERT INTO {DATABASE}.{self._missing} SETTINGS {_MONTHS} SELECT * FROM {mine} WHERE ({key}) NOT IN "
            f"(SELECT {key} FROM {DATABASE}.{self._source.table} WHERE ({key}) IN (SELECT {key} FROM {mine})) "
            f"AND {self._source.time} > now() - toIntervalDay({{days:UInt32}}) + INTERVAL 1 HOUR",
            {"days": self._keeps_days},
        )

    async def _partitions(self, table: str) -> Sequence[str]:
        found = await self._ask(f"SELECT DISTINCT _partition_id AS partition FROM {DATABASE}.{table}")
        return [row["partition"] for row in found]

    async def _move(self, name: str, table: str, partitions: Sequence[str]) -> None:
        # Moved and not copied: of two who do the same, the second finds nothing there.
        for partition in partitions:
            logger.warning("insert_mended", table=table, partition=partition, token=self._token)
            await self._clickhouse.command(
                f"ALTER TABLE {DATABASE}.{name} MOVE PARTITION ID '{partition}' TO TABLE {DATABASE}.{table}"
            )

    async def _lost(self, rollup: Rollup, rows: pa.Table) -> Sequence[str]:
        """Partitions that lack the insert, and go on to."""
        lacking = await self._lacking(rollup, rows)
        for _ in range((_LOOKS_ALONE if self._clickhouse.is_embedded else _LOOKS) - 1):
            if not lacking:
                break
            await self._sleep(_LOOK_SECONDS)
            still = await self._lacking(rollup, rows)
            lacking = {partition: still[partition] for partition in lacking if partition in still}
        for partition in (partition for partition, is_all in lacking.items() if not is_all):
            # Nobody can tell whether this insert is among what is lacking.
            logger.error("rollup_differs", table=rollup.table, partition=partition, token=self._token)
        return [partition for partition, is_all in lacking.items() if is_all]

    async def _lacking(self, rollup: Rollup, rows: pa.Table) -> dict[str, bool]:
        """Partitions in which each key of the insert lacks at least as many rows as the insert has of it, and whether
        that is all that they lack."""
        times = pc.min_max(rows.column(self._source.time).cast(pa.timestamp("s", "UTC"), safe=False)).as_py()
        mine = f"{DATABASE}.{self._rolled_up(rollup)}"
        keys = f"SELECT {rollup.key} FROM {mine}"
        found = await self._ask(
            "SELECT partition, min(source.n = kept.n + mine.n) AS is_all FROM "
            f"(SELECT _partition_id AS partition, ({rollup.key}) AS k, sum({rollup.count}) AS n FROM {mine} "
            "GROUP BY partition, k) AS mine "
            f"INNER JOIN (SELECT ({rollup.source_key}) AS k, count() AS n FROM {DATABASE}.{self._source.table} "
            f"WHERE ({rollup.source_key}) IN ({keys}) AND {self._source.time} BETWEEN {{first:DateTime('UTC')}} "
            "AND {last:DateTime('UTC')} GROUP BY k) AS source ON source.k = mine.k "
            f"LEFT JOIN (SELECT ({rollup.key}) AS k, sum({rollup.count}) AS n FROM {DATABASE}.{rollup.table} "
            f"WHERE ({rollup.key}) IN ({keys}) GROUP BY k) AS kept ON kept.k = mine.k "
            "GROUP BY partition HAVING min(source.n >= kept.n + mine.n)",
            {"first": times["min"] - _NEARBY, "last": times["max"] + _NEARBY},
        )
        return {row["partition"]: bool(row["is_all"]) for row in found}

    async def _ask(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[Any]:
        return await self._clickhouse.rows(sql, parameters, timeout=_TIMEOUT, for_insert=True)


async def _drop(clickhouse: ClickHouse, table: str) -> None:
    await clickhouse.command(f"DROP TABLE IF EXISTS {DATABASE}.{table} SYNC")
