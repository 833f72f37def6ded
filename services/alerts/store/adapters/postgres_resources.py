"""Resources in PostgreSQL: one table a kind, the domain type as JSON in `spec`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import asyncpg
from pydantic import TypeAdapter

from services.alerts.model import Channel, EscalationPolicy, NewId, Resource, Silence
from services.alerts.store.adapters.postgres import Postgres
from services.shared.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
)

ResourceT = TypeVar("ResourceT", bound=Resource)

# Held per tenant, from the counting of its silences to the end of the transaction, which locks nothing after it.
_SILENCE_LOCK = 4_004_003

# Kept in columns of their own, not in `spec`.
_OWN_COLUMNS = frozenset({"id", "etag", "create_time", "update_time", "last_error"})


class PostgresResourceStore(Generic[ResourceT]):
    """Keeps resources of one kind.

    Args:
        new_etag: Makes a text that no version of the resource had before.
    """

    table: str
    kind: str
    collection: str
    model: type[ResourceT]

    def __init__(self, database: Postgres, new_etag: NewId) -> None:
        self._database = database
        self._new_etag = new_etag
        self._codec: TypeAdapter[ResourceT] = TypeAdapter(self.model)

    async def create(self, tenant: str, resource: ResourceT) -> ResourceT:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            resource = replace(self._completed(resource, now), etag=self._new_etag(), create_time=now, update_time=now)
            columns = self._row(tenant, resource)
            names = ", ".join(columns)
            places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
            # A conflict is no error to PostgreSQL this way, and not in its log.
            is_new = await connection.fetchval(
                f"INSERT INTO {self.table} ({names}) VALUES ({places}) "  # noqa: S608
                "ON CONFLICT (tenant, id) DO NOTHING RETURNING TRUE",
                *columns.values(),
            )
            if not is_new:
                name = self._name(resource.id)
                raise AlreadyExistsError(
                    f"{name} exists already; choose another id, or update it.", resource=(self.kind, name)
                )
            await self._after_change(connection, tenant, None, resource, now)
        return resource

    async def get(self, tenant: str, resource_id: str) -> ResourceT:
        async with self._database.transaction() as connection:
            return await self._read(connection, tenant, resource_id)

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[ResourceT]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                f"SELECT * FROM {self.table} WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",  # noqa: S608
                tenant,
                after,
                limit,
            )
        return [self._resource(row) for row in rows]

    async def update(
        self, tenant: str, resource_id: str, etag: str, change: Callable[[ResourceT], ResourceT]
    ) -> ResourceT:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            old = await self._read(connection, tenant, resource_id, etag, lock=True)
            new = replace(
                self._completed(change(old), now),
                id=resource_id,
                etag=self._new_etag(),
                create_time=old.create_time,
                update_time=now,
            )
            columns = self._row(tenant, new)
            places = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 1))
            await connection.execute(
                f"UPDATE {self.table} SET {places} WHERE tenant = $1 AND id = $2",  # noqa: S608
                *columns.values(),
            )
            await self._after_change(connection, tenant, old, new, now)
        return new

    async def delete(self, tenant: str, resource_id: str, etag: str) -> None:
        async with self._database.transaction() as connection:
            now = await self._database.now(connection)
            old = await self._read(connection, tenant, resource_id, etag, lock=True)
            await self._before_delete(connection, tenant, old, now)
            try:
                await connection.execute(
                    f"DELETE FROM {self.table} WHERE tenant = $1 AND id = $2",  # noqa: S608
                    tenant,
                    resource_id,
                )
            except asyncpg.ForeignKeyViolationError as error:
                name = self._name(resource_id)
                raise FailedPreconditionError(
                    f"{name} is in use by an alert rule or an escalation policy; take it out there first.",
                    resource=(self.kind, name),
                ) from error

    async def _read(
        self,
        connection: Any,
        tenant: str,
        resource_id: str,
        etag: str = "",
        *,
        lock: bool = False,
    ) -> ResourceT:
        statement = f"SELECT * FROM {self.table} WHERE tenant = $1 AND id = $2"  # noqa: S608
        row = await connection.fetchrow(statement + (" FOR UPDATE" if lock else ""), tenant, resource_id)
        name = self._name(resource_id)
        if row is None:
            raise NotFoundError(f"There is no {name}.", resource=(self.kind, name))
        if etag and etag != row["etag"]:
            raise AbortedError(
                f"{name} was changed since its etag was read; get it again and repeat the change.",
                resource=(self.kind, name),
            )
        return self._resource(row)

    def _name(self, resource_id: str) -> str:
        return f"{self.collection}/{resource_id}"

    def _row(self, tenant: str, resource: ResourceT) -> dict[str, Any]:
        """The columns of a resource; the tenant and the id come first."""
        return {
            "tenant": tenant,
            "id": resource.id,
            "etag": resource.etag,
            "spec": self._codec.dump_python(resource, mode="json", exclude=set(_OWN_COLUMNS)),
            "create_time": resource.create_time,
            "update_time": resource.update_time,
        }

    def _resource(self, row: Any) -> ResourceT:
        return self._codec.validate_python(
            row["spec"]
            | {name: row[name] for name in ("id", "etag", "create_time", "update_time")}
            | self._other_columns(row)
        )

    def _other_columns(self, row: Any) -> dict[str, Any]:
        return {}

    def _completed(self, resource: ResourceT, now: datetime) -> ResourceT:
        """What becomes of a resource at the time at which it is written. Raises: InvalidArgumentError."""
        return resource

    async def _after_change(
        self, connection: Any, tenant: str, old: ResourceT | None, new: ResourceT, now: datetime
    ) -> None:
        """What else a creation (`old` is None) or an update changes in its transaction."""

    async def _before_delete(self, connection: Any, tenant: str, old: ResourceT, now: datetime) -> None:
        """What else a deletion changes in its transaction."""


async def write_references(connection: Any, table: str, tenant: str, owner: str, channels: Iterable[str]) -> None:
    """Replaces the channels that a resource names.

    Raises:
        FailedPreconditionError: One does not exist.
    """
    wanted = sorted(set(channels))
    await connection.execute(f"DELETE FROM {table} WHERE tenant = $1 AND owner_id = $2", tenant, owner)  # noqa: S608
    found = await connection.fetch(
        "SELECT id FROM channels WHERE tenant = $1 AND id = ANY($2::text[]) FOR KEY SHARE", tenant, wanted
    )
    missing = sorted(set(wanted) - {row["id"] for row in found})
    if missing:
        name = f"channels/{missing[0]}"
        raise FailedPreconditionError(
            f"There is no {name}; create it first, or leave it out.", resource=("channel", name)
        )
    await connection.executemany(
        f"INSERT INTO {table} (tenant, owner_id, channel_id) VALUES ($1, $2, $3)",  # noqa: S608
        [(tenant, owner, channel) for channel in wanted],
    )


class PostgresChannelStore(PostgresResourceStore[Channel]):
    """Channels. Their secrets are kept in `spec` and leave only towards the channel itself."""

    table, kind, collection, model = "channels", "channel", "channels", Channel


class PostgresSilenceStore(PostgresResourceStore[Silence]):
    """Silences.

    Args:
        max_silences: How many of a tenant may not have ended.
    """

    table, kind, collection, model = "silences", "silence", "silences", Silence

    def __init__(self, database: Postgres, new_etag: NewId, max_silences: int) -> None:
        super().__init__(database, new_etag)
        self._max_silences = max_silences

    async def active(self, tenant: str) -> Sequence[Silence]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT * FROM silences WHERE tenant = $1 AND start_time <= $2 AND end_time > $2 ORDER BY id",
                tenant,
                await self._database.now(connection),
            )
        return [self._resource(row) for row in rows]

    def _row(self, tenant: str, resource: Silence) -> dict[str, Any]:
        return super()._row(tenant, resource) | {"start_time": resource.start_time, "end_time": resource.end_time}

    def _completed(self, resource: Silence, now: datetime) -> Silence:
        start_time = resource.start_time or now
        if resource.end_time <= start_time:
            description = "must be after start_time"
            raise InvalidArgumentError(
                f"end_time {description}.", violations=(FieldViolation("end_time", description),)
            )
        return replace(resource, start_time=start_time)

    async def _after_change(
        self, connection: Any, tenant: str, old: Silence | None, new: Silence, now: datetime
    ) -> None:
        if new.end_time <= now or (old is not None and old.end_time > now):
            return
        # Two that come at the same moment would not see each other.
        await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _SILENCE_LOCK, tenant)
        count = await connection.fetchval(
            "SELECT count(*) FROM silences WHERE tenant = $1 AND end_time > $2", tenant, now
        )
        if count > self._max_silences:
            raise FailedPreconditionError(
                f"There are {count - 1} silences that have not ended, and there may be {self._max_silences}; delete "
                "some or give them an earlier end_time, or let one silence with a wider filter take their place."
            )


class PostgresPolicyStore(PostgresResourceStore[EscalationPolicy]):
    """Escalation policies."""

    table, kind, collection = "escalation_policies", "escalationPolicy", "escalationPolicies"
    model = EscalationPolicy

    async def _after_change(
        self, connection: Any, tenant: str, old: EscalationPolicy | None, new: EscalationPolicy, now: datetime
    ) -> None:
        channels = [channel for step in new.steps for channel in step.channels]
        await write_references(connection, "escalation_policy_channels", tenant, new.id, channels)
