"""The domain of the alert service. No I/O, no protobuf.

The numbers of the enums are those of the contract, so that they are stored and compared as they are sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TypeAlias

Labels: TypeAlias = dict[str, str]
Clock: TypeAlias = Callable[[], datetime]
"""Tells the time, with a time zone."""
NewId: TypeAlias = Callable[[], str]
"""Makes an id that is unique and later in order than those made before."""


class Severity(IntEnum):
    """How bad it is; a greater one is worse."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Match(IntEnum):
    """How conditions are joined."""

    ALL = 1
    ANY = 2


class NoData(IntEnum):
    """What to think when there is no data."""

    KEEP = 1
    OK = 2
    FIRE = 3


class Operator(IntEnum):
    """How a number is compared with the threshold."""

    GT = 1
    LT = 2
    EQ = 3
    NE = 4
    GTE = 5
    LTE = 6


class Aggregation(IntEnum):
    """How the values in a window become one."""

    SUM = 1
    AVG = 2
    MIN = 3
    MAX = 4
    COUNT = 5
    LAST = 6
    RATE = 7
    INCREASE = 8
    QUANTILE = 9


class Source(IntEnum):
    """What a condition measures."""

    METRIC = 1
    LOGS = 2
    TRACES = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """A number that is compared with a threshold.

    Attributes:
        source: Which signal is asked.
        subject: The metric's name, or the filter for the entries or spans that are counted.
        filter: Which series of the metric.
        window: How far back is looked.
        duration: How long the condition must hold before the alert fires.
    """

    source: Source
    subject: str
    filter: str = ""
    aggregation: Aggregation = Aggregation.AVG
    quantile: float = 0.0
    window: timedelta = timedelta(seconds=60)
    operator: Operator = Operator.GT
    threshold: float = 0.0
    duration: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What all resources have.

    Attributes:
        id: The last part of the resource's name; empty until it is stored.
        etag: Changes with each change; empty until it is stored.
    """

    id: str = ""
    etag: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule(Resource):
    """When to tell whom. `channels` and `escalation_policy` hold ids, not names."""

    display_name: str
    description: str = ""
    conditions: tuple[Condition, ...]
    match: Match = Match.ALL
    severity: Severity = Severity.MEDIUM
    channels: tuple[str, ...] = ()
    escalation_policy: str = ""
    group_by: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    evaluation_interval: timedelta = timedelta(seconds=10)
    no_data: NoData = NoData.KEEP
    enabled: bool = True
    last_error: str = ""

    def asks_the_same_as(self, other: AlertRule) -> bool:
        """Whether what was found out for the other rule holds for this one too."""
        return (
            self.conditions == other.conditions
            and self.match == other.match
            and self.group_by == other.group_by
            and self.enabled == other.enabled
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(Resource):
    """A time in which matching alerts tell nobody: from `start_time` on, before `end_time`.

    Attributes:
        start_time: None: when it is stored, by the store's clock.
    """

    filter: str = ""
    start_time: datetime | None = None
    end_time: datetime
    comment: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class EmailTarget:
    """Mail addresses."""

    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address for POSTs of JSON; with a secret they are signed."""

    url: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SlackTarget:
    """The address of a Slack incoming webhook, which is itself a secret."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmsTarget:
    """Telephone numbers in international form."""

    to: tuple[str, ...]


Target: TypeAlias = EmailTarget | WebhookTarget | SlackTarget | SmsTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel(Resource):
    """A way to tell people."""

    display_name: str = ""
    email: EmailTarget | None = None
    webhook: WebhookTarget | None = None
    slack: SlackTarget | None = None
    sms: SmsTarget | None = None

    @property
    def target(self) -> Target:
        """The one target that is set.

        Raises:
            ValueError: There is none.
        """
        for target in (self.email, self.webhook, self.slack, self.sms):
            if target is not None:
                return target
        raise ValueError("the channel has no target")


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """Who is told, and how long after the step before."""

    channels: tuple[str, ...]
    delay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPolicy(Resource):
    """Who is told when nobody acts."""

    display_name: str = ""
    steps: tuple[EscalationStep, ...]
    repeat_count: int = 0


class AlertState(IntEnum):
    """Where an alert stands."""

    INACTIVE = 1
    PENDING = 2
    FIRING = 3
    RESOLVED = 4


class EventKind(IntEnum):
    """What happened to an alert."""

    PENDING = 1
    FIRING = 2
    RESOLVED = 3
    CANCELLED = 4
    ACKNOWLEDGED = 5
    NOTIFIED = 6
    NOTIFICATION_FAILED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """Something that happened to an alert. Events are only ever added.

    Attributes:
        number: Its place in the order of all events; 0 until it is stored.
        value: The number that led to it; NaN when there was no data.
        actor: Who, or which channel; empty for the evaluator.
    """

    alert: str
    kind: EventKind
    event_time: datetime
    value: float
    rule: str
    display_name: str
    severity: Severity
    labels: Labels
    actor: str = ""
    comment: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a rule found in one group: the projection of its events.

    Attributes:
        value: The number of the first condition when it was last evaluated; NaN without data.
        silenced: True while a silence keeps it from telling anybody; known only where it was asked for.
    """

    id: str
    rule: str
    display_name: str
    severity: Severity
    state: AlertState
    labels: Labels
    value: float
    start_time: datetime
    fire_time: datetime | None = None
    resolve_time: datetime | None = None
    acknowledge_time: datetime | None = None
    acknowledged_by: str = ""
    silenced: bool = False
