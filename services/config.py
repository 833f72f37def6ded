"""The whole configuration: defaults < YAML profile < secret files < environment; checked once, at start.

Environment variables are `AIRIS_` and the path in capitals, with `__` between its parts:
`AIRIS_METRICS__RAW_RETENTION_DAYS=30`. Files of these names in the folder `AIRIS_SECRETS_DIR` are settings too, so that
a DSN with a password need not be in the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from services.alerts.config import AlertsConfig
from services.frontend.config import FrontendConfig
from services.logs.config import LogsConfig
from services.mesh.config import MeshConfig
from services.metrics.config import MetricsConfig
from services.shared.auth.config import AuthConfig
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.roles import Roles
from services.shared.bus.config import BusConfig
from services.shared.clickhouse.config import ClickHouseConfig
from services.shared.discovery.config import DiscoveryConfig
from services.shared.errors import InvalidArgumentError
from services.shared.handover.config import HandoverConfig
from services.shared.telemetry.config import TelemetryConfig
from services.traces.config import TracesConfig

PROFILES = ("embedded", "distributed")

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I
)


class PostgresConfig(BaseModel):
    """PostgreSQL. `dsn` may hold a password: it is never logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    dsn: str = ""


class RedisConfig(BaseModel):
    """Redis. `url` may hold a password: it is never logged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    url: str = ""


class Configuration(BaseSettings):
    """Every setting of AIRIS.

    Attributes:
        profile: "embedded", "distributed", or the path of a YAML file.
        embedded: Whether all of AIRIS runs on this machine, as `airis up` starts it. Nobody else may do without
            authentication.
        data_dir: Where engines and journals keep their files; below the working directory, if it is not absolute; `~`
            is the user's own folder.
        role: What a process of metrics, logs or traces does: "serve" takes and answers calls, "work" stores what was
            taken, "all" does both. Only with Kafka may it be one of the two.
        host: The address that services listen on: of IPv4 or IPv6, or a name.
        port_offset: Added to every port.
    """

    model_config = SettingsConfigDict(env_prefix="AIRIS_", env_nested_delimiter="__", frozen=True, extra="forbid")

    profile: str = "embedded"
    embedded: bool = False
    role: Literal["all", "serve", "work"] = "all"
    data_dir: Path = Field(Path("data"), validate_default=True)
    host: str = "127.0.0.1"
    port_offset: int = Field(0, ge=0, le=50000)
    bus: BusConfig = BusConfig()
    clickhouse: ClickHouseConfig = ClickHouseConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    postgres: PostgresConfig = PostgresConfig()
    redis: RedisConfig = RedisConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    auth: AuthConfig = AuthConfig()
    metrics: MetricsConfig = MetricsConfig()
    logs: LogsConfig = LogsConfig()
    traces: TracesConfig = TracesConfig()
    alerts: AlertsConfig = AlertsConfig()
    mesh: MeshConfig = MeshConfig()
    handover: HandoverConfig = HandoverConfig()
    frontend: FrontendConfig = FrontendConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over secret files over YAML over defaults."""
        yaml_file = profile_path(os.environ.get("AIRIS_PROFILE", "embedded"))
        secrets = NestedSecretsSettingsSource(
            file_secret_settings, secrets_dir=os.environ.get("AIRIS_SECRETS_DIR"), secrets_dir_missing="error"
        )
        return init_settings, env_settings, secrets, YamlConfigSettingsSource(settings_cls, yaml_file)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        try:
            return data_dir.expanduser().absolute()
        except RuntimeError:
            raise ValueError(f"{data_dir} begins with the folder of a user who is not known here") from None

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        if _address_of(host) is None and not (_HOST_NAME.fullmatch(host) and re.search("[a-z]", host, re.I)):
            raise ValueError(f"{host!r} is no IP address and no host name; give for example 127.0.0.1")
        return host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the services."""
        address = _address_of(self.host)
        return self.host.lower() == "localhost" if address is None else address.is_loopback

    def address(self, port: int) -> str:
        """`host:port` with the offset."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{port + self.port_offset}"


def profile_path(profile: str) -> Path:
    """The YAML file of a profile: a name of `PROFILES`, or a path.

    Raises:
        InvalidArgumentError: There is no such file.
    """
    path = Path(str(files("services.profiles") / f"{profile}.yaml")) if profile in PROFILES else Path(profile)
    if not path.is_file():
        raise InvalidArgumentError(f"There is no profile {profile!r}. Give {', '.join(PROFILES)} or a YAML file.")
    return path


def load() -> Configuration:
    """Reads the configuration of a service, and checks that it does not let everybody in.

    Raises:
        InvalidArgumentError: A setting is wrong; names it.
    """
    configuration = read()
    check_access(configuration)
    if configuration.role != "all" and configuration.bus.kind == "journal":
        raise InvalidArgumentError(
            f"role is {configuration.role}, and the journal is for one process that does all: set bus.kind to kafka, "
            "or role to all."
        )
    if configuration.role != "all" and configuration.handover.folder is not None:
        raise InvalidArgumentError(
            f"role is {configuration.role}, and handover.folder is for processes that do all: leave one of them out."
        )
    return configuration


def read() -> Configuration:
    """Reads the configuration as it is.

    Raises:
        InvalidArgumentError: A setting is wrong; names it.
    """
    try:
        return Configuration()
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()
        )
        raise InvalidArgumentError(f"The configuration is wrong. {faults}.") from error
    except (SettingsError, yaml.YAMLError, ValueError, OSError) as error:
        # A profile that is no YAML mapping, or a variable that should be JSON: some of it spans lines.
        fault = " ".join(str(error).split())[:300].rstrip(".")
        profile = os.environ.get("AIRIS_PROFILE", "embedded")
        raise InvalidArgumentError(f"The configuration cannot be read (profile {profile}): {fault}.") from error


def check_access(configuration: Configuration) -> None:
    """Refuses settings that would let everybody in, and roles that mean nothing.

    Raises:
        InvalidArgumentError: Says what to do.
    """
    auth = configuration.auth
    Roles(contract_permissions(), auth.roles)
    if auth.enabled:
        # Named before anything starts.
        _ = auth.jwks_path
        return
    remedy = (
        "turn authentication on: make keys with `airis auth init`, and set auth.enabled to true and auth.jwks_file to "
        "the path of jwks.json"
    )
    if not configuration.is_loopback:
        raise InvalidArgumentError(
            f"Without authentication AIRIS listens on a loopback address only, and host is {configuration.host}: set "
            f"host to 127.0.0.1, or {remedy}."
        )
    if not configuration.embedded:
        raise InvalidArgumentError(
            f"Without authentication AIRIS runs in the embedded profile only, and this is {configuration.profile}: "
            f"start it with `airis up`, or {remedy}."
        )


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
