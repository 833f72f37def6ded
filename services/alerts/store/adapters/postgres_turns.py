"""Who is served next where many tenants wait: each in turn, however many rows one of them has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

logger = structlog.get_logger(__name__)

CLOCKS_APART = "interval '1 minute'"
"""How far the clocks of PostgreSQL and of a server that takes its place may be apart.

What is planned further ahead was planned by a clock that was wrong.
"""


def tenants_of(table: str, condition: str) -> str:
    """The CTE `tenants`, behind WITH RECURSIVE: all tenants that have such a row.

    One step in an index that begins with the tenant for each of them, however many rows they have.

    Args:
        table: Its name.
        condition: That of a partial index on the table.
    """
    return (
        f"tenants AS ((SELECT tenant FROM {table} WHERE {condition} ORDER BY tenant LIMIT 1)"  # noqa: S608
        f" UNION ALL SELECT (SELECT following.tenant FROM {table} AS following WHERE {condition}"
        " AND following.tenant > tenants.tenant ORDER BY following.tenant LIMIT 1)"
        " FROM tenants WHERE tenants.tenant IS NOT NULL)"
    )


def claim(
    table: str, key: str, condition: str, time: str, *, further: str = "true", lock: str, update: str, returning: str
) -> str:
    """A statement that takes rows which are due, of all tenants in turn; it gives back each with its `turn`.

    Its parameters are $1 the moment, $2 how many rows, and $3 the tenant that was served last. What others have
    locked is passed over.

    Args:
        table: Its name; its rows are called `entry`.
        key: What identifies a row of a tenant.
        condition: That of a partial index on the tenant and the time.
        time: The column that says when a row is due.
        further: What else must be so of a row.
        lock: How the rows are locked.
        update: What is changed, so that nobody else takes them.
        returning: What is given back of the changed row, called `taken`.
    """
    due = f"{condition} AND entry.{time} <= $1"
    # More tenants and rows are looked at than are wanted, as others may just have locked the first of them.
    return (
        f"WITH RECURSIVE {tenants_of(table, condition)}, waiting AS ("  # noqa: S608
        f"  SELECT tenant FROM tenants WHERE EXISTS (SELECT 1 FROM {table} AS entry"
        f"    WHERE entry.tenant = tenants.tenant AND {due} AND {further})"
        f"  ORDER BY tenant <= $3, tenant LIMIT 2 * $2::bigint"
        f"), candidates AS ("
        f"  SELECT waiting.tenant, head.{key}, head.turn FROM waiting CROSS JOIN LATERAL ("
        f"    SELECT entry.{key}, row_number() OVER (ORDER BY entry.{time}) AS turn FROM {table} AS entry"
        f"    WHERE entry.tenant = waiting.tenant AND {due} AND {further}"
        f"    ORDER BY entry.{time} LIMIT 2 * $2::bigint) AS head"
        f"), due AS ("
        f"  SELECT entry.tenant, entry.{key}, candidates.turn FROM candidates"
        f"  JOIN {table} AS entry ON entry.tenant = candidates.tenant AND entry.{key} = candidates.{key}"
        # Said again for the rows that somebody changed in between.
        f"  WHERE {due}"
        f"  ORDER BY candidates.turn, candidates.tenant <= $3, candidates.tenant LIMIT $2::bigint"
        f"  {lock} OF entry SKIP LOCKED"
        f") UPDATE {table} AS taken {update} FROM due WHERE taken.tenant = due.tenant AND taken.{key} = due.{key}"
        f" RETURNING {returning}, due.turn"
    )


def bring_back(table: str, key: str, condition: str, time: str, *, furthest: str, lock: str, update: str) -> str:
    """A statement that changes the rows, of all tenants, which only a clock that was ahead can have planned.

    Nobody would look at them until the right time has come there. Its parameter $1 is the moment. What others have
    locked is passed over.

    Args:
        table: Its name; its rows are called `entry`.
        key: What identifies a row of a tenant.
        condition: That of a partial index on the tenant and the time.
        time: The column that says when a row is due.
        furthest: How far ahead a sound clock plans a row.
        lock: How the rows are locked.
        update: What is changed.
    """
    sound = f"$1::timestamptz + {CLOCKS_APART}"
    return (
        f"WITH RECURSIVE {tenants_of(table, condition)}, astray AS ("  # noqa: S608
        f"  SELECT entry.tenant, entry.{key} FROM tenants JOIN {table} AS entry ON entry.tenant = tenants.tenant"
        # The first comparison is for the index: how far ahead is right may differ from row to row.
        f"  WHERE {condition} AND entry.{time} > {sound} AND entry.{time} > {sound} + {furthest}"
        f"  {lock} OF entry SKIP LOCKED"
        f") UPDATE {table} AS planned {update} FROM astray"
        f" WHERE planned.tenant = astray.tenant AND planned.{key} = astray.{key}"
    )


async def execute_bring_back(connection: Any, statement: str, *arguments: object) -> None:
    """Executes a statement of `bring_back`; the log says if there was something to bring back."""
    done = await connection.execute(statement, *arguments)
    if done != "UPDATE 0":
        logger.warning("alerts.planned_by_a_clock_that_was_ahead", rows=int(done.rpartition(" ")[2]))


class Turns:
    """Remembers where the round of the tenants has come to."""

    def __init__(self) -> None:
        self.last = ""

    def taken(self, rows: Iterable[Any]) -> None:
        """Takes note of rows that were taken, with their tenant and turn: the next round goes on behind them."""
        self.last = max(
            ((row["turn"], row["tenant"] <= self.last, row["tenant"]) for row in rows), default=(0, False, self.last)
        )[2]
