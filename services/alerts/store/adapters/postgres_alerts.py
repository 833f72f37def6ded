"""Alerts in PostgreSQL: read, acknowledged, ended by hand, and rebuilt from their events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from services.alerts.model import Alert, AlertEvent, AlertState, EventKind
from services.alerts.state import Phase, by_hand, project
from services.alerts.store.adapters.postgres import Postgres, take_time
from services.alerts.store.adapters.postgres_events import (
    UPSERT_ALERT,
    alert_from,
    alert_row,
    append,
    enqueue,
    event_from,
)
from services.alerts.store.port import IsSilenced
from services.shared.errors import FailedPreconditionError, NotFoundError

# The live number of a group is not worth an event; it is added when an alert is read.
_SELECT = (
    "SELECT alerts.*, groups.value AS live_value FROM alerts LEFT JOIN alert_groups AS groups "
    "ON groups.tenant = alerts.tenant AND groups.alert_id = alerts.id AND groups.alert_id <> '' "
    "WHERE alerts.tenant = $1 "
)
_EVENTS_OF_ONE = (
    "SELECT * FROM alert_events WHERE tenant = $1 AND number > $2 AND alert_id = $4 ORDER BY number LIMIT $3"
)
_EVENTS_OF_ALL = "SELECT * FROM alert_events WHERE tenant = $1 AND number > $2 AND $4 = '' ORDER BY number LIMIT $3"
_REBUILD_CHUNK = 1000


class PostgresAlertStore:
    """Alerts and their events."""

    def __init__(self, database: Postgres) -> None:
        self._database = database

    async def get(self, tenant: str, alert_id: str) -> Alert:
        async with self._database.transaction() as connection:
            return self._found(alert_id, await connection.fetchrow(_SELECT + "AND alerts.id = $2", tenant, alert_id))

    async def list(
        self, tenant: str, before: str, limit: int, states: Collection[AlertState] | None = None
    ) -> Sequence[Alert]:
        active = states is not None and set(states) <= {AlertState.PENDING, AlertState.FIRING}
        condition = "AND ($2 = '' OR alerts.id < $2) AND ($3::smallint[] IS NULL OR state = ANY($3)) "
        # Said in so many words, the partial index of what is active can be used.
        condition += "AND state IN (2, 3) " if active else ""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _SELECT + condition + "ORDER BY alerts.id DESC LIMIT $4",
                tenant,
                before,
                None if states is None else [int(state) for state in states],
                limit,
            )
        return [_with_live_value(row) for row in rows]

    async def record_by_hand(
        self,
        tenant: str,
        alert_id: str,
        kind: EventKind,
        actor: str,
        comment: str,
        is_silenced: IsSilenced,
    ) -> Alert:
        async with self._database.transaction() as connection:
            rule = await connection.fetchrow(
                "SELECT rule.spec FROM alerts JOIN alert_rules AS rule "
                "ON rule.tenant = alerts.tenant AND rule.id = alerts.rule_id "
                "WHERE alerts.tenant = $1 AND alerts.id = $2 FOR NO KEY UPDATE OF rule",
                tenant,
                alert_id,
            )
            alert = self._found(alert_id, await connection.fetchrow(_SELECT + "AND alerts.id = $2", tenant, alert_id))
            if alert.state not in (AlertState.PENDING, AlertState.FIRING):
                raise FailedPreconditionError(
                    f"alerts/{alert_id} has ended already; only one that is pending or firing can be "
                    f"{'acknowledged' if kind is EventKind.ACKNOWLEDGED else 'resolved'}.",
                    resource=("alert", f"alerts/{alert_id}"),
                )
            if kind is EventKind.ACKNOWLEDGED and alert.acknowledge_time and alert.acknowledged_by == actor:
                return alert
            if kind is EventKind.RESOLVED:
                await connection.execute(
                    "UPDATE alert_groups SET phase = $3, alert_id = '' WHERE tenant = $1 AND alert_id = $2",
                    tenant,
                    alert_id,
                    Phase.MUTED,
                )
            now = await self._database.now(connection)
            happened = await append(connection, tenant, [by_hand(alert, kind, now, actor, comment)])
            if alert.fire_time is not None:
                description = rule["spec"].get("description", "") if rule else ""
                await enqueue(connection, tenant, happened, (), description, is_silenced)
        return happened[0][1]

    async def events(self, tenant: str, alert: str, after: int, limit: int) -> Sequence[AlertEvent]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _EVENTS_OF_ONE if alert else _EVENTS_OF_ALL,
                tenant,
                after,
                limit,
                alert,
            )
        return [event_from(row) for row in rows]

    async def newest_event_number(self, tenant: str) -> int:
        async with self._database.transaction() as connection:
            number = await connection.fetchval("SELECT max(number) FROM alert_events WHERE tenant = $1", tenant)
        return int(number or 0)

    async def rebuild(self, tenant: str) -> int:
        count = 0
        async with self._database.transaction() as connection:
            await take_time(connection)
            await connection.execute("LOCK TABLE alerts IN EXCLUSIVE MODE")
            await connection.execute("DELETE FROM alerts WHERE tenant = $1", tenant)
            done: list[tuple[Any, ...]] = []
            alert: Alert | None = None
            async for row in connection.cursor(
                "SELECT * FROM alert_events WHERE tenant = $1 ORDER BY alert_id, number", tenant
            ):
                event = event_from(row)
                if alert is not None and alert.id != event.alert:
                    done.append(alert_row(tenant, alert))
                    alert = None
                alert = project(alert, event)
                if len(done) >= _REBUILD_CHUNK:
                    await connection.executemany(UPSERT_ALERT, done)
                    count += len(done)
                    done = []
            if alert is not None:
                done.append(alert_row(tenant, alert))
            await connection.executemany(UPSERT_ALERT, done)
        return count + len(done)

    def _found(self, alert_id: str, row: Any) -> Alert:
        if row is None:
            raise NotFoundError(f"There is no alerts/{alert_id}.", resource=("alert", f"alerts/{alert_id}"))
        return _with_live_value(row)


def _with_live_value(row: Any) -> Alert:
    if row["live_value"] is None:
        return alert_from(row)
    return alert_from({**dict(row), "value": row["live_value"]})
