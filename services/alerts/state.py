"""The life of an alert: inactive, pending, firing, resolved. Pure: time and ids come in, events go out.

A group is what a rule watches under one set of labels; it is remembered between evaluations and across
restarts. From the first moment at which its conditions hold it has an alert, whose events are the record of
what happened; `project` makes the alert of them, both when they happen and when they are replayed.

- The alert is pending from when the conditions hold together, and fires once they hold together and each
  that is needed has held for its `duration` without a break (ALL: every one; ANY: one of them). An alert that
  has fired goes on firing while the conditions hold together, whichever of them they are.
- Without data and with `no_data: KEEP` everything stays as it was; a gap neither breaks a duration nor ends
  it.
- An alert that is resolved by hand leaves its group muted until the conditions were seen not to hold.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from services.alerts.evaluate import GroupKey, GroupReading, Verdict, join
from services.alerts.model import (
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    EventKind,
    Labels,
    NewId,
    NoData,
)
from services.shared.errors import ResourceExhaustedError


class Phase(IntEnum):
    """Where a group stands."""

    IDLE = 1
    PENDING = 2
    FIRING = 3
    MUTED = 4


@dataclass(frozen=True, slots=True)
class Group:
    """What is remembered of a group.

    Attributes:
        held_since: For each condition since when it holds; None: it does not.
        alert: The id of its alert while pending or firing; else empty.
        value: The newest number of the first condition; NaN: there was none.
    """

    key: GroupKey
    held_since: tuple[datetime | None, ...]
    phase: Phase = Phase.IDLE
    alert: str = ""
    value: float = math.nan

    @classmethod
    def new(cls, key: GroupKey, rule: AlertRule) -> Group:
        """A group that is seen for the first time."""
        return cls(key, (None,) * len(rule.conditions))


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a group: its new state, whether to keep it, and the events."""

    group: Group
    keep: bool
    events: tuple[AlertEvent, ...] = ()


def advance(rule: AlertRule, group: Group, reading: GroupReading, at: datetime, new_id: NewId) -> Step:
    """Takes a group one evaluation further.

    Args:
        at: The time of the evaluation; later than that of the one before, unless the clock was ahead then.
        new_id: Makes the id of a new alert.
    """
    first = reading.values[0]
    # What holds since a moment that has not come, by a clock that was ahead, would not be ripe until it has.
    known_since = (None if since is None else min(since, at) for since in group.held_since)
    held_since = tuple(
        since if verdict is Verdict.UNKNOWN else (since or at) if verdict is Verdict.HOLDS else None
        for since, verdict in zip(known_since, reading.verdicts, strict=True)
    )
    group = replace(group, held_since=held_since, value=group.value if first is None else first)
    whole = join(rule.match, reading.verdicts)
    comment = "there is no data" if None in reading.values and rule.no_data is NoData.FIRE else ""
    if whole is Verdict.FAILS:
        return _fail(rule, group, reading, at)
    if whole is Verdict.UNKNOWN or group.phase in (Phase.MUTED, Phase.FIRING):
        return _step(rule, group, reading)
    ripe = join(rule.match, _ripeness(rule, reading, held_since, at))
    if ripe is Verdict.HOLDS:
        group = replace(group, phase=Phase.FIRING, alert=group.alert or new_id())
        return _step(rule, group, reading, _event(rule, group, EventKind.FIRING, at, comment=comment))
    if group.phase is Phase.IDLE:
        group = replace(group, phase=Phase.PENDING, alert=new_id())
        return _step(rule, group, reading, _event(rule, group, EventKind.PENDING, at, comment=comment))
    return _step(rule, group, reading)


def forget(steps: Sequence[Step], read: Collection[GroupKey], max_groups: int) -> list[Step]:
    """Forgets groups beyond the limit. None of them was read now, and none has an alert.

    Those that nobody muted come first, and of these the ones whose conditions began to hold longest ago: for want of
    data, that is when they were last seen.

    Args:
        read: The groups that a condition has data for.
        max_groups: How many may be kept.

    Raises:
        ResourceExhaustedError: More must be kept.
    """
    kept = sum(step.keep for step in steps)
    if kept <= max_groups:
        return list(steps)
    forgettable = sorted(
        (
            step.group
            for step in steps
            if step.keep and step.group.phase in (Phase.IDLE, Phase.MUTED) and step.group.key not in read
        ),
        key=lambda group: (group.phase is Phase.MUTED, _last_change(group), group.key),
    )
    if kept - len(forgettable) > max_groups:
        raise ResourceExhaustedError(
            f"The rule has {kept - len(forgettable)} groups, with those whose alerts have not ended, and may have "
            f"{max_groups}; group by fewer labels, narrow the filter, or resolve the alerts of groups that are gone.",
            reason="RESULT_TOO_LARGE",
        )
    forgotten = {group.key for group in forgettable[: kept - max_groups]}
    return [replace(step, keep=step.keep and step.group.key not in forgotten) for step in steps]


def _last_change(group: Group) -> float:
    """Seconds since 1970 when the last of the conditions that hold began to."""
    return max((since.timestamp() for since in group.held_since if since is not None), default=0.0)


def end(rule: AlertRule, group: Group, at: datetime, comment: str) -> tuple[AlertEvent, ...]:
    """The events with which a group ends when its rule no longer watches it."""
    if group.phase not in (Phase.PENDING, Phase.FIRING):
        return ()
    kind = EventKind.CANCELLED if group.phase is Phase.PENDING else EventKind.RESOLVED
    return (_event(rule, group, kind, at, comment=comment),)


def mute(group: Group) -> Group:
    """The group after a person ended its alert."""
    return replace(group, phase=Phase.MUTED, alert="")


def _fail(rule: AlertRule, group: Group, reading: GroupReading, at: datetime) -> Step:
    events = end(rule, group, at, "")
    return _step(rule, replace(group, phase=Phase.IDLE, alert=""), reading, *events)


def _step(rule: AlertRule, group: Group, reading: GroupReading, *events: AlertEvent) -> Step:
    # With FIRE a group must be known after it vanished, if that makes a condition hold; else one that holds nothing
    # may be forgotten: of counts by a label that always has new values, hardly any ever comes back.
    idle = group.phase is Phase.IDLE and not any(group.held_since)
    is_missed = rule.no_data is NoData.FIRE and reading.missed and bool(group.key)
    return Step(group, keep=not idle or is_missed, events=events)


def _ripeness(
    rule: AlertRule, reading: GroupReading, held_since: tuple[datetime | None, ...], at: datetime
) -> list[Verdict]:
    ripe = []
    for condition, verdict, since in zip(rule.conditions, reading.verdicts, held_since, strict=True):
        if verdict is Verdict.HOLDS and (since is None or at - since < condition.duration):
            ripe.append(Verdict.FAILS)
        else:
            ripe.append(verdict)
    return ripe


def _event(rule: AlertRule, group: Group, kind: EventKind, at: datetime, *, comment: str = "") -> AlertEvent:
    return AlertEvent(
        alert=group.alert,
        kind=kind,
        event_time=at,
        value=group.value,
        rule=rule.id,
        display_name=rule.display_name,
        severity=rule.severity,
        labels=alert_labels(rule, group.key),
        comment=comment,
    )


def alert_labels(rule: AlertRule, key: GroupKey) -> Labels:
    """The labels of an alert: the rule's and those of the group, which win."""
    return {**rule.labels, **dict(key)}


def by_hand(alert: Alert, kind: EventKind, at: datetime, actor: str, comment: str) -> AlertEvent:
    """The event of a person, or of a channel that was told, doing something to an alert."""
    return AlertEvent(
        alert=alert.id,
        kind=kind,
        event_time=at,
        value=alert.value,
        rule=alert.rule,
        display_name=alert.display_name,
        severity=alert.severity,
        labels=alert.labels,
        actor=actor,
        comment=comment,
    )


_STATES = {
    EventKind.PENDING: AlertState.PENDING,
    EventKind.FIRING: AlertState.FIRING,
    EventKind.RESOLVED: AlertState.RESOLVED,
    EventKind.CANCELLED: AlertState.INACTIVE,
}


def project(alert: Alert | None, event: AlertEvent) -> Alert:
    """The alert after an event; None is the alert before its first."""
    if alert is None:
        alert = Alert(
            id=event.alert,
            rule=event.rule,
            display_name=event.display_name,
            severity=event.severity,
            state=AlertState.INACTIVE,
            labels=event.labels,
            value=event.value,
            start_time=event.event_time,
        )
    if event.kind is EventKind.ACKNOWLEDGED:
        return replace(alert, acknowledge_time=event.event_time, acknowledged_by=event.actor)
    state = _STATES.get(event.kind)
    if state is None:
        return alert
    return replace(
        alert,
        state=state,
        severity=event.severity,
        labels=event.labels,
        value=event.value,
        fire_time=event.event_time if state is AlertState.FIRING else alert.fire_time,
        resolve_time=event.event_time if state is AlertState.RESOLVED else alert.resolve_time,
    )
