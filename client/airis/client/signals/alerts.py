"""AlertService."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from airis.alerts.v1 import alerts_pb2, alerts_pb2_grpc
from airis.client.calls import Calls
from airis.client.paging import Paged
from airis.client.signals.resources import Resources, Shape
from airis.client.times import Length, Moment, duration, timestamp

_SERVICE = alerts_pb2.DESCRIPTOR.services_by_name["AlertService"]

RULES = Shape(alerts_pb2, alerts_pb2.AlertRule, "AlertRule", "AlertRules", "alert_rule", "alert_rules")
SILENCES = Shape(alerts_pb2, alerts_pb2.Silence, "Silence", "Silences", "silence", "silences")
CHANNELS = Shape(alerts_pb2, alerts_pb2.Channel, "Channel", "Channels", "channel", "channels")
ESCALATION_POLICIES = Shape(
    alerts_pb2,
    alerts_pb2.EscalationPolicy,
    "EscalationPolicy",
    "EscalationPolicies",
    "escalation_policy",
    "escalation_policies",
)


class Alerts:
    """Keeps rules and shows what becomes of them. Each call raises `AirisError` when it fails.

    Attributes:
        rules: The alert rules.
        silences: What is not notified, and when.
        channels: How people are told.
        escalation_policies: Who is told next.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._calls = Calls(alerts_pb2_grpc.AlertServiceStub(channel), _SERVICE, channel)
        self.rules: Resources[alerts_pb2.AlertRule] = Resources(self._calls, RULES)
        self.silences: Resources[alerts_pb2.Silence] = Resources(self._calls, SILENCES)
        self.channels: Resources[alerts_pb2.Channel] = Resources(self._calls, CHANNELS)
        self.escalation_policies: Resources[alerts_pb2.EscalationPolicy] = Resources(self._calls, ESCALATION_POLICIES)

    def list(
        self, filter: str = "", *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[alerts_pb2.ListAlertsResponse, alerts_pb2.Alert]:
        """Alerts, the newest first; without a filter those that fire or are pending."""

        async def fetch(token: str) -> alerts_pb2.ListAlertsResponse:
            request = alerts_pb2.ListAlertsRequest(filter=filter, page_size=page_size, page_token=token)
            return await self._calls.unary("ListAlerts", request, alerts_pb2.ListAlertsResponse, timeout)

        return Paged(fetch, "alerts", page_token)

    async def get(self, name: str, *, timeout: float | None = None) -> alerts_pb2.Alert:
        """An alert by its full name. Raises `NotFoundError` if there is none."""
        return await self._calls.unary("GetAlert", alerts_pb2.GetAlertRequest(name=name), alerts_pb2.Alert, timeout)

    async def acknowledge(
        self, name: str, *, actor: str = "", comment: str = "", timeout: float | None = None
    ) -> alerts_pb2.Alert:
        """Says that a person takes care of an alert. Raises `FailedPreconditionError` if it is resolved."""
        request = alerts_pb2.AcknowledgeAlertRequest(name=name, actor=actor, comment=comment)
        return await self._calls.unary("AcknowledgeAlert", request, alerts_pb2.Alert, timeout)

    async def resolve(
        self, name: str, *, actor: str = "", comment: str = "", timeout: float | None = None
    ) -> alerts_pb2.Alert:
        """Ends an alert by hand. Raises `FailedPreconditionError` if it is resolved."""
        request = alerts_pb2.ResolveAlertRequest(name=name, actor=actor, comment=comment)
        return await self._calls.unary("ResolveAlert", request, alerts_pb2.Alert, timeout)

    def events(
        self, alert: str = "alerts/-", *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[alerts_pb2.ListAlertEventsResponse, alerts_pb2.AlertEvent]:
        """What happened to an alert, the oldest first; "alerts/-" is all alerts."""

        async def fetch(token: str) -> alerts_pb2.ListAlertEventsResponse:
            request = alerts_pb2.ListAlertEventsRequest(parent=alert, page_size=page_size, page_token=token)
            return await self._calls.unary("ListAlertEvents", request, alerts_pb2.ListAlertEventsResponse, timeout)

        return Paged(fetch, "events", page_token)

    async def watch(
        self,
        filter: str = "",
        *,
        max_count: int = 0,
        max_duration: Length | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[alerts_pb2.AlertEvent]:
        """Events as they happen; without limits it goes on for ever."""
        request = alerts_pb2.WatchAlertsRequest(filter=filter, max_count=max_count, max_duration=duration(max_duration))
        async for response in self._calls.stream("WatchAlerts", request, alerts_pb2.WatchAlertsResponse, timeout):
            yield response.event

    async def test(self, rule: str, *, timeout: float | None = None) -> alerts_pb2.TestAlertRuleResponse:
        """What a rule finds now; changes nothing. Raises `NotFoundError` if there is no such rule."""
        request = alerts_pb2.TestAlertRuleRequest(name=rule)
        return await self._calls.unary("TestAlertRule", request, alerts_pb2.TestAlertRuleResponse, timeout)

    async def backtest(
        self, rule: str, *, start: Moment | None = None, end: Moment | None = None, timeout: float | None = None
    ) -> alerts_pb2.BacktestAlertRuleResponse:
        """When a rule would have fired in a range. Raises `NotFoundError` if there is no such rule."""
        request = alerts_pb2.BacktestAlertRuleRequest(name=rule, start_time=timestamp(start), end_time=timestamp(end))
        return await self._calls.unary("BacktestAlertRule", request, alerts_pb2.BacktestAlertRuleResponse, timeout)
