"""Where a ClickHouse is: what a DSN says, checked once, so that no secret of it comes into a message or a log."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.errors import InvalidArgumentError

DATABASE = "airis"
"""The database that statements name: `airis.samples`. `Target.localize` puts the real one in its place."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NAMED = re.compile(rf"\b{DATABASE}\.(?=[A-Za-z_])")
_TLS_OPTIONS = {"ca_cert", "client_cert", "client_cert_key", "verify"}
_PORTS = {"http": 8123, "https": 8443}

# It looks at its memory twenty times a second unless told otherwise, which costs more than all else of an idle engine.
_ENGINE = {"memory_worker_period_ms": 500}


@dataclass(frozen=True, slots=True)
class Target:
    """One ClickHouse.

    Attributes:
        database: The database of the tables.
        is_embedded: Whether it runs in this process (chdb).
        password_file: Where the password is, if the DSN has none.
    """

    database: str
    is_embedded: bool
    password_file: Path | None = None
    _arguments: dict[str, Any] = field(default_factory=dict, repr=False)

    def arguments(self) -> dict[str, Any]:
        """What `clickhouse_connect.get_client` takes, with the password as it is now.

        Raises:
            OSError: The password file cannot be read.
        """
        if self.password_file is None:
            return dict(self._arguments)
        return {**self._arguments, "password": self.password_file.read_text(encoding="utf-8").strip()}

    @property
    def folder(self) -> Path:
        """Where the one in this process keeps its data."""
        return Path(urlsplit(self._arguments["dsn"]).path)

    def at(self, node: str) -> Target:
        """The same on another server, `host:port`.

        Raises:
            InvalidArgumentError: It is no host and port.
        """
        host, _, port = node.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidArgumentError(f"clickhouse.nodes has {node!r}; each must be host:port.")
        return replace(self, _arguments={**self._arguments, "host": host.strip("[]"), "port": int(port)})

    def localize(self, sql: str) -> str:
        """The statement with this database in place of `airis`. Values of users are parameters, never in the text."""
        return sql if self.database == DATABASE else _NAMED.sub(f"{self.database}.", sql)


def read_target(dsn: str, config: ClickHouseConfig) -> Target:
    """Reads `chdb:///path` or `http(s)://user:password@host:port/database`.

    With https, `?ca_cert=…&client_cert=…&client_cert_key=…&verify=false` say how the server is known.

    Raises:
        InvalidArgumentError: The DSN is none of these; the message does not repeat it.
    """
    if dsn.startswith("chdb:"):
        # The driver takes the first part of any other path for a host, and the second for a database.
        if not dsn.startswith("chdb:///"):
            raise _wrong("the path in chdb:///path must be absolute")
        return Target(config.database, is_embedded=True, _arguments={"dsn": dsn, "chdb_options": _ENGINE})
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError:
        raise _wrong("its port or host cannot be read") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _wrong("it must be chdb:///path or http(s)://user:password@host:port/database")
    if parts.password is not None and config.password_file is not None:
        raise _wrong("it has a password, and clickhouse.password_file is set, too")
    return Target(
        _database(parts, config),
        is_embedded=False,
        password_file=config.password_file,
        _arguments={
            "interface": parts.scheme,
            "host": parts.hostname,
            "port": port or _PORTS[parts.scheme],
            "username": unquote(parts.username or "default"),
            "password": unquote(parts.password or ""),
            **_tls_options(parts),
        },
    )


def _database(parts: SplitResult, config: ClickHouseConfig) -> str:
    name = unquote(parts.path.strip("/")) or config.database
    if not _IDENTIFIER.fullmatch(name):
        raise _wrong("the database in its path must be letters, digits and _, 63 at most")
    return name


def _tls_options(parts: SplitResult) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := options.keys() - _TLS_OPTIONS:
        raise _wrong(f"there is no option {', '.join(sorted(unknown))}; there are {', '.join(sorted(_TLS_OPTIONS))}")
    return options


def _wrong(fault: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"The DSN of ClickHouse is wrong: {fault}.")
