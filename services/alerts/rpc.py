"""The servicer: convert, ask `query`, convert back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from airis.alerts.v1 import alerts_pb2 as pb
from airis.alerts.v1 import alerts_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from services.alerts import convert
from services.alerts.convert import ResourceCodec, resource_id
from services.alerts.matching import rule_filter
from services.alerts.model import AlertRule, Channel, EscalationPolicy, Resource, Silence
from services.alerts.query import AlertQueries, Page, ResourceQueries, RuleTrials
from services.shared.errors import InvalidArgumentError, UnimplementedError
from services.shared.rpc.context import tenant
from services.shared.rpc.interceptor import validate
from services.shared.rpc.pages import decode_page_token, encode_page_token, invalid_page_token
from services.shared.rpc.update_mask import merge, without_servers_own
from services.shared.rpc.watching import Limits, tell_begun

ResourceT = TypeVar("ResourceT", bound=Resource)

_ALL = "-"


class ResourceEndpoint(Generic[ResourceT]):
    """The five methods of one kind of resource."""

    def __init__(self, codec: ResourceCodec[ResourceT], queries: ResourceQueries[ResourceT]) -> None:
        self._codec = codec
        self._queries = queries

    async def create(self, owner: str, message: Any, identifier: str) -> Any:
        with _violations_within(self._codec.field):
            resource = self._codec.read(without_servers_own(message))
            return self._write(await self._queries.create(owner, resource, identifier))

    async def get(self, owner: str, name: str) -> Any:
        return self._write(await self._queries.get(owner, self._id(name)))

    async def list(
        self, owner: str, request: Any, keep: Callable[[ResourceT], bool] = lambda _: True
    ) -> tuple[list[Any], str]:
        page = await self._queries.list(owner, request.page_size, _after(request), keep)
        return [self._write(resource) for resource in page.items], _next_token(request, page)

    async def update(self, owner: str, patch: Any, request: Any) -> Any:
        def change(old: ResourceT) -> ResourceT:
            message = merge(self._codec.write(old, True), patch, request.update_mask)
            # The request had only a part; the rules of the contract are for the whole.
            validate(message)
            return self._codec.read(message)

        with _violations_within(self._codec.field):
            return self._write(await self._queries.update(owner, self._id(patch.name), patch.etag, change))

    async def delete(self, owner: str, request: Any) -> Empty:
        await self._queries.delete(owner, self._id(request.name), request.etag)
        return Empty()

    def _id(self, name: str) -> str:
        return resource_id(name, self._codec.collection)

    def _write(self, resource: ResourceT) -> Any:
        return self._codec.write(resource, False)


@dataclass(frozen=True, slots=True)
class Methods:
    """What the servicer calls."""

    rules: ResourceEndpoint[AlertRule]
    silences: ResourceEndpoint[Silence]
    channels: ResourceEndpoint[Channel]
    policies: ResourceEndpoint[EscalationPolicy]
    alerts: AlertQueries
    trials: RuleTrials


class AlertServicer(alerts_pb2_grpc.AlertServiceServicer):
    """Implements `airis.alerts.v1.AlertService`. The contract's comments say what each method promises."""

    def __init__(self, methods: Methods) -> None:
        self._rules = methods.rules
        self._silences = methods.silences
        self._channels = methods.channels
        self._policies = methods.policies
        self._alerts = methods.alerts
        self._trials = methods.trials

    async def CreateAlertRule(self, request: Any, context: Any) -> Any:
        return await self._rules.create(tenant(), request.alert_rule, request.alert_rule_id)

    async def GetAlertRule(self, request: Any, context: Any) -> Any:
        return await self._rules.get(tenant(), request.name)

    async def ListAlertRules(self, request: Any, context: Any) -> Any:
        rules, token = await self._rules.list(tenant(), request, rule_filter(request.filter))
        return pb.ListAlertRulesResponse(alert_rules=rules, next_page_token=token)

    async def UpdateAlertRule(self, request: Any, context: Any) -> Any:
        return await self._rules.update(tenant(), request.alert_rule, request)

    async def DeleteAlertRule(self, request: Any, context: Any) -> Any:
        return await self._rules.delete(tenant(), request)

    async def CreateSilence(self, request: Any, context: Any) -> Any:
        return await self._silences.create(tenant(), request.silence, request.silence_id)

    async def GetSilence(self, request: Any, context: Any) -> Any:
        return await self._silences.get(tenant(), request.name)

    async def ListSilences(self, request: Any, context: Any) -> Any:
        silences, token = await self._silences.list(tenant(), request)
        return pb.ListSilencesResponse(silences=silences, next_page_token=token)

    async def UpdateSilence(self, request: Any, context: Any) -> Any:
        return await self._silences.update(tenant(), request.silence, request)

    async def DeleteSilence(self, request: Any, context: Any) -> Any:
        return await self._silences.delete(tenant(), request)

    async def CreateChannel(self, request: Any, context: Any) -> Any:
        return await self._channels.create(tenant(), request.channel, request.channel_id)

    async def GetChannel(self, request: Any, context: Any) -> Any:
        return await self._channels.get(tenant(), request.name)

    async def ListChannels(self, request: Any, context: Any) -> Any:
        channels, token = await self._channels.list(tenant(), request)
        return pb.ListChannelsResponse(channels=channels, next_page_token=token)

    async def UpdateChannel(self, request: Any, context: Any) -> Any:
        return await self._channels.update(tenant(), request.channel, request)

    async def DeleteChannel(self, request: Any, context: Any) -> Any:
        return await self._channels.delete(tenant(), request)

    async def CreateEscalationPolicy(self, request: Any, context: Any) -> Any:
        return await self._policies.create(tenant(), request.escalation_policy, request.escalation_policy_id)

    async def GetEscalationPolicy(self, request: Any, context: Any) -> Any:
        return await self._policies.get(tenant(), request.name)

    async def ListEscalationPolicies(self, request: Any, context: Any) -> Any:
        policies, token = await self._policies.list(tenant(), request)
        return pb.ListEscalationPoliciesResponse(escalation_policies=policies, next_page_token=token)

    async def UpdateEscalationPolicy(self, request: Any, context: Any) -> Any:
        return await self._policies.update(tenant(), request.escalation_policy, request)

    async def DeleteEscalationPolicy(self, request: Any, context: Any) -> Any:
        return await self._policies.delete(tenant(), request)

    async def TestAlertRule(self, request: Any, context: Any) -> Any:
        trial = await self._trials.run(tenant(), resource_id(request.name, "alertRules"))
        groups = [
            pb.TestAlertRuleResponse.Group(
                labels=dict(group.group),
                values=[math.nan if value is None else value for value in group.values],
                holds=holds,
            )
            for group, holds in zip(trial.groups, trial.holds, strict=True)
        ]
        return pb.TestAlertRuleResponse(groups=groups, holds=any(trial.holds))

    async def BacktestAlertRule(self, request: Any, context: Any) -> Any:
        raise UnimplementedError(
            "Backtests are not possible in this version; TestAlertRule says what a rule finds now."
        )

    async def GetAlert(self, request: Any, context: Any) -> Any:
        return convert.write_alert(await self._alerts.get(tenant(), resource_id(request.name, "alerts")))

    async def ListAlerts(self, request: Any, context: Any) -> Any:
        page = await self._alerts.list(tenant(), request.filter, request.page_size, _after(request))
        alerts = [convert.write_alert(alert) for alert in page.items]
        return pb.ListAlertsResponse(alerts=alerts, next_page_token=_next_token(request, page))

    async def AcknowledgeAlert(self, request: Any, context: Any) -> Any:
        return await self._by_hand(self._alerts.acknowledge, request)

    async def ResolveAlert(self, request: Any, context: Any) -> Any:
        return await self._by_hand(self._alerts.resolve, request)

    async def ListAlertEvents(self, request: Any, context: Any) -> Any:
        (after,) = decode_page_token(request, int) or [0]
        if after >= 2**63:
            raise invalid_page_token()
        alert = "" if request.parent == f"alerts/{_ALL}" else resource_id(request.parent, "alerts", "parent")
        page = await self._alerts.events(tenant(), alert, request.page_size, after)
        events = [convert.write_event(event) for event in page.items]
        return pb.ListAlertEventsResponse(events=events, next_page_token=_next_token(request, page))

    async def WatchAlerts(self, request: Any, context: Any) -> AsyncIterator[Any]:
        limits = Limits.of(request, context, rest_count=100, rest_seconds=60.0)
        watch = await self._alerts.watch(tenant(), request.filter)
        await tell_begun(context)
        count = 0
        async with aclosing(_until(watch, limits.seconds)) as events:
            async for event in events:
                yield pb.WatchAlertsResponse(event=convert.write_event(event))
                count += 1
                if count == limits.count:
                    return

    async def _by_hand(self, act: Callable[[str, str, str, str], Awaitable[Any]], request: Any) -> Any:
        alert = await act(tenant(), resource_id(request.name, "alerts"), request.actor, request.comment)
        return convert.write_alert(alert)


@contextmanager
def _violations_within(field: str) -> Iterator[None]:
    """Names fields as the request does: what is wrong with a resource is known by its own fields."""
    try:
        yield
    except InvalidArgumentError as error:
        error.violations = tuple(
            each if each.field == "update_mask" else replace(each, field=f"{field}.{each.field}")
            for each in error.violations
        )
        raise


def _after(request: Any) -> str:
    """The id after which the page begins."""
    (after,) = decode_page_token(request, str) or [""]
    # PostgreSQL's texts have none.
    if "\0" in after:
        raise invalid_page_token()
    return str(after)


def _next_token(request: Any, page: Page[Any]) -> str:
    return "" if page.cursor is None else encode_page_token(request, [page.cursor])


async def _until(items: AsyncGenerator[Any, None], seconds: float | None) -> AsyncGenerator[Any, None]:
    """The items that come within so many seconds; None: all."""
    end = None if seconds is None else asyncio.get_running_loop().time() + seconds
    async with aclosing(items):
        while True:
            try:
                async with asyncio.timeout_at(end):
                    item = await anext(items)
            except (StopAsyncIteration, TimeoutError):
                return
            yield item
