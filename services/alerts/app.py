"""The composition root: the only module that names a technology."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from airis.alerts.v1 import alerts_pb2
from airis.client import AirisClient, Discovery

from services.alerts import checks, convert
from services.alerts.config import AlertsConfig
from services.alerts.ids import TimeOrderedIds
from services.alerts.model import Clock, EmailTarget, SlackTarget, Target, WebhookTarget
from services.alerts.notify.adapters.redis_marks import RedisSentMarks
from services.alerts.notify.delivery import NoSentMarks, Notifier, SentMarks, TargetSender
from services.alerts.notify.email import EmailSender
from services.alerts.notify.http import HttpPoster
from services.alerts.notify.slack import SlackSender
from services.alerts.notify.webhook import WebhookSender
from services.alerts.query import AlertQueries, ResourceQueries, RuleTrials
from services.alerts.rpc import AlertServicer, Methods, ResourceEndpoint
from services.alerts.signals.adapters.airis_client import ClientSignals
from services.alerts.store.adapters.postgres import Postgres, migrate, open_pool
from services.alerts.store.adapters.postgres_alerts import PostgresAlertStore
from services.alerts.store.adapters.postgres_outbox import PostgresOutbox
from services.alerts.store.adapters.postgres_resources import (
    PostgresChannelStore,
    PostgresPolicyStore,
    PostgresSilenceStore,
)
from services.alerts.store.adapters.postgres_rules import PostgresRuleStore
from services.alerts.store.adapters.postgres_signal import PostgresEventSignal
from services.alerts.worker import Evaluator, Sender
from services.shared.background import until_one_ends
from services.shared.discovery.config import DiscoveryConfig
from services.shared.errors import AirisError, FailedPreconditionError
from services.shared.patience import once, patiently
from services.shared.rpc.server import Binding, Endpoints, Listens, RpcServer

DOMAIN = "alerts.airis"


class HasDsn(Protocol):
    """Settings of PostgreSQL."""

    @property
    def dsn(self) -> str:
        """Where it is."""


class HasUrl(Protocol):
    """Settings of Redis."""

    @property
    def url(self) -> str:
        """Where it is; empty: there is none."""


class HasPort(Protocol):
    """Settings of another service."""

    @property
    def grpc_port(self) -> int:
        """Its port, without the offset."""


class Settings(Listens, Protocol):
    """What the service needs of the whole configuration."""

    @property
    def alerts(self) -> AlertsConfig:
        """Its own settings."""

    @property
    def metrics(self) -> HasPort:
        """Where Metrics is, unless `alerts` says otherwise."""

    @property
    def logs(self) -> HasPort:
        """Where Logs is, unless `alerts` says otherwise."""

    @property
    def postgres(self) -> HasDsn:
        """Where rules and alerts are kept."""

    @property
    def redis(self) -> HasUrl:
        """Where it is remembered what was sent."""

    @property
    def embedded(self) -> bool:
        """Whether a supervisor has started PostgreSQL before."""

    @property
    def discovery(self) -> DiscoveryConfig:
        """Where Metrics and Logs are found, unless `alerts` says."""

    def address(self, port: int) -> str:
        """`host:port` with the offset."""


def build(settings: Settings) -> AlertsApplication:
    """Puts the service together."""
    return AlertsApplication(settings)


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


class AlertsApplication:
    """The alert service.

    Args:
        settings: The configuration.
        clock: Tells the time.
    """

    def __init__(self, settings: Settings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._config = settings.alerts
        self._clock = clock
        self._stop_workers = asyncio.Event()
        self._workers: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None
        self._resources = AsyncExitStack()
        self._database: Postgres | None = None
        self._queries: AlertQueries | None = None
        self._signal: PostgresEventSignal | None = None
        self._server: RpcServer | None = None

    async def start(self) -> None:
        """Opens the store, brings its tables up to date, evaluates, notifies and serves."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config, clock = self._config, self._clock
        dsn = self._settings.postgres.dsn
        if not dsn:
            raise FailedPreconditionError("The alert service needs PostgreSQL; set postgres.dsn.")
        begin = once if self._settings.embedded else patiently
        pool = await begin(lambda: open_pool(dsn, config.postgres_pool_size, config.postgres_timeout))
        self._database = database = Postgres(pool)
        self._resources.push_async_callback(database.close)
        await begin(lambda: migrate(database))
        self._signal = signal = PostgresEventSignal(dsn)
        await signal.start()
        self._resources.push_async_callback(signal.stop)

        new_id = TimeOrderedIds(clock)
        rules = PostgresRuleStore(database, new_id)
        silences = PostgresSilenceStore(database, new_id, config.max_silences)
        channels, policies = PostgresChannelStore(database, new_id), PostgresPolicyStore(database, new_id)
        signals = self._open_signals()
        self._queries = alerts = AlertQueries(PostgresAlertStore(database), silences, signal, config)
        servicer = AlertServicer(
            Methods(
                rules=ResourceEndpoint(convert.RULES, ResourceQueries(rules, checks.check_rule, new_id)),
                silences=ResourceEndpoint(convert.SILENCES, ResourceQueries(silences, checks.check_silence, new_id)),
                channels=ResourceEndpoint(
                    convert.CHANNELS,
                    ResourceQueries(channels, lambda channel: checks.check_channel(channel, config), new_id),
                ),
                policies=ResourceEndpoint(convert.POLICIES, ResourceQueries(policies, checks.check_policy, new_id)),
                alerts=alerts,
                trials=RuleTrials(rules, signals, clock, config),
            )
        )
        evaluator = Evaluator(rules, silences, signals, config, new_id)
        notifier = Notifier(channels, self._open_marks(), self._open_senders())
        outbox = PostgresOutbox(database, timedelta(seconds=config.notification_backoff_limit))
        sender = Sender(outbox, silences, notifier, config, clock, random.SystemRandom().random)
        self._workers = asyncio.create_task(self._work(evaluator, sender), name="alerts-workers")
        self._server = RpcServer(
            Endpoints(
                self._settings.host,
                config.grpc_port + self._settings.port_offset,
                config.http_port + self._settings.port_offset,
                DOMAIN,
                (Binding(alerts_pb2.DESCRIPTOR.services_by_name["AlertService"], servicer),),
                self._not_ready,
                self._settings.auth,
            )
        )
        await self._server.start()
        self._background = asyncio.create_task(until_one_ends(self._server.serving, self._workers), name="background")

    async def stop(self) -> None:
        """Ends watches, serves what has begun, finishes evaluations and notifications, then closes."""
        if self._queries is not None:
            self._queries.close()
        if self._signal is not None:
            await self._signal.stop()
        if self._server is not None:
            await self._server.stop()
        self._stop_workers.set()
        if self._workers is not None:
            await asyncio.gather(self._workers, return_exceptions=True)
        await self._resources.aclose()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as the service does."""
        return self._background

    async def _work(self, evaluator: Evaluator, sender: Sender) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(evaluator.run(self._stop_workers))
            group.create_task(sender.run(self._stop_workers))

    async def _not_ready(self) -> str:
        if self._workers is None or self._workers.done():
            return "the evaluator has stopped"
        if self._database is None:
            return "the store is not open"
        try:
            async with self._database.transaction() as connection:
                await connection.fetchval("SELECT 1", timeout=2.0)
        except AirisError as error:
            return error.message
        return ""

    def _open_signals(self) -> ClientSignals:
        settings, config = self._settings, self._config
        targets = {"metrics": config.metrics_target, "logs": config.logs_target}
        given = {signal: target for signal, target in targets.items() if target}
        if settings.discovery.kind == "consul":
            consul = settings.discovery.consul
            token_file = Path(consul.token_file) if consul.token_file else None
            discovery = Discovery(consul.address, consul.service_prefix, token_file)
            client = AirisClient(targets=given, discovery=discovery, token_file=config.signals_token_file)
        else:
            own = {
                "metrics": settings.address(settings.metrics.grpc_port),
                "logs": settings.address(settings.logs.grpc_port),
            }
            client = AirisClient(targets=own | given, token_file=config.signals_token_file)
        self._resources.push_async_callback(client.close)
        return ClientSignals(client, timeout=config.evaluation_timeout, max_groups=config.max_groups)

    def _open_marks(self) -> SentMarks:
        if not self._settings.redis.url:
            return NoSentMarks()
        marks = RedisSentMarks(self._settings.redis.url)
        self._resources.push_async_callback(marks.close)
        return marks

    def _open_senders(self) -> dict[type[Target], TargetSender]:
        """The kinds of channels that can be told here."""
        config = self._config
        poster = HttpPoster(config.notification_timeout, self._clock, allow_local=config.allow_local_targets)
        self._resources.push_async_callback(poster.close)
        senders: dict[type[Target], TargetSender] = {
            WebhookTarget: WebhookSender(poster),
            SlackTarget: SlackSender(poster),
        }
        if config.mail is not None:
            email = EmailSender(config.mail, config.notification_timeout)
            self._resources.push_async_callback(email.close)
            senders[EmailTarget] = email
        return senders
