"""Rules in PostgreSQL, whose turn it is, and what is remembered of their groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from services.alerts.evaluate import GroupKey, group_key
from services.alerts.model import AlertEvent, AlertRule, NewId
from services.alerts.state import Group, Phase, Step, end
from services.alerts.store.adapters.postgres import Postgres
from services.alerts.store.adapters.postgres_events import append, enqueue
from services.alerts.store.adapters.postgres_resources import PostgresResourceStore, write_references
from services.alerts.store.adapters.postgres_turns import CLOCKS_APART, Turns, bring_back, claim, execute_bring_back
from services.alerts.store.port import DueRule, IsSilenced

# The newest moment that has come: a whole number of intervals after the one that was due.
_MOMENT = (
    "coalesce(evaluating_for, next_evaluation_at) + evaluation_interval * floor("
    "extract(epoch FROM $1 - coalesce(evaluating_for, next_evaluation_at)) / extract(epoch FROM evaluation_interval))"
)
_TAKE_DUE = claim(
    "alert_rules",
    "id",
    "enabled",
    "next_evaluation_at",
    lock="FOR NO KEY UPDATE",
    # One whose taker died is evaluated for the same moment, unless the next one has come. A result that was written by
    # a clock that was ahead is the newest no longer, or no other would count until that time has come.
    update=f"SET evaluating_for = {_MOMENT}, next_evaluation_at = least({_MOMENT} + evaluation_interval, $4), "
    f"evaluated_at = CASE WHEN evaluated_at <= $1 + {CLOCKS_APART} THEN evaluated_at END",
    returning="taken.*",
)
# Nobody plans further ahead than the next moment. Whoever evaluates for one that has not come is not waited for.
_BRING_BACK = bring_back(
    "alert_rules",
    "id",
    "enabled",
    "next_evaluation_at",
    furthest="entry.evaluation_interval",
    lock="FOR NO KEY UPDATE",
    update="SET next_evaluation_at = $1, evaluating_for = NULL",
)
# Whoever took a later moment since keeps it.
_FINISH = (
    "evaluated_at = $3, next_evaluation_at = CASE WHEN evaluating_for = $3 THEN $3 + evaluation_interval "
    "ELSE next_evaluation_at END, evaluating_for = nullif(evaluating_for, $3)"
)
_IS_OPEN = "tenant = $1 AND id = $2 AND etag = $4 AND (evaluated_at IS NULL OR evaluated_at < $3)"


class PostgresRuleStore(PostgresResourceStore[AlertRule]):
    """Rules."""

    table, kind, collection, model = "alert_rules", "alertRule", "alertRules", AlertRule

    def __init__(self, database: Postgres, new_etag: NewId) -> None:
        super().__init__(database, new_etag)
        self._turns = Turns()

    async def take_due(self, limit: int, lease: timedelta) -> Sequence[DueRule]:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            await execute_bring_back(connection, _BRING_BACK, now)
            rows = await connection.fetch(_TAKE_DUE, now, limit, self._turns.last, now + lease)
        self._turns.taken(rows)
        return [DueRule(row["tenant"], self._resource(row), row["evaluating_for"]) for row in rows]

    async def record_failure(self, due: DueRule, error: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                f"UPDATE alert_rules SET last_error = $5, {_FINISH} WHERE {_IS_OPEN}",  # noqa: S608
                due.tenant,
                due.rule.id,
                due.at,
                due.rule.etag,
                error.replace("\0", ""),
            )

    async def record_evaluation(
        self,
        due: DueRule,
        advance: Callable[[Mapping[GroupKey, Group]], Sequence[Step]],
        is_silenced: IsSilenced,
    ) -> Sequence[AlertEvent]:
        tenant, rule = due.tenant, due.rule
        async with self._database.transaction() as connection:
            # Locks the rule, and with it its groups.
            updated = await connection.execute(
                f"UPDATE alert_rules SET last_error = '', {_FINISH} WHERE {_IS_OPEN}",  # noqa: S608
                tenant,
                rule.id,
                due.at,
                rule.etag,
            )
            if updated == "UPDATE 0":
                return ()
            before = await self._groups(connection, tenant, rule.id)
            steps = advance(before)
            await self._write_groups(connection, tenant, rule.id, before, steps)
            events = [event for step in steps for event in step.events]
            happened = await append(connection, tenant, events)
            await enqueue(connection, tenant, happened, rule.channels, rule.description, is_silenced)
        return [event for event, _ in happened]

    async def _groups(self, connection: Any, tenant: str, rule: str) -> dict[GroupKey, Group]:
        rows = await connection.fetch("SELECT * FROM alert_groups WHERE tenant = $1 AND rule_id = $2", tenant, rule)
        groups = [
            Group(
                key=group_key(row["labels"]),
                held_since=tuple(row["held_since"]),
                phase=Phase(row["phase"]),
                alert=row["alert_id"],
                value=row["value"],
            )
            for row in rows
        ]
        return {group.key: group for group in groups}

    async def _write_groups(
        self, connection: Any, tenant: str, rule: str, before: Mapping[GroupKey, Group], steps: Sequence[Step]
    ) -> None:
        gone = [fingerprint(step.group.key) for step in steps if not step.keep and step.group.key in before]
        if gone:
            await connection.execute(
                "DELETE FROM alert_groups WHERE tenant = $1 AND rule_id = $2 AND fingerprint = ANY($3::text[])",
                tenant,
                rule,
                gone,
            )
        await connection.executemany(
            "INSERT INTO alert_groups (tenant, rule_id, fingerprint, labels, phase, held_since, alert_id, "
            "value) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
            "ON CONFLICT (tenant, rule_id, fingerprint) DO UPDATE SET phase = excluded.phase, "
            "held_since = excluded.held_since, alert_id = excluded.alert_id, value = excluded.value",
            [
                (
                    tenant,
                    rule,
                    fingerprint(group.key),
                    dict(group.key),
                    group.phase,
                    list(group.held_since),
                    group.alert,
                    group.value,
                )
                for group in (step.group for step in steps if step.keep)
                if before.get(group.key) != group
            ],
        )

    def _row(self, tenant: str, resource: AlertRule) -> dict[str, Any]:
        return super()._row(tenant, resource) | {
            "enabled": resource.enabled,
            "evaluation_interval": resource.evaluation_interval,
        }

    def _other_columns(self, row: Any) -> dict[str, Any]:
        return {"last_error": row["last_error"]}

    async def _after_change(
        self, connection: Any, tenant: str, old: AlertRule | None, new: AlertRule, now: datetime
    ) -> None:
        await write_references(connection, "alert_rule_channels", tenant, new.id, new.channels)
        if old is not None and old.asks_the_same_as(new):
            if old.evaluation_interval != new.evaluation_interval:
                await self._schedule(connection, tenant, new.id, now)
            return
        await self._schedule(connection, tenant, new.id, now)
        if old is not None:
            await connection.execute(
                "UPDATE alert_rules SET last_error = '' WHERE tenant = $1 AND id = $2", tenant, new.id
            )
            await self._end_groups(connection, tenant, old, now, "the rule was changed")

    async def _before_delete(self, connection: Any, tenant: str, old: AlertRule, now: datetime) -> None:
        await self._end_groups(connection, tenant, old, now, "the rule was deleted")

    async def _schedule(self, connection: Any, tenant: str, rule: str, now: datetime) -> None:
        await connection.execute(
            "UPDATE alert_rules SET next_evaluation_at = $3, evaluating_for = NULL WHERE tenant = $1 AND id = $2",
            tenant,
            rule,
            now,
        )

    async def _end_groups(self, connection: Any, tenant: str, rule: AlertRule, now: datetime, comment: str) -> None:
        groups = await self._groups(connection, tenant, rule.id)
        await connection.execute("DELETE FROM alert_groups WHERE tenant = $1 AND rule_id = $2", tenant, rule.id)
        events = [event for group in groups.values() for event in end(rule, group, now, comment)]
        happened = await append(connection, tenant, events)
        # Who changes a rule knows of it: this is told even under a silence.
        await enqueue(connection, tenant, happened, rule.channels, rule.description, lambda alert: False)


def fingerprint(key: GroupKey) -> str:
    """A short text that is the same for the same labels only: 64 hex digits."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()
