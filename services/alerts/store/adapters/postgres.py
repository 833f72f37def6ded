"""The connection to PostgreSQL and its migrations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg

from services.shared.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

# Any fixed number: replicas that start together take turns at it.
_MIGRATION_LOCK = 4_004_001

_CONNECT_SECONDS = 5.0
# So long PostgreSQL goes on with a client whose machine is gone, and its locks: about a minute.
_KEEPALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
_HAS_TRANSACTION_TIMEOUT = 17
# All statements of a transaction together may take so many times what one may.
_TRANSACTION_TIMEOUTS = 2
_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # Of a connection that PostgreSQL has just ended, where the driver did not expect a word from it.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
)


AskTime: TypeAlias = Callable[[Any], Awaitable[datetime]]
"""Gives the time, asked in a transaction on a connection."""


async def postgres_time(connection: Any) -> datetime:
    """When the transaction began, by PostgreSQL's own clock."""
    began: datetime = await connection.fetchval("SELECT now()")
    return began


class Postgres:
    """A bounded pool of connections.

    Args:
        pool: Made by `open_pool`.
        acquire_timeout: Seconds to wait for a free connection.
        ask_time: The one clock by which all replicas plan, whatever their own say.
    """

    def __init__(self, pool: asyncpg.Pool, acquire_timeout: float = 5.0, ask_time: AskTime = postgres_time) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout
        self._ask_time = ask_time

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection in a transaction, which ends with the block: committed, or undone if it raises.

        Raises:
            UnavailableError: PostgreSQL does not answer.
        """
        try:
            async with (
                self._pool.acquire(timeout=self._acquire_timeout) as connection,
                connection.transaction(),
            ):
                yield connection
        except _UNREACHABLE as error:
            raise UnavailableError("The alert store does not answer; try again shortly.", retry_after=1.0) from error
        except (asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError) as error:
            raise InvalidArgumentError(
                "A text of the request has the character U+0000, which cannot be kept; leave it out."
            ) from error

    async def now(self, connection: Any) -> datetime:
        """The time by which all replicas plan, asked in a transaction: a replica's own clock may be hours off."""
        return await self._ask_time(connection)

    async def close(self) -> None:
        """Waits for the connections that are in use, then closes all."""
        await self._pool.close()


async def open_pool(dsn: str, size: int, command_timeout: float) -> asyncpg.Pool:
    """Connects.

    Args:
        dsn: `postgresql://user@host/database`, or with `?host=` the folder of a unix socket.
        size: The greatest number of connections.
        command_timeout: Seconds after which a statement is given up.

    Raises:
        UnavailableError: PostgreSQL does not answer.
        FailedPreconditionError: The address is no address, or PostgreSQL does not know the database or the user.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_CONNECT_SECONDS,
            command_timeout=command_timeout,
            server_settings={
                **_KEEPALIVE,
                **await _limits(dsn, command_timeout),
            },
            init=prepare,
        )
    except (ValueError, asyncpg.ClientConfigurationError):
        # The driver's words may repeat a part of the address, and with it of the password.
        raise FailedPreconditionError(
            "postgres.dsn is no address of PostgreSQL; give postgresql://user:password@host:port/database, with "
            "characters other than letters and digits in the password as %XX."
        ) from None
    except _UNREACHABLE as error:
        raise UnavailableError("PostgreSQL does not answer; start it, or correct postgres.dsn.") from error
    except asyncpg.PostgresError as error:
        raise FailedPreconditionError(
            f"PostgreSQL refused the connection: {error.args[0]}; correct postgres.dsn."
        ) from error


async def _limits(dsn: str, command_timeout: float) -> dict[str, str]:
    """How long a replica that stands still amid a transaction may keep its locks from the others."""
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    version = connection.get_server_version().major
    # It has nothing to end, and a server that stands still would not answer.
    connection.terminate()
    between = {"idle_in_transaction_session_timeout": str(round(command_timeout * 1000))}
    if version < _HAS_TRANSACTION_TIMEOUT:
        return between
    # Also amid a statement, of which PostgreSQL has the text and not yet the parameters. The driver asks it to flush
    # there, and does not expect the error that the timeout of a statement would be.
    return {**between, "transaction_timeout": str(round(_TRANSACTION_TIMEOUTS * command_timeout * 1000))}


async def take_time(connection: Any) -> None:
    """Lets a transaction take as long as it needs."""
    await connection.execute("SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'")


async def prepare(connection: Any) -> None:
    """Sets a new connection up: JSON comes and goes as Python values."""
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def migrate(database: Postgres) -> None:
    """Brings the tables up to date: each numbered SQL file once, whoever of several replicas is first.

    Raises:
        FailedPreconditionError: The data is of a newer version, or an applied file was changed since.
    """
    scripts = sorted(
        (entry for entry in files("services.alerts.store").joinpath("sql").iterdir() if _is_script(entry.name)),
        key=lambda entry: entry.name,
    )
    newest = max(int(script.name[:4]) for script in scripts)
    async with database.transaction() as connection:
        await take_time(connection)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS alert_migrations (number integer PRIMARY KEY, name text NOT NULL, "
            "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            row["number"]: row["checksum"]
            for row in await connection.fetch("SELECT number, checksum FROM alert_migrations")
        }
        if applied and max(applied) > newest:
            raise FailedPreconditionError(
                f"The alert data was written by a newer version (its tables are at version {max(applied)}, "
                f"this program knows {newest}). Start the newer version, or use another database."
            )
        for script in scripts:
            number, text = int(script.name[:4]), script.read_text(encoding="utf-8")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if number not in applied:
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO alert_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                    number,
                    script.name,
                    checksum,
                )
            elif applied[number] != checksum:
                raise FailedPreconditionError(f"The applied migration alerts/{script.name} was changed afterwards.")


def _is_script(name: str) -> bool:
    return name.endswith(".sql") and name[:4].isdigit()
