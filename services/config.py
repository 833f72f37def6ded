"""The whole configuration: defaults < YAML profile < environment; checked once, at start.

Environment variables are `AIRIS_` and the path in capitals, with `__` between its parts:
`AIRIS_METRICS__RAW_RETENTION_DAYS=30`.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from services.alerts.config import AlertsConfig
from services.logs.config import LogsConfig
from services.metrics.config import MetricsConfig
from services.shared.errors import InvalidArgumentError
from services.shared.telemetry.config import TelemetryConfig
from services.traces.config import TracesConfig

PROFILES = ("embedded",)


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
        profile: "embedded", or the path of a YAML file.
        data_dir: Where engines and journals keep their files.
        host: The address that services listen on.
        port_offset: Added to every port.
    """

    model_config = SettingsConfigDict(env_prefix="AIRIS_", env_nested_delimiter="__", frozen=True, extra="forbid")

    profile: str = "embedded"
    data_dir: Path = Path("data")
    host: str = "127.0.0.1"
    port_offset: int = Field(0, ge=0, le=50000)
    postgres: PostgresConfig = PostgresConfig()
    redis: RedisConfig = RedisConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    metrics: MetricsConfig = MetricsConfig()
    logs: LogsConfig = LogsConfig()
    traces: TracesConfig = TracesConfig()
    alerts: AlertsConfig = AlertsConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over YAML over defaults."""
        yaml_file = profile_path(os.environ.get("AIRIS_PROFILE", "embedded"))
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file)

    def address(self, port: int) -> str:
        """`host:port` with the offset."""
        return f"{self.host}:{port + self.port_offset}"


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
    """Reads the configuration.

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
