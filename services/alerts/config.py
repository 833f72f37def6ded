"""The configuration of the alert service."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class MailConfig(BaseModel):
    """The mail host that sends to e-mail channels.

    Attributes:
        host: Its name or address.
        port: Its port.
        sender: The address that mails come from.
        username: To log in with; empty: no login.
        password: To log in with.
        security: `none`, `starttls` (begins in plain, then encrypted) or `tls` (encrypted from the start).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(min_length=1)
    port: int = Field(default=25, ge=1, le=65535)
    sender: str = Field(default="airis@localhost", min_length=3)
    username: str = ""
    password: SecretStr = SecretStr("")
    security: str = Field(default="none", pattern="^(none|starttls|tls)$")


class AlertsConfig(BaseModel):
    """All that can be set. Times are in seconds.

    Attributes:
        grpc_port: Where gRPC is served.
        http_port: Where `/metrics`, `/healthz` and `/readyz` are served.
        postgres_pool_size: The greatest number of connections, beside one that hears of new events.
        postgres_timeout: After which a statement is given up; a transaction, after twice as long.
        metrics_target: Where MetricsService is, as `host:port`; empty: beside this service.
        logs_target: Where LogService is, as `host:port`; empty: beside this service.
        signals_token_file: The file of the token with which Metrics and Logs are asked, each time on behalf of the
            tenant of the rule; None: they are asked without one, as they may be on loopback.
        evaluation_poll_interval: The longest time between looks for rules that are due.
        evaluation_concurrency: How many rules are evaluated at the same time.
        evaluation_timeout: After which an evaluation is given up; its rule says so in `last_error`.
        ingestion_delay: How long before its moment an evaluation's window ends, so that data that is still on
            its way into the stores is not missed.
        max_groups: The greatest number of groups of a rule, those that have data and those that are remembered
            without; with more it is not evaluated. Those that are gone and have no alert are forgotten before.
        max_silences: The greatest number of silences of a tenant that have not ended.
        notification_poll_interval: The longest time between looks for notifications to send.
        notification_concurrency: How many notifications are sent at the same time.
        notification_timeout: After which an attempt to tell a channel is given up.
        notification_attempts: After how many a notification is given up.
        notification_backoff: Before the second attempt; doubled with each.
        notification_backoff_limit: The longest time between attempts.
        notification_retention: How long finished notifications of ended alerts are kept.
        allow_local_targets: Whether webhooks may use http and reach this machine and its network neighbours.
        mail: The mail host; None: e-mail channels are refused.
        watch_poll_interval: The longest time before watchers see an event, should PostgreSQL not say so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grpc_port: int = Field(default=8004, ge=1, le=65535)
    http_port: int = Field(default=9104, ge=1, le=65535)
    postgres_pool_size: int = Field(default=10, ge=2, le=1000)
    postgres_timeout: float = Field(default=10.0, gt=0)
    metrics_target: str = ""
    logs_target: str = ""
    signals_token_file: Path | None = None
    evaluation_poll_interval: float = Field(default=1.0, gt=0, le=60)
    evaluation_concurrency: int = Field(default=8, ge=1, le=1000)
    evaluation_timeout: float = Field(default=10.0, gt=0)
    ingestion_delay: float = Field(default=1.0, ge=0, le=3600)
    max_groups: int = Field(default=1000, ge=1, le=10_000)
    max_silences: int = Field(default=500, ge=1, le=1000)
    notification_poll_interval: float = Field(default=1.0, gt=0, le=60)
    notification_concurrency: int = Field(default=8, ge=1, le=1000)
    notification_timeout: float = Field(default=10.0, gt=0)
    notification_attempts: int = Field(default=8, ge=1, le=100)
    notification_backoff: float = Field(default=1.0, gt=0)
    notification_backoff_limit: float = Field(default=300.0, gt=0)
    notification_retention: float = Field(default=7 * 86400.0, gt=0)
    allow_local_targets: bool = False
    mail: MailConfig | None = None
    watch_poll_interval: float = Field(default=2.0, gt=0, le=60)
