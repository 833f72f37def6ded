"""What a resource must be beyond the rules of the contract. Pure; each raises what the caller is told."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from services.alerts.config import AlertsConfig
from services.alerts.matching import check_signal_filter, check_silence_filter
from services.alerts.model import (
    Aggregation,
    AlertRule,
    Channel,
    Condition,
    EmailTarget,
    EscalationPolicy,
    Silence,
    SlackTarget,
    SmsTarget,
    Source,
    WebhookTarget,
)
from services.shared.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    UnimplementedError,
)

_LOG_GROUPS = 4
_COUNTS = (Aggregation.COUNT, Aggregation.RATE)


def check_rule(rule: AlertRule) -> None:
    """Checks a rule.

    Raises:
        InvalidArgumentError: A filter does not parse, or fields do not fit together.
        UnimplementedError: It needs what this version does not have.
    """
    if rule.escalation_policy:
        raise UnimplementedError(
            "Escalation policies can be kept but have no effect in this version; leave escalation_policy empty."
        )
    if len(set(rule.group_by)) < len(rule.group_by):
        raise _invalid("group_by", "names a label twice")
    for index, condition in enumerate(rule.conditions):
        _check_condition(condition, f"conditions[{index}]", len(rule.group_by))


def _check_condition(condition: Condition, path: str, group_count: int) -> None:
    if condition.source is Source.TRACES:
        raise UnimplementedError("Conditions over spans are not possible in this version; use a metric or a log_query.")
    if condition.source is Source.METRIC:
        _check_filter(condition.filter, f"{path}.filter")
        return
    _check_filter(condition.subject, f"{path}.log_query")
    if condition.filter:
        raise _invalid(f"{path}.filter", "is for metrics only; put it into log_query")
    if condition.aggregation not in _COUNTS:
        raise _invalid(f"{path}.aggregation", "must be COUNT or RATE with log_query")
    if group_count > _LOG_GROUPS:
        raise _invalid("group_by", f"names {group_count} labels; with log_query it can be {_LOG_GROUPS}")


def _check_filter(text: str, path: str, check: Callable[[str], None] = check_signal_filter) -> None:
    try:
        check(text)
    except InvalidArgumentError as error:
        violation = FieldViolation(path, error.message, error.reason)
        raise InvalidArgumentError(error.message, reason=error.reason, violations=(violation,)) from error


def check_silence(silence: Silence) -> None:
    """Checks a silence but for its times, for which the store has the clock. Raises: InvalidArgumentError."""
    _check_filter(silence.filter, "filter", check_silence_filter)


def check_policy(policy: EscalationPolicy) -> None:
    """Checks an escalation policy. Raises: InvalidArgumentError."""
    for index, step in enumerate(policy.steps):
        if step.delay < timedelta(0):
            raise _invalid(f"steps[{index}].delay", "must not be negative")


def check_channel(channel: Channel, config: AlertsConfig) -> None:
    """Checks a channel.

    Raises:
        InvalidArgumentError: Its address is not allowed here.
        FailedPreconditionError: It needs a mail host and none is configured.
        UnimplementedError: It is an SMS channel.
    """
    match channel.target:
        case SmsTarget():
            raise UnimplementedError(
                "SMS channels are not possible in this version: there is no provider to configure. "
                "Use a webhook of your provider."
            )
        case EmailTarget():
            if config.mail is None:
                raise FailedPreconditionError(
                    "E-mail channels need a mail host; set alerts.mail.host in the server's configuration."
                )
        case WebhookTarget(url=url):
            check_address(url, "webhook.url", config.allow_local_targets)
        case SlackTarget(url=url):
            check_address(url, "slack.url", config.allow_local_targets)


def check_address(url: str, field: str, allow_local: bool) -> None:
    """Checks where a channel sends to. Names are checked again, by their addresses, when it is connected to.

    Raises:
        InvalidArgumentError: It is no http address, or not allowed in this profile. The address, which may be
            a secret, is not part of the message.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise _invalid(field, "must be an address like https://host/path")
    if parts.username is not None or parts.password is not None:
        raise _invalid(field, "must not contain a user name or password")
    if allow_local:
        return
    if parts.scheme != "https":
        raise _invalid(field, "must begin with https:// in this profile")
    if host == "localhost" or host.endswith(".localhost") or is_local_address(host):
        raise _invalid(field, "must not be an address of this machine or its network in this profile")


def is_local_address(host: str) -> bool:
    """Whether it is an IP address (not a name) that is not reachable from everywhere."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_global


def _invalid(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {description}.", violations=(FieldViolation(field, description),))
