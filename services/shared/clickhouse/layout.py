"""How the one schema of the SQL files becomes that of a single server or of a cluster.

In a cluster each table `t` is two: `t_local` with a server's share of the rows, and `t`, Distributed over all of them
by tenant. Views and moves of data work on the shares. A tenant's rows are all on one shard, so joins and
subqueries of one tenant need no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.shared.clickhouse.target import DATABASE

_CREATE_TABLE = re.compile(rf"CREATE TABLE IF NOT EXISTS {DATABASE}\.(\w+)")
_NAME = re.compile(rf"\b{DATABASE}\.(\w+)")
_SOURCE = re.compile(rf"\b(FROM|JOIN) {DATABASE}\.(\w+)\b(?! AS\b)")
_ENGINE = re.compile(r"\bENGINE = (\w*MergeTree)(?:\(([^()]*)\))?")
_WINDOW = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")
# Replicated tables forget tokens by time, too: after an hour, if nothing else is said. A worker may be away for longer.
_WINDOW_SECONDS = 7 * 86_400

# What each server keeps for itself: which migrations it has.
_OF_EACH_SERVER = {"migrations"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How tables are spread over servers.

    Attributes:
        cluster: The cluster's name in the servers' configuration; empty: one server.
        replicated: Whether each share is kept by several servers, by means of a keeper. The servers' macros `shard`
            and `replica` say which they are.
        database: The database of the tables, for where it stands in a text.
    """

    cluster: str = ""
    replicated: bool = True
    database: str = DATABASE

    def local(self, table: str) -> str:
        """The table that holds the rows on each server."""
        return f"{table}_local" if self.cluster and table not in _OF_EACH_SERVER else table

    def statements(self, text: str) -> list[str]:
        """The statements of an SQL file, each for every server of the cluster.

        Args:
            text: Statements that end with `;` at the end of a line; tables are named `airis.…`.
        """
        written = [part.strip().rstrip(";") for part in text.split(";\n") if part.strip()]
        if not self.cluster:
            return written
        return [variant for statement in written for variant in self._variants(statement)]

    def _variants(self, statement: str) -> list[str]:
        # A table that is read keeps its name for the columns that say it.
        aliased = _SOURCE.sub(lambda found: f"{found[1]} {DATABASE}.{found[2]} AS {found[2]}", statement)
        local = _NAME.sub(lambda found: f"{DATABASE}.{self.local(found[1])}", aliased)
        if self.replicated:
            local = _WINDOW.sub(
                rf"replicated_deduplication_window = \1, replicated_deduplication_window_seconds = {_WINDOW_SECONDS}",
                local,
            )
        created = _CREATE_TABLE.search(statement)
        if created is None:
            return [local]
        table = created[1]
        if self.replicated:
            local = _ENGINE.sub(lambda found: self._replicated(table, found[1], found[2]), local)
        share = self.local(table)
        return [
            local,
            f"CREATE TABLE IF NOT EXISTS {DATABASE}.{table} AS {DATABASE}.{share}\n"
            f"ENGINE = Distributed('{self.cluster}', '{self.database}', '{share}', cityHash64(tenant))",
        ]

    def _replicated(self, table: str, engine: str, arguments: str | None) -> str:
        path = f"'/clickhouse/tables/{{shard}}/{self.database}/{self.local(table)}'"
        more = f", {arguments}" if arguments else ""
        return f"ENGINE = Replicated{engine}({path}, '{{replica}}'{more})"
