"""Events, the alerts that they make, and the notifications that follow: always written together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from services.alerts.message import idempotency_key, payload
from services.alerts.model import Alert, AlertEvent, AlertState, EventKind, Severity
from services.alerts.state import project
from services.alerts.store.port import IsSilenced

# Held per tenant from the writing of events to the end of the transaction, so that the numbers of a tenant's events
# become visible in order and a reader that goes on after the greatest number it saw misses none. Whoever takes it has
# locked the rule and the alerts before and locks nothing after, so that it cannot be part of a deadlock.
_EVENT_LOCK = 4_004_002
EVENT_CHANNEL = "alert_events"

_EVENT_COLUMNS = "alert_id, kind, event_time, value, rule_id, display_name, severity, labels, actor, comment"
_ALERT_COLUMNS = (
    "id, rule_id, display_name, severity, state, labels, value, start_time, fire_time, resolve_time, "
    "acknowledge_time, acknowledged_by"
)
UPSERT_ALERT = (
    f"INSERT INTO alerts (tenant, {_ALERT_COLUMNS}) "  # noqa: S608
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) "
    "ON CONFLICT (tenant, id) DO UPDATE SET severity = excluded.severity, state = excluded.state, "
    "labels = excluded.labels, value = excluded.value, fire_time = excluded.fire_time, "
    "resolve_time = excluded.resolve_time, acknowledge_time = excluded.acknowledge_time, "
    "acknowledged_by = excluded.acknowledged_by"
)


def event_from(row: Any) -> AlertEvent:
    """The event of a row of `alert_events`."""
    return AlertEvent(
        alert=row["alert_id"],
        kind=EventKind(row["kind"]),
        event_time=row["event_time"],
        value=row["value"],
        rule=row["rule_id"],
        display_name=row["display_name"],
        severity=Severity(row["severity"]),
        labels=row["labels"],
        actor=row["actor"],
        comment=row["comment"],
        number=row["number"],
    )


def alert_from(row: Any) -> Alert:
    """The alert of a row of `alerts`."""
    return Alert(
        id=row["id"],
        rule=row["rule_id"],
        display_name=row["display_name"],
        severity=Severity(row["severity"]),
        state=AlertState(row["state"]),
        labels=row["labels"],
        value=row["value"],
        start_time=row["start_time"],
        fire_time=row["fire_time"],
        resolve_time=row["resolve_time"],
        acknowledge_time=row["acknowledge_time"],
        acknowledged_by=row["acknowledged_by"],
    )


def alert_row(tenant: str, alert: Alert) -> tuple[Any, ...]:
    """The arguments of `UPSERT_ALERT`."""
    # `silenced` is the last field and depends on the moment of asking: it is not kept.
    return (tenant, *(getattr(alert, field.name) for field in fields(alert) if field.name != "silenced"))


async def append(connection: Any, tenant: str, events: Sequence[AlertEvent]) -> list[tuple[AlertEvent, Alert]]:
    """Adds events and brings their alerts up to date.

    The caller's transaction has locked the rule, if its groups change too; afterwards it locks nothing more.

    Returns:
        Each event with its number, and its alert after it.
    """
    if not events:
        return []
    ids = sorted({event.alert for event in events})
    alerts = {
        row["id"]: alert_from(row)
        for row in await connection.fetch(
            "SELECT * FROM alerts WHERE tenant = $1 AND id = ANY($2::text[]) ORDER BY id FOR UPDATE",
            tenant,
            ids,
        )
    }
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _EVENT_LOCK, tenant)
    # However many they are, only the last answer is waited for: what a transaction may take is limited. PostgreSQL adds
    # and numbers them one after the other.
    rows = await connection.fetchmany(
        f"INSERT INTO alert_events (tenant, {_EVENT_COLUMNS}) "  # noqa: S608
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING number",
        [
            (
                tenant,
                event.alert,
                event.kind,
                event.event_time,
                event.value,
                event.rule,
                event.display_name,
                event.severity,
                event.labels,
                event.actor,
                event.comment,
            )
            for event in events
        ],
    )
    result = []
    for event, row in zip(events, rows, strict=True):
        alerts[event.alert] = project(alerts.get(event.alert), event)
        result.append((replace(event, number=row["number"]), alerts[event.alert]))
    await connection.executemany(UPSERT_ALERT, [alert_row(tenant, alerts[id]) for id in ids])  # noqa: A001
    await connection.execute("SELECT pg_notify($1, $2)", EVENT_CHANNEL, tenant)
    return result


async def enqueue(
    connection: Any,
    tenant: str,
    happened: Sequence[tuple[AlertEvent, Alert]],
    channels: Sequence[str],
    description: str,
    is_silenced: IsSilenced,
) -> None:
    """Writes the notifications of events that have just been added, of each alert one.

    That an alert fired is told to the rule's channels; that it is resolved, to those who were told that it
    fired. Under a silence both are held back.
    """
    told = await _withdraw(connection, tenant, [event for event, _ in happened if event.kind is EventKind.RESOLVED])
    rows = []
    for event, alert in happened:
        if event.kind is EventKind.FIRING:
            to = channels
        elif event.kind is EventKind.RESOLVED:
            to = told.get(event.alert, ())
        else:
            continue
        status = "HELD" if to and is_silenced(alert) else "PENDING"
        for channel in to:
            key = idempotency_key(event, channel)
            body = payload(alert, event, description, key)
            rows.append((tenant, key, event.number, event.alert, channel, event.kind, status, body, event.event_time))
    if rows:
        await connection.executemany(
            "INSERT INTO outbox (tenant, key, event_number, alert_id, channel_id, kind, status, payload, "
            "next_attempt_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            rows,
        )


async def _withdraw(connection: Any, tenant: str, events: Sequence[AlertEvent]) -> dict[str, Sequence[str]]:
    """Drops what is still held back of alerts that end; gives for each the channels to tell of its end."""
    if not events:
        return {}
    # In one statement: before PostgreSQL has statistics, each of many would look through all that the tenant has held
    # back.
    await connection.execute(
        "UPDATE outbox SET status = 'DROPPED', finish_time = ended.at "
        "FROM unnest($2::text[], $3::timestamptz[]) AS ended (alert_id, at) "
        "WHERE outbox.tenant = $1 AND outbox.alert_id = ended.alert_id AND outbox.status = 'HELD'",
        tenant,
        [event.alert for event in events],
        [event.event_time for event in events],
    )
    rows = await connection.fetch(
        "SELECT alert_id, array_agg(DISTINCT channel_id ORDER BY channel_id) AS channels FROM outbox "
        "WHERE tenant = $1 AND alert_id = ANY($2::text[]) AND kind = $3 AND status IN ('PENDING', 'SENT') "
        "GROUP BY alert_id",
        tenant,
        [event.alert for event in events],
        EventKind.FIRING,
    )
    return {row["alert_id"]: row["channels"] for row in rows}
