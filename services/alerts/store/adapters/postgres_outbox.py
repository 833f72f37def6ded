"""The outbox in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.alerts.model import AlertState, EventKind
from services.alerts.state import by_hand
from services.alerts.store.adapters.postgres import Postgres
from services.alerts.store.adapters.postgres_events import alert_from, append
from services.alerts.store.adapters.postgres_turns import Turns, bring_back, claim, execute_bring_back, tenants_of
from services.alerts.store.port import IsSilenced, OutboxEntry

_TAKE = claim(
    "outbox",
    "key",
    "status = 'PENDING'",
    "next_attempt_at",
    further="NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.tenant = entry.tenant"
    " AND earlier.alert_id = entry.alert_id AND earlier.channel_id = entry.channel_id"
    " AND earlier.event_number < entry.event_number AND earlier.status = 'PENDING')",
    lock="FOR UPDATE",
    update="SET attempts = attempts + 1, next_attempt_at = $4",
    returning="taken.*",
)
_BRING_BACK = bring_back(
    "outbox",
    "key",
    "status = 'PENDING'",
    "next_attempt_at",
    furthest="$2::interval",
    lock="FOR UPDATE",
    # Whoever is sending it just now, while the clock is put right, has the time of a lease to say so.
    update="SET next_attempt_at = $3",
)
_HOLDING = (
    "WITH RECURSIVE "  # noqa: S608
    + tenants_of("outbox", "status = 'HELD'")
    + " SELECT tenant FROM tenants WHERE tenant IS NOT NULL"
)


class PostgresOutbox:
    """Notifications on their way.

    Args:
        database: Where they are kept.
        longest_delay: The longest time for which `retry` puts one off.
    """

    def __init__(self, database: Postgres, longest_delay: timedelta) -> None:
        self._database = database
        self._longest_delay = longest_delay
        self._turns = Turns()

    async def take(self, limit: int, lease: timedelta) -> Sequence[OutboxEntry]:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            await execute_bring_back(connection, _BRING_BACK, now, max(lease, self._longest_delay), now + lease)
            rows = await connection.fetch(_TAKE, now, limit, self._turns.last, now + lease)
        self._turns.taken(rows)
        return [
            OutboxEntry(
                row["tenant"], row["key"], row["alert_id"], row["channel_id"], row["payload"], row["attempts"], now
            )
            for row in rows
        ]

    async def sent(self, entry: OutboxEntry) -> None:
        await self._finish(entry, "SENT", EventKind.NOTIFIED, "")

    async def retry(self, entry: OutboxEntry, error: str, delay: timedelta) -> None:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            await connection.execute(
                "UPDATE outbox SET next_attempt_at = $3, last_error = $4 "
                "WHERE tenant = $1 AND key = $2 AND status = 'PENDING' AND attempts = $5",
                entry.tenant,
                entry.key,
                now + delay,
                error,
                entry.attempts,
            )

    async def failed(self, entry: OutboxEntry, error: str) -> None:
        await self._finish(entry, "FAILED", EventKind.NOTIFICATION_FAILED, error)

    async def holding(self) -> Sequence[str]:
        async with self._database.transaction() as connection:
            return [row["tenant"] for row in await connection.fetch(_HOLDING)]

    async def release(self, tenant: str, is_silenced: IsSilenced) -> int:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            rows = await connection.fetch(
                "SELECT alerts.*, outbox.key, outbox.kind FROM outbox JOIN alerts "
                "ON alerts.tenant = outbox.tenant AND alerts.id = outbox.alert_id "
                "WHERE outbox.tenant = $1 AND outbox.status = 'HELD' "
                "ORDER BY outbox.event_number FOR UPDATE OF outbox SKIP LOCKED",
                tenant,
            )
            ready, over = [], []
            for row in rows:
                alert = alert_from(row)
                if row["kind"] == EventKind.FIRING and alert.state is not AlertState.FIRING:
                    over.append(row["key"])
                elif not is_silenced(alert):
                    ready.append(row["key"])
            await connection.execute(
                "UPDATE outbox SET status = 'DROPPED', finish_time = $3 WHERE tenant = $1 AND key = ANY($2::text[])",
                tenant,
                over,
                now,
            )
            await connection.execute(
                "UPDATE outbox SET status = 'PENDING', next_attempt_at = $3 "
                "WHERE tenant = $1 AND key = ANY($2::text[])",
                tenant,
                ready,
                now,
            )
        return len(ready)

    async def prune(self, retention: timedelta) -> int:
        async with self._database.transaction() as connection:
            done = await connection.execute(
                "DELETE FROM outbox USING alerts WHERE outbox.finish_time < $1 "
                "AND alerts.tenant = outbox.tenant AND alerts.id = outbox.alert_id "
                "AND alerts.state NOT IN (2, 3)",
                await self._database.now(connection) - retention,
            )
        return int(done.rpartition(" ")[2])

    async def _finish(self, entry: OutboxEntry, status: str, kind: EventKind, error: str) -> None:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            # The event is recorded once. What was sent is sent, whoever holds the lease by now; only the newest lease
            # gives up, because another sender may be at it, and succeed.
            done = await connection.fetchval(
                "UPDATE outbox SET status = $3, finish_time = $4, last_error = $5 "
                "WHERE tenant = $1 AND key = $2 AND status = 'PENDING' AND ($3 = 'SENT' OR attempts = $6) "
                "RETURNING key",
                entry.tenant,
                entry.key,
                status,
                now,
                error,
                entry.attempts,
            )
            row = await connection.fetchrow(
                "SELECT * FROM alerts WHERE tenant = $1 AND id = $2", entry.tenant, entry.alert
            )
            if done is None or row is None:
                return
            event = by_hand(alert_from(row), kind, now, f"channels/{entry.channel}", error)
            await append(connection, entry.tenant, [event])
