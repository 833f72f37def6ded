"""Which fields the filters of this service may name, and what they say of its things."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Any

from services.alerts.model import (
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    EventKind,
    Match,
    NoData,
    Severity,
    Silence,
)
from services.shared.filter import Checked, Field, Kind, Schema, matches, parse, read_filter


def _enum(name: str, values: type[IntEnum]) -> Field:
    return Field(name, Kind.ENUM, enum=tuple((value.name, value.value) for value in values))


_RULE = Field("rule", Kind.STRING)
_SEVERITY = _enum("severity", Severity)
_LABELS = Field("labels", Kind.LABEL_MAP)

SILENCE_SCHEMA = Schema.of([_RULE, _SEVERITY, _LABELS])
ALERT_SCHEMA = Schema.of([_enum("state", AlertState), _RULE, _SEVERITY, _LABELS])
EVENT_SCHEMA = Schema.of([_enum("kind", EventKind), _RULE, _SEVERITY, _LABELS])
RULE_SCHEMA = Schema.of(
    [
        Field("name", Kind.STRING),
        Field("display_name", Kind.STRING),
        Field("description", Kind.STRING),
        _enum("match", Match),
        _SEVERITY,
        Field("escalation_policy", Kind.STRING),
        _LABELS,
        Field("evaluation_interval", Kind.DURATION, unit_nanoseconds=1_000_000_000),
        _enum("no_data", NoData),
        Field("enabled", Kind.BOOLEAN),
        Field("create_time", Kind.TIMESTAMP),
        Field("update_time", Kind.TIMESTAMP),
        Field("last_error", Kind.STRING),
    ]
)


def check_signal_filter(text: str) -> None:
    """Checks the form of a filter for another signal's data, whose fields only its service knows.

    Raises:
        InvalidArgumentError: It does not parse; the reason is INVALID_FILTER.
    """
    parse(text)


# The silences of a tenant are gone through again and again: with less room than all of them need, each would push out
# one that is wanted again soon. This is enough for 16 tenants that have as many as they may have, at 28 kB at most.
@lru_cache(maxsize=8_192)
def _silence_filter(text: str) -> Checked | None:
    return read_filter(text, SILENCE_SCHEMA)


def check_silence_filter(text: str) -> None:
    """Checks a silence's filter. Raises: InvalidArgumentError."""
    _silence_filter(text)


def silencer(silences: Iterable[Silence]) -> Callable[[Alert], bool]:
    """Says of an alert whether one of the silences, which hold now, keeps it from telling anybody."""
    filters = [_silence_filter(silence.filter) for silence in silences]

    def is_silenced(alert: Alert) -> bool:
        record = _record(alert)
        return any(matches(tree, record) for tree in filters)

    return is_silenced


def alert_filter(text: str) -> Callable[[Alert], bool]:
    """What a filter says of an alert. Raises: InvalidArgumentError."""
    tree = read_filter(text, ALERT_SCHEMA)
    return lambda alert: matches(tree, {"state": int(alert.state), **_record(alert)})


def event_filter(text: str) -> Callable[[AlertEvent], bool]:
    """What a filter says of an event. Raises: InvalidArgumentError."""
    tree = read_filter(text, EVENT_SCHEMA)
    return lambda event: matches(tree, {"kind": int(event.kind), **_record(event)})


def rule_filter(text: str) -> Callable[[AlertRule], bool]:
    """What a filter says of a rule. Raises: InvalidArgumentError."""
    tree = read_filter(text, RULE_SCHEMA)
    return lambda rule: matches(tree, _rule_record(rule))


def _record(thing: Alert | AlertEvent) -> dict[str, Any]:
    return {
        "rule": f"alertRules/{thing.rule}",
        "severity": int(thing.severity),
        "labels": thing.labels,
    }


def _rule_record(rule: AlertRule) -> dict[str, Any]:
    policy = rule.escalation_policy
    return {
        "name": f"alertRules/{rule.id}",
        "display_name": rule.display_name,
        "description": rule.description,
        "match": int(rule.match),
        "severity": int(rule.severity),
        "escalation_policy": f"escalationPolicies/{policy}" if policy else "",
        "labels": rule.labels,
        "evaluation_interval": rule.evaluation_interval.total_seconds(),
        "no_data": int(rule.no_data),
        "enabled": rule.enabled,
        "create_time": rule.create_time,
        "update_time": rule.update_time,
        "last_error": rule.last_error,
    }
