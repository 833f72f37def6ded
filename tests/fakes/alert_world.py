"""The alert service over a real PostgreSQL, with a clock and signals that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from inspect import signature
from typing import Any

from services.alerts import convert
from services.alerts.checks import check_rule, check_silence
from services.alerts.config import AlertsConfig
from services.alerts.evaluate import Reading, group_key
from services.alerts.ids import TimeOrderedIds
from services.alerts.model import (
    AlertEvent,
    AlertRule,
    Channel,
    Condition,
    Silence,
    Source,
    WebhookTarget,
)
from services.alerts.notify.delivery import DeliveryError, NoSentMarks, Notifier
from services.alerts.query import AlertQueries, ResourceQueries
from services.alerts.rpc import ResourceEndpoint
from services.alerts.store.adapters.postgres import AskTime, Postgres, migrate, open_pool
from services.alerts.store.adapters.postgres_alerts import PostgresAlertStore
from services.alerts.store.adapters.postgres_outbox import PostgresOutbox
from services.alerts.store.adapters.postgres_resources import (
    PostgresChannelStore,
    PostgresPolicyStore,
    PostgresSilenceStore,
)
from services.alerts.store.adapters.postgres_rules import PostgresRuleStore
from services.alerts.store.adapters.postgres_signal import PostgresEventSignal
from services.alerts.store.port import DueRule, OutboxEntry
from services.alerts.worker import Evaluator, Sender

CONFIG = AlertsConfig(watch_poll_interval=30, allow_local_targets=True, notification_attempts=3)
START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    async def of_postgres(self, connection: Any) -> datetime:
        """The same clock, as the store asks for it."""
        return self.now


class WrongClock(FakeClock):
    """A clock that is always so many seconds ahead of the right one, or behind it (negative)."""

    def __init__(self, right: FakeClock, ahead: float) -> None:
        super().__init__()
        self._right = right
        self._ahead = timedelta(seconds=ahead)

    def __call__(self) -> datetime:
        return self._right() + self._ahead

    def advance(self, seconds: float) -> datetime:
        self._right.advance(seconds)
        return self()


class FakeSignals:
    """Signals that answer by subject what a test put there: {labels: value}, or an error to raise."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, datetime]] = []
        self.tenants: list[str] = []

    def set(self, subject: str, value: float | None = None, **groups: float) -> None:
        """One number without groups, or numbers by the value of the label `host`."""
        values = {group_key({"host": host}): number for host, number in groups.items()}
        if value is not None:
            values[()] = value
        self.answers[subject] = values

    async def read(self, tenant: str, condition: Condition, group_by: Sequence[str], end: datetime) -> Reading:
        self.asked.append((condition.subject, end))
        self.tenants.append(tenant)
        await asyncio.sleep(0)
        answer = self.answers.get(condition.subject, {})
        if isinstance(answer, Exception):
            raise answer
        return Reading(dict(answer), absent=0.0 if condition.source is Source.LOGS else None)


class FakeSender:
    """Keeps what it is told to send; fails as often as a test says."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, Any]]] = []
        self.failures: list[DeliveryError] = []

    async def send(self, target: Any, key: str, payload: Mapping[str, Any], at: datetime) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append((key, payload))

    @property
    def events(self) -> list[str]:
        return [payload["event"] for _, payload in self.sent]


class OfTenant:
    """A store, or queries, as one tenant sees them: the tenant is every first argument."""

    def __init__(self, target: Any, tenant: str) -> None:
        self._target = target
        self._tenant = tenant

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        return partial(method, self._tenant) if "tenant" in signature(method).parameters else method


@dataclass
class World:
    """All parts, put together. Stores and queries are those of `tenant`; evaluator and sender are everybody's."""

    database: Postgres
    signal: PostgresEventSignal
    clock: FakeClock
    signals: FakeSignals = field(default_factory=FakeSignals)
    sender_fake: FakeSender = field(default_factory=FakeSender)
    config: AlertsConfig = CONFIG
    tenant: str = "default"

    def __post_init__(self) -> None:
        self.new_id = TimeOrderedIds(self.clock)
        self.all_rules = PostgresRuleStore(self.database, self.new_id)
        self.all_silences = PostgresSilenceStore(self.database, self.new_id, self.config.max_silences)
        self.all_channels = PostgresChannelStore(self.database, self.new_id)
        self.outbox = PostgresOutbox(self.database, timedelta(seconds=self.config.notification_backoff_limit))
        self.rules = self._own(self.all_rules)
        self.silences = self._own(self.all_silences)
        self.channels = self._own(self.all_channels)
        self.policies = self._own(PostgresPolicyStore(self.database, self.new_id))
        alerts = PostgresAlertStore(self.database)
        self.alerts = self._own(alerts)
        self.rule_queries = self._own(ResourceQueries(self.all_rules, check_rule, self.new_id))
        self.silence_endpoint = ResourceEndpoint(
            convert.SILENCES, ResourceQueries(self.all_silences, check_silence, self.new_id)
        )
        self.alert_queries = self._own(AlertQueries(alerts, self.all_silences, self.signal, self.config))
        self.evaluator = self.new_evaluator()
        self.sender = self.new_sender({WebhookTarget: self.sender_fake})

    def of(self, tenant: str) -> World:
        """The same world, as another tenant sees it."""
        return replace(self, tenant=tenant)

    def replica(self, ahead: float) -> World:
        """Another replica, whose own clock is so many seconds ahead, or behind (negative)."""
        return replace(self, clock=WrongClock(self.clock, ahead))

    def _own(self, target: Any) -> OfTenant:
        return OfTenant(target, self.tenant)

    def new_evaluator(self) -> Evaluator:
        return Evaluator(self.all_rules, self.all_silences, self.signals, self.config, self.new_id)

    def new_sender(self, senders: Mapping[type, Any], random: Callable[[], float] = lambda: 1.0) -> Sender:
        notifier = Notifier(self.all_channels, NoSentMarks(), senders)
        return Sender(self.outbox, self.all_silences, notifier, self.config, self.clock, random)

    async def evaluate(self, seconds: float = 0) -> int:
        """Lets time pass, then evaluates what is due."""
        self.clock.advance(seconds)
        return await self.evaluator.run_once()

    async def send(self, seconds: float = 0) -> int:
        """Lets time pass, then sends what is due."""
        self.clock.advance(seconds)
        return await self.sender.run_once()

    async def take_due(self, seconds: float, limit: int, lease: timedelta) -> Sequence[DueRule]:
        """Lets time pass, then takes rules of all tenants, as an evaluator does."""
        self.clock.advance(seconds)
        return await self.all_rules.take_due(limit, lease)

    async def take_notifications(self, seconds: float, limit: int, lease: timedelta) -> Sequence[OutboxEntry]:
        """Lets time pass, then takes notifications of all tenants, as a sender does."""
        self.clock.advance(seconds)
        return await self.outbox.take(limit, lease)

    async def add_channel(self, name: str = "ops", url: str = "http://127.0.0.1:9/hook", secret: str = "") -> Channel:
        channel = Channel(id=name, webhook=WebhookTarget(url, secret))
        created: Channel = await self.channels.create(channel)
        return created

    async def add_rule(self, rule: AlertRule | None = None, **changes: Any) -> AlertRule:
        created: AlertRule = await self.rules.create(replace(rule or simple_rule(), **changes))
        return created

    async def add_silence(self, seconds: float, filter_text: str = "", name: str = "quiet") -> Silence:
        now = self.clock()
        silence = Silence(id=name, filter=filter_text, start_time=now, end_time=now + timedelta(seconds=seconds))
        created: Silence = await self.silences.create(silence)
        return created

    async def kinds(self, alert: str = "") -> list[str]:
        return [event.kind.name for event in await self.all_events(alert)]

    async def all_events(self, alert: str = "") -> Sequence[AlertEvent]:
        events: Sequence[AlertEvent] = await self.alerts.events(alert, 0, 10_000)
        return events


def simple_rule(**changes: Any) -> AlertRule:
    """cpu > 90, every 10 s, as "alertRules/hot"."""
    condition = Condition(Source.METRIC, "cpu", threshold=90)
    return replace(AlertRule(id="hot", display_name="Hot", conditions=(condition,)), **changes)


@asynccontextmanager
async def open_world(dsn: str, ask_time: AskTime | None = None, **changes: Any) -> AsyncIterator[World]:
    """A world in an empty database.

    Args:
        ask_time: The clock of the store; None: the same that everything else goes by.
        changes: Of the fields of `World`.
    """
    clock = FakeClock()
    database = Postgres(await open_pool(dsn, 10, 10), ask_time=ask_time or clock.of_postgres)
    signal = PostgresEventSignal(dsn, retry_delay=0.05)
    try:
        await migrate(database)
        await signal.start()
        yield World(database, signal, clock, **changes)
    finally:
        await signal.stop()
        await database.close()
