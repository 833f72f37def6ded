"""Numbered SQL files, applied once each and recorded, safe to run again and by several replicas at once.

A file is named `0001_what_it_does.sql`; its statements end with `;` at the end of a line and use
`IF NOT EXISTS`, so that two replicas that start together do no harm. Files that were applied are never edited:
a changed one is refused.
"""

from __future__ import annotations

import hashlib
from importlib.resources.abc import Traversable

from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.target import DATABASE
from services.shared.errors import FailedPreconditionError

_TIMEOUT = 60.0


async def migrate(clickhouse: ClickHouse, signal: str, directory: Traversable) -> None:
    """Brings the tables of a signal up to date, on each server of the cluster.

    Args:
        signal: Whose migrations these are: "metrics".
        directory: The folder of the SQL files.

    Raises:
        FailedPreconditionError: The data is of a newer version, or an applied file was changed since.
    """
    for server in clickhouse.servers:
        await _migrate_here(server, signal, directory)


async def _migrate_here(clickhouse: ClickHouse, signal: str, directory: Traversable) -> None:
    await clickhouse.command(
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.migrations (signal String, number UInt32, name String, "
        "checksum String, applied_at DateTime DEFAULT now()) ENGINE = ReplacingMergeTree "
        "ORDER BY (signal, number)"
    )
    applied = {
        row["number"]: row["checksum"]
        for row in await clickhouse.rows(
            f"SELECT number, any(checksum) AS checksum FROM {DATABASE}.migrations "
            "WHERE signal = {signal:String} GROUP BY number",
            {"signal": signal},
            timeout=_TIMEOUT,
        )
    }
    files = sorted((entry for entry in directory.iterdir() if entry.name.endswith(".sql")), key=lambda f: f.name)
    newest = max((_number(entry) for entry in files), default=0)
    if applied and max(applied) > newest:
        raise FailedPreconditionError(
            f"The {signal} data was written by a newer version (its tables are at version {max(applied)}, this "
            f"program knows {newest}). Start the newer version, or another data directory."
        )
    for entry in files:
        text = entry.read_text(encoding="utf-8")
        number, checksum = _number(entry), hashlib.sha256(text.encode()).hexdigest()
        if number in applied:
            if applied[number] != checksum:
                raise FailedPreconditionError(f"The applied migration {signal}/{entry.name} was changed afterwards.")
            continue
        for statement in clickhouse.layout.statements(text):
            await clickhouse.command(statement)
        await clickhouse.command(
            f"INSERT INTO {DATABASE}.migrations (signal, number, name, checksum) VALUES "
            "({signal:String}, {number:UInt32}, {name:String}, {checksum:String})",
            {"signal": signal, "number": number, "name": entry.name, "checksum": checksum},
        )


def _number(entry: Traversable) -> int:
    return int(entry.name.split("_", 1)[0])
