"""Protobuf to the domain and back, and the merging of updates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Generic, TypeVar

from airis.alerts.v1 import alerts_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.alerts.model import (
    Aggregation,
    Alert,
    AlertEvent,
    AlertRule,
    Channel,
    Condition,
    EmailTarget,
    EscalationPolicy,
    EscalationStep,
    Match,
    NoData,
    Operator,
    Resource,
    Severity,
    Silence,
    SlackTarget,
    SmsTarget,
    Source,
    WebhookTarget,
)
from services.shared.errors import FieldViolation, InvalidArgumentError

ResourceT = TypeVar("ResourceT", bound=Resource)
EnumT = TypeVar("EnumT", bound=IntEnum)

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SOURCES = {"metric": Source.METRIC, "log_query": Source.LOGS, "trace_filter": Source.TRACES}


@dataclass(frozen=True, slots=True)
class ResourceCodec(Generic[ResourceT]):
    """How one kind of resource is sent.

    Attributes:
        field: What requests call it.
        collection: The first part of its names.
        read: Makes the domain type.
        write: Makes the message, with what is secret only if asked for.
    """

    field: str
    collection: str
    read: Callable[[Any], ResourceT]
    write: Callable[[ResourceT, bool], Any]


def resource_id(name: str, collection: str, field: str = "name") -> str:
    """The id in a resource name. Raises: InvalidArgumentError."""
    prefix, _, identifier = name.partition("/")
    if prefix != collection or not _ID.fullmatch(identifier):
        description = f"must be {collection}/ and an id of lowercase letters, digits and -"
        raise InvalidArgumentError(
            f"{field} {description}.",
            reason="INVALID_NAME",
            violations=(FieldViolation(field, description, "INVALID_NAME"),),
        )
    return identifier


def timestamp(moment: datetime) -> Timestamp:
    """A moment as it is sent."""
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def _optional(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else timestamp(moment)


def _duration(length: timedelta) -> Duration:
    result = Duration()
    result.FromTimedelta(length)
    return result


def _moment(message: Timestamp, field: str) -> datetime:
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise _invalid(field, "is not a time that exists") from error


def _length(message: Any, field: str, default: timedelta) -> timedelta:
    if not message.HasField(field):
        return default
    try:
        length: timedelta = getattr(message, field).ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise _invalid(field, "is not a duration that exists") from error
    return length


def _enum(kind: type[EnumT], number: int, default: EnumT, field: str) -> EnumT:
    try:
        return kind(number) if number else default
    except ValueError as error:
        raise _invalid(field, f"has the unknown value {number}", "UNKNOWN_ENUM_VALUE") from error


def _invalid(field: str, description: str, reason: str = "INVALID_FIELD") -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field} {description}.", reason=reason, violations=(FieldViolation(field, description, reason),)
    )


def _resource_fields(resource: Resource, collection: str) -> dict[str, Any]:
    return {
        "name": f"{collection}/{resource.id}",
        "etag": resource.etag,
        "create_time": _optional(resource.create_time),
        "update_time": _optional(resource.update_time),
    }


def _read_condition(message: Any, field: str) -> Condition:
    kind = message.WhichOneof("source")
    if kind is None:
        raise _invalid(field, "needs one of metric, log_query and trace_filter")
    source = _SOURCES[kind]
    default = Aggregation.AVG if source is Source.METRIC else Aggregation.COUNT
    return Condition(
        source=source,
        subject=getattr(message, kind),
        filter=message.filter,
        aggregation=_enum(Aggregation, message.aggregation, default, f"{field}.aggregation"),
        quantile=message.quantile,
        window=_length(message, "window", timedelta(seconds=60)),
        operator=_enum(Operator, message.operator, Operator.GT, f"{field}.operator"),
        threshold=message.threshold,
        duration=_length(message, "duration", timedelta(0)),
    )


def _write_condition(condition: Condition) -> Any:
    kind = next(name for name, source in _SOURCES.items() if source is condition.source)
    return pb.AlertRule.Condition(
        filter=condition.filter,
        aggregation=condition.aggregation.name,
        quantile=condition.quantile,
        window=_duration(condition.window),
        operator=condition.operator.name,
        threshold=condition.threshold,
        duration=_duration(condition.duration),
        **{kind: condition.subject},
    )


def _read_rule(message: Any) -> AlertRule:
    policy = message.escalation_policy
    return AlertRule(
        display_name=message.display_name,
        description=message.description,
        conditions=tuple(
            _read_condition(condition, f"conditions[{index}]") for index, condition in enumerate(message.conditions)
        ),
        match=_enum(Match, message.match, Match.ALL, "match"),
        severity=_enum(Severity, message.severity, Severity.MEDIUM, "severity"),
        channels=_channel_ids(message.channels, "channels"),
        escalation_policy=resource_id(policy, "escalationPolicies", "escalation_policy") if policy else "",
        group_by=tuple(message.group_by),
        labels=dict(message.labels),
        evaluation_interval=_length(message, "evaluation_interval", timedelta(seconds=10)),
        no_data=_enum(NoData, message.no_data, NoData.KEEP, "no_data"),
        enabled=message.enabled if message.HasField("enabled") else True,
        last_error=message.last_error,
    )


def _channel_ids(names: Any, field: str) -> tuple[str, ...]:
    """The ids in the names of channels; a channel that is named twice is told once."""
    ids = (resource_id(name, "channels", f"{field}[{index}]") for index, name in enumerate(names))
    return tuple(dict.fromkeys(ids))


def _write_rule(rule: AlertRule, _: bool) -> Any:
    policy = rule.escalation_policy
    return pb.AlertRule(
        **_resource_fields(rule, "alertRules"),
        display_name=rule.display_name,
        description=rule.description,
        conditions=[_write_condition(condition) for condition in rule.conditions],
        match=rule.match.name,
        severity=rule.severity.name,
        channels=[f"channels/{channel}" for channel in rule.channels],
        escalation_policy=f"escalationPolicies/{policy}" if policy else "",
        group_by=rule.group_by,
        labels=rule.labels,
        evaluation_interval=_duration(rule.evaluation_interval),
        no_data=rule.no_data.name,
        enabled=rule.enabled,
        last_error=rule.last_error,
    )


def _read_silence(message: Any) -> Silence:
    if not message.HasField("end_time"):
        raise _invalid("end_time", "is required")
    return Silence(
        filter=message.filter,
        start_time=_moment(message.start_time, "start_time") if message.HasField("start_time") else None,
        end_time=_moment(message.end_time, "end_time"),
        comment=message.comment,
        author=message.author,
    )


def _write_silence(silence: Silence, _: bool) -> Any:
    return pb.Silence(
        **_resource_fields(silence, "silences"),
        filter=silence.filter,
        start_time=_optional(silence.start_time),
        end_time=timestamp(silence.end_time),
        comment=silence.comment,
        author=silence.author,
    )


def _read_channel(message: Any) -> Channel:
    name = message.display_name
    match message.WhichOneof("target"):
        case "email":
            return Channel(display_name=name, email=EmailTarget(tuple(message.email.to)))
        case "webhook":
            return Channel(display_name=name, webhook=WebhookTarget(message.webhook.url, message.webhook.secret))
        case "slack":
            return Channel(display_name=name, slack=SlackTarget(message.slack.url))
        case "sms":
            return Channel(display_name=name, sms=SmsTarget(tuple(message.sms.to)))
        case _:
            raise _invalid("target", "needs one of email, webhook, slack and sms")


def _write_channel(channel: Channel, with_secrets: bool) -> Any:
    message = pb.Channel(**_resource_fields(channel, "channels"), display_name=channel.display_name)
    match channel.target:
        case EmailTarget(to=to):
            message.email.to.extend(to)
        case WebhookTarget(url=url, secret=secret):
            message.webhook.url = url
            message.webhook.secret = secret if with_secrets else ""
        case SlackTarget(url=url):
            message.slack.url = url if with_secrets else ""
            message.slack.SetInParent()
        case SmsTarget(to=to):
            message.sms.to.extend(to)
    return message


def _read_policy(message: Any) -> EscalationPolicy:
    return EscalationPolicy(
        display_name=message.display_name,
        steps=tuple(
            EscalationStep(
                _channel_ids(step.channels, f"steps[{index}].channels"),
                _length(step, "delay", timedelta(0)),
            )
            for index, step in enumerate(message.steps)
        ),
        repeat_count=message.repeat_count,
    )


def _write_policy(policy: EscalationPolicy, _: bool) -> Any:
    steps = [
        pb.EscalationPolicy.Step(
            delay=_duration(step.delay), channels=[f"channels/{channel}" for channel in step.channels]
        )
        for step in policy.steps
    ]
    return pb.EscalationPolicy(
        **_resource_fields(policy, "escalationPolicies"),
        display_name=policy.display_name,
        steps=steps,
        repeat_count=policy.repeat_count,
    )


RULES = ResourceCodec("alert_rule", "alertRules", _read_rule, _write_rule)
SILENCES = ResourceCodec("silence", "silences", _read_silence, _write_silence)
CHANNELS = ResourceCodec("channel", "channels", _read_channel, _write_channel)
POLICIES = ResourceCodec("escalation_policy", "escalationPolicies", _read_policy, _write_policy)


def write_alert(alert: Alert) -> Any:
    """An alert as it is sent."""
    return pb.Alert(
        name=f"alerts/{alert.id}",
        rule=f"alertRules/{alert.rule}",
        display_name=alert.display_name,
        severity=alert.severity.name,
        state=alert.state.name,
        labels=alert.labels,
        value=alert.value,
        start_time=timestamp(alert.start_time),
        fire_time=_optional(alert.fire_time),
        resolve_time=_optional(alert.resolve_time),
        acknowledge_time=_optional(alert.acknowledge_time),
        acknowledged_by=alert.acknowledged_by,
        silenced=alert.silenced,
    )


def write_event(event: AlertEvent) -> Any:
    """An event as it is sent."""
    return pb.AlertEvent(
        name=f"alerts/{event.alert}/events/{event.number}",
        kind=event.kind.name,
        event_time=timestamp(event.event_time),
        value=event.value,
        actor=event.actor,
        comment=event.comment,
        rule=f"alertRules/{event.rule}",
        labels=event.labels,
        severity=event.severity.name,
    )
