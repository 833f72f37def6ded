"""What is asked from outside: resources, alerts and their events, and what a rule would find now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

from services.alerts.config import AlertsConfig
from services.alerts.evaluate import GroupReading, Verdict, join, judge
from services.alerts.matching import alert_filter, event_filter, silencer
from services.alerts.model import (
    Alert,
    AlertEvent,
    AlertState,
    Clock,
    EventKind,
    NewId,
    Resource,
)
from services.alerts.signals.port import Signals, read_conditions
from services.alerts.store.port import AlertStore, EventSignal, ResourceStore, RuleStore, SilenceStore
from services.shared.errors import UnavailableError

ResourceT = TypeVar("ResourceT", bound=Resource)
ItemT = TypeVar("ItemT")

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
# A filter that matches little ends a page early rather than reading everything in one call.
_MAX_SCANNED = 20_000
_WATCH_BATCH = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """Some items, and the cursor at which the next page goes on; None: this is the last."""

    items: Sequence[ItemT]
    cursor: str | int | None


class ResourceQueries(Generic[ResourceT]):
    """Resources of one kind. Each method is about those of one tenant.

    Args:
        check: Raises what is wrong with a resource.
        new_id: Makes an id where the caller gives none.
    """

    def __init__(
        self,
        store: ResourceStore[ResourceT],
        check: Callable[[ResourceT], None],
        new_id: NewId,
    ) -> None:
        self._store = store
        self._check = check
        self._new_id = new_id

    async def create(self, tenant: str, resource: ResourceT, resource_id: str) -> ResourceT:
        """Keeps a new resource; with an empty id, one is made.

        Raises:
            AlreadyExistsError: The id is taken.
            AirisError: The resource is not as it must be.
        """
        self._check(resource)
        resource = replace(resource, id=resource_id or self._new_id())
        return await self._store.create(tenant, resource)

    async def get(self, tenant: str, resource_id: str) -> ResourceT:
        """The resource of that id. Raises: NotFoundError."""
        return await self._store.get(tenant, resource_id)

    async def list(
        self, tenant: str, size: int, cursor: str = "", keep: Callable[[ResourceT], bool] = lambda _: True
    ) -> Page[ResourceT]:
        """A page in order of the ids.

        Args:
            size: How many at most; 0: 100.
            cursor: The id after which the page begins.
            keep: Which are wanted.
        """

        async def read(after: str, limit: int) -> Sequence[ResourceT]:
            return await self._store.list(tenant, after, limit)

        return await _fill(read, lambda resource: resource.id, size, cursor, keep)

    async def update(
        self, tenant: str, resource_id: str, etag: str, change: Callable[[ResourceT], ResourceT]
    ) -> ResourceT:
        """Changes a resource; an etag that is not empty must be the current one.

        Raises:
            NotFoundError: There is none of that id.
            AbortedError: It has another etag.
            AirisError: What `change` makes of it is not as it must be.
        """

        def checked(old: ResourceT) -> ResourceT:
            new = change(old)
            self._check(new)
            return new

        return await self._store.update(tenant, resource_id, etag, checked)

    async def delete(self, tenant: str, resource_id: str, etag: str) -> None:
        """Removes a resource; an etag that is not empty must be the current one.

        Raises:
            NotFoundError: There is none of that id.
            AbortedError: It has another etag.
            FailedPreconditionError: Others name it.
        """
        await self._store.delete(tenant, resource_id, etag)


class AlertQueries:
    """Alerts and their events. Each method is about those of one tenant."""

    def __init__(
        self,
        alerts: AlertStore,
        silences: SilenceStore,
        signal: EventSignal,
        config: AlertsConfig,
    ) -> None:
        self._alerts = alerts
        self._silences = silences
        self._signal = signal
        self._poll_interval = config.watch_poll_interval
        self._closed = False

    def close(self) -> None:
        """Ends the watches when they next look, at the latest after the poll interval."""
        self._closed = True

    async def get(self, tenant: str, alert_id: str) -> Alert:
        """The alert of that id. Raises: NotFoundError."""
        return await self._marked(tenant, await self._alerts.get(tenant, alert_id))

    async def list(self, tenant: str, filter_text: str, size: int, cursor: str = "") -> Page[Alert]:
        """A page of alerts, the newest first; without a filter those that fire or are pending.

        Raises:
            InvalidArgumentError: The filter is wrong.
        """
        states = None if filter_text.strip() else (AlertState.PENDING, AlertState.FIRING)

        async def read(before: str, limit: int) -> Sequence[Alert]:
            return await self._alerts.list(tenant, before, limit, states)

        page = await _fill(read, lambda alert: alert.id, size, cursor, alert_filter(filter_text))
        is_silenced = await self._silencer(tenant)
        return replace(page, items=[replace(alert, silenced=is_silenced(alert)) for alert in page.items])

    async def acknowledge(self, tenant: str, alert_id: str, actor: str, comment: str) -> Alert:
        """Says that a person takes care of it.

        Raises:
            NotFoundError: There is none of that id.
            FailedPreconditionError: It has ended.
        """
        return await self._by_hand(tenant, alert_id, EventKind.ACKNOWLEDGED, actor, comment)

    async def resolve(self, tenant: str, alert_id: str, actor: str, comment: str) -> Alert:
        """Ends it; its group fires again only after its conditions were seen not to hold.

        Raises:
            NotFoundError: There is none of that id.
            FailedPreconditionError: It has ended.
        """
        return await self._by_hand(tenant, alert_id, EventKind.RESOLVED, actor, comment)

    async def events(self, tenant: str, alert_id: str, size: int, cursor: int = 0) -> Page[AlertEvent]:
        """A page of events, the oldest first, of one alert or (empty id) of all.

        Raises:
            NotFoundError: There is no such alert.
        """
        if alert_id:
            await self._alerts.get(tenant, alert_id)
        size = _size(size)
        events = await self._alerts.events(tenant, alert_id, cursor, size + 1)
        more = len(events) > size
        return Page(events[:size], events[size - 1].number if more else None)

    async def watch(self, tenant: str, filter_text: str) -> AsyncGenerator[AlertEvent, None]:
        """The events from now on, without an end; none is left out, and none comes twice.

        Raises:
            InvalidArgumentError: The filter is wrong.
        """
        keep = event_filter(filter_text)
        return self._watch(tenant, await self._alerts.newest_event_number(tenant), keep)

    async def _watch(
        self, tenant: str, cursor: int, keep: Callable[[AlertEvent], bool]
    ) -> AsyncGenerator[AlertEvent, None]:
        with self._signal.subscribe(tenant) as news:
            while not self._closed:
                news.clear()
                events = await self._alerts.events(tenant, "", cursor, _WATCH_BATCH)
                for event in events:
                    cursor = event.number
                    if keep(event):
                        yield event
                if len(events) < _WATCH_BATCH:
                    with suppress(TimeoutError):
                        # `wait_for` would lose a cancellation that comes with the news.
                        async with asyncio.timeout(self._poll_interval):
                            await news.wait()
        raise UnavailableError("The alert service is stopping; watch again.", reason="NOT_READY", retry_after=1.0)

    async def _by_hand(self, tenant: str, alert_id: str, kind: EventKind, actor: str, comment: str) -> Alert:
        alert = await self._alerts.record_by_hand(tenant, alert_id, kind, actor, comment, await self._silencer(tenant))
        return await self._marked(tenant, alert)

    async def _marked(self, tenant: str, alert: Alert) -> Alert:
        return replace(alert, silenced=(await self._silencer(tenant))(alert))

    async def _silencer(self, tenant: str) -> Callable[[Alert], bool]:
        return silencer(await self._silences.active(tenant))


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule finds now: the groups, and whether the conditions hold in each."""

    groups: Sequence[GroupReading]
    holds: Sequence[bool]


class RuleTrials:
    """Evaluates rules without consequences."""

    def __init__(self, rules: RuleStore, signals: Signals, clock: Clock, config: AlertsConfig) -> None:
        self._rules = rules
        self._signals = signals
        self._clock = clock
        self._config = config

    async def run(self, tenant: str, rule_id: str) -> Trial:
        """What a rule finds now, whatever the durations of its conditions.

        Raises:
            NotFoundError: There is none of that id.
            AirisError: A signal could not be asked.
        """
        rule = await self._rules.get(tenant, rule_id)
        readings = await read_conditions(
            self._signals,
            tenant,
            rule,
            self._clock() - timedelta(seconds=self._config.ingestion_delay),
            seconds=self._config.evaluation_timeout,
            max_groups=self._config.max_groups,
        )
        groups = judge(rule, readings)
        return Trial(groups, [join(rule.match, group.verdicts) is Verdict.HOLDS for group in groups])


async def _fill(
    read: Callable[[str, int], Awaitable[Sequence[ItemT]]],
    key: Callable[[ItemT], str],
    size: int,
    cursor: str,
    keep: Callable[[ItemT], bool],
) -> Page[ItemT]:
    """Reads on until a page is full of what is wanted, or enough was looked at."""
    size = _size(size)
    items: list[ItemT] = []
    scanned = 0
    while scanned < _MAX_SCANNED:
        # One more than a page shows whether there is a next one.
        batch = await read(cursor, size + 1)
        for item in batch:
            if keep(item):
                if len(items) == size:
                    return Page(items, cursor)
                items.append(item)
            cursor = key(item)
        scanned += len(batch)
        if len(batch) <= size:
            return Page(items, None)
    return Page(items, cursor)


def _size(asked: int) -> int:
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
