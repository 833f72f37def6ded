"""What a store of the alert service promises. Read by `query.py` and `worker.py`.

Every method is one transaction: it happens whole or not at all. Names here are ids, the last part of a
resource's name; they are unique within their tenant, and a method that takes a tenant neither reads nor changes
anything of another. A store that cannot be reached raises `UnavailableError`. It has one clock, which says when
something happened, what is due and which silences hold, whatever the callers' own say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

from services.alerts.evaluate import GroupKey
from services.alerts.model import (
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    Channel,
    EventKind,
    Resource,
    Silence,
)
from services.alerts.state import Group, Step

ResourceT = TypeVar("ResourceT", bound=Resource)

IsSilenced: TypeAlias = Callable[[Alert], bool]
"""Whether an alert may tell nobody now."""


class ResourceStore(Protocol[ResourceT]):
    """Resources of one kind."""

    async def create(self, tenant: str, resource: ResourceT) -> ResourceT:
        """Keeps a new resource under its id; gives it back with etag and times.

        Raises:
            AlreadyExistsError: The id is taken.
            FailedPreconditionError: It names a channel that does not exist.
        """
        ...

    async def get(self, tenant: str, resource_id: str) -> ResourceT:
        """The resource of that id.

        Raises:
            NotFoundError: There is none.
        """
        ...

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[ResourceT]:
        """The first `limit` resources whose ids come after `after`, in order of their ids (as bytes)."""
        ...

    async def update(
        self, tenant: str, resource_id: str, etag: str, change: Callable[[ResourceT], ResourceT]
    ) -> ResourceT:
        """Replaces a resource by what `change` makes of it; nobody else changes it meanwhile.

        Args:
            etag: If not empty, the one the resource must have.

        Raises:
            NotFoundError: There is none of that id.
            AbortedError: It has another etag.
            FailedPreconditionError: It would name a channel that does not exist.
        """
        ...

    async def delete(self, tenant: str, resource_id: str, etag: str) -> None:
        """Removes a resource.

        Raises:
            NotFoundError: There is none of that id.
            AbortedError: It has another etag.
            FailedPreconditionError: A rule or a policy names this channel.
        """
        ...


@dataclass(frozen=True, slots=True)
class DueRule:
    """A rule to evaluate, and the moment for which it is evaluated: a multiple of its interval after the last."""

    tenant: str
    rule: AlertRule
    at: datetime


class RuleStore(ResourceStore[AlertRule], Protocol):
    """Rules, and whose turn it is.

    A rule that is deleted, disabled or asked to look at something else ends its alerts in the same transaction.
    """

    async def take_due(self, limit: int, lease: timedelta) -> Sequence[DueRule]:
        """Takes up to `limit` rules of all tenants whose evaluation is due; each goes to one caller, once per interval.

        Tenants take turns, also from call to call: one with many rules makes nobody else wait for all of them.
        An evaluation of which neither a result nor a failure is written within the lease is given out again, for the
        same moment, until the next one is due. Moments that passed while nobody asked are not made up for.

        What was planned, or written down, while the store's clock was more than a minute ahead holds nothing up: such a
        rule is due now.
        """
        ...

    async def record_failure(self, due: DueRule, error: str) -> None:
        """Writes down why a rule could not be evaluated; nothing else changes."""
        ...

    async def record_evaluation(
        self,
        due: DueRule,
        advance: Callable[[Mapping[GroupKey, Group]], Sequence[Step]],
        is_silenced: IsSilenced,
    ) -> Sequence[AlertEvent]:
        """Writes down what an evaluation found: groups, events, the alerts and their notifications.

        Args:
            advance: Makes the next steps of the groups that are remembered.
            is_silenced: Decides whether a notification is held back.

        Returns:
            The events. None, and nothing is written, if the rule was changed, deleted or evaluated for a later
            moment since it was taken.
        """
        ...


class AlertStore(Protocol):
    """Alerts and their events."""

    async def get(self, tenant: str, alert_id: str) -> Alert:
        """The alert of that id.

        Raises:
            NotFoundError: There is none.
        """
        ...

    async def list(
        self, tenant: str, before: str, limit: int, states: Collection[AlertState] | None = None
    ) -> Sequence[Alert]:
        """The first `limit` alerts whose ids come before `before` (empty: all), the newest first."""
        ...

    async def record_by_hand(
        self,
        tenant: str,
        alert_id: str,
        kind: EventKind,
        actor: str,
        comment: str,
        is_silenced: IsSilenced,
    ) -> Alert:
        """Acknowledges (ACKNOWLEDGED) or ends (RESOLVED) an alert.

        To acknowledge again what the same person acknowledged changes nothing.

        Raises:
            NotFoundError: There is none of that id.
            FailedPreconditionError: It is neither pending nor firing.
        """
        ...

    async def events(self, tenant: str, alert: str, after: int, limit: int) -> Sequence[AlertEvent]:
        """The first `limit` events with numbers greater than `after`, of one alert or (empty) of all.

        An event that becomes visible has a greater number than all that were visible before.
        """
        ...

    async def newest_event_number(self, tenant: str) -> int:
        """The number of the newest event; 0 if there is none."""
        ...

    async def rebuild(self, tenant: str) -> int:
        """Makes all alerts of a tenant anew from their events; gives their number."""
        ...


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A notification to send: its idempotency key, the channel, what to say, how often it was tried, and when it was
    taken."""

    tenant: str
    key: str
    alert: str
    channel: str
    payload: Mapping[str, Any]
    attempts: int
    take_time: datetime


class Outbox(Protocol):
    """Notifications on their way, each from the transaction of the event that it tells of."""

    async def take(self, limit: int, lease: timedelta) -> Sequence[OutboxEntry]:
        """Takes up to `limit` notifications of all tenants that are due; each goes to one caller; tenants take turns.

        One that is neither finished nor retried within the lease is given out again. The next notification of
        an alert to a channel is not given out before the one before is finished. One that was put off while the store's
        clock was more than a minute ahead is given out after the lease.
        """
        ...

    async def sent(self, entry: OutboxEntry) -> None:
        """Finishes a notification that has arrived, and records NOTIFIED, once."""
        ...

    async def retry(self, entry: OutboxEntry, error: str, delay: timedelta) -> None:
        """Makes a notification due again after a delay, unless it was given out anew since it was taken."""
        ...

    async def failed(self, entry: OutboxEntry, error: str) -> None:
        """Gives a notification up, and records NOTIFICATION_FAILED, unless it was given out anew since it was taken."""
        ...

    async def holding(self) -> Sequence[str]:
        """The tenants that have notifications which a silence holds back."""
        ...

    async def release(self, tenant: str, is_silenced: IsSilenced) -> int:
        """Makes notifications of a tenant due whose silence is over; gives their number.

        That an alert fired is dropped if it no longer does.
        """
        ...

    async def prune(self, retention: timedelta) -> int:
        """Forgets notifications of ended alerts, of all tenants, that were finished longer ago than that."""
        ...


class SilenceStore(ResourceStore[Silence], Protocol):
    """Silences. Of each tenant only so many may not have ended.

    To create one, or to make one that had ended last longer, raises `FailedPreconditionError` beyond that number.
    One that is created or updated without `start_time` begins at that moment; one that would not end after it begins
    raises `InvalidArgumentError`.
    """

    async def active(self, tenant: str) -> Sequence[Silence]:
        """The silences of this moment: from `start_time` on, until just before `end_time`."""
        ...


ChannelStore: TypeAlias = ResourceStore[Channel]


class EventSignal(Protocol):
    """Says when there may be new events."""

    def subscribe(self, tenant: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set whenever alert events of a tenant were added; whoever waits clears it before reading.

        It may fail to be set while the store is out of reach: look anyway from time to time.
        """
        ...
