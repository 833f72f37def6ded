"""The whole alert service over gRPC: a real PostgreSQL, servers for Metrics and Logs, a webhook and a mail host."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from airis.alerts.v1 import alerts_pb2 as pb
from airis.alerts.v1 import alerts_pb2_grpc
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from service_process import free_port

from services.alerts.app import AlertsApplication
from services.alerts.config import AlertsConfig, MailConfig
from services.shared.auth.config import AuthConfig
from services.shared.discovery.config import DiscoveryConfig


class FakeMetrics(metrics_pb2_grpc.MetricsServiceServicer):
    """Answers every query with one number, and keeps the questions."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.asked: list[Any] = []

    async def QueryMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        response = metrics_pb2.QueryMetricsResponse()
        if self.value is not None:
            labels = dict.fromkeys(request.group_by, "a")
            response.series.add(labels=labels).points.add(value=self.value)
        return response


class FakeLogs(logs_pb2_grpc.LogServiceServicer):
    """Counts what it is told to, and keeps the questions."""

    def __init__(self) -> None:
        self.response = logs_pb2.CountLogsResponse()
        self.asked: list[Any] = []

    async def CountLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        return self.response


class Receiver:
    """A webhook; answers with the statuses it is given first, then 200."""

    def __init__(self) -> None:
        self.posts: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.statuses: list[int] = []
        self.url = ""

    async def post(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 200
        await self.posts.put((dict(request.headers), await request.read()))
        return web.Response(status=status, headers={"Location": "/elsewhere"})


class Mailbox:
    """A mail host that keeps what it gets. It lives in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.mails: asyncio.Queue[tuple[list[str], Message]] = asyncio.Queue()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        from email import message_from_bytes

        mail = (envelope.rcpt_tos, message_from_bytes(envelope.content))
        self.loop.call_soon_threadsafe(self.mails.put_nowait, mail)
        return "250 OK"


@dataclass
class Stage:
    """Everything around the service."""

    metrics: FakeMetrics
    logs: FakeLogs
    receiver: Receiver
    mailbox: Mailbox
    stub: Any
    ports: dict[str, int] = field(default_factory=dict)


@asynccontextmanager
async def grpc_server(add: Callable[[Any], None]) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def webhook(receiver: Receiver) -> AsyncIterator[None]:
    application = web.Application()
    application.router.add_post("/hook", receiver.post)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def stage(postgres_dsn: str) -> AsyncIterator[Stage]:
    metrics, logs, receiver, mailbox = FakeMetrics(), FakeLogs(), Receiver(), Mailbox()
    smtp_port, grpc_port, http_port = free_port(), free_port(), free_port()
    mail = Controller(mailbox, hostname="127.0.0.1", port=smtp_port)
    async with (
        grpc_server(lambda s: metrics_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, s)) as metrics_target,
        grpc_server(lambda s: logs_pb2_grpc.add_LogServiceServicer_to_server(logs, s)) as logs_target,
        webhook(receiver),
    ):
        mail.start()
        config = AlertsConfig(
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_target=metrics_target,
            logs_target=logs_target,
            evaluation_poll_interval=0.05,
            notification_poll_interval=0.05,
            notification_backoff=0.05,
            ingestion_delay=0,
            allow_local_targets=True,
            mail=MailConfig(host="127.0.0.1", port=smtp_port, sender="airis@example.com"),
        )
        settings = SimpleNamespace(
            alerts=config,
            metrics=SimpleNamespace(grpc_port=1),
            logs=SimpleNamespace(grpc_port=1),
            postgres=SimpleNamespace(dsn=postgres_dsn),
            redis=SimpleNamespace(url=""),
            auth=AuthConfig(),
            discovery=DiscoveryConfig(),
            embedded=True,
            host="127.0.0.1",
            port_offset=0,
            address=lambda port: f"127.0.0.1:{port}",
        )
        application = AlertsApplication(settings)
        await application.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
                stub = alerts_pb2_grpc.AlertServiceStub(channel)
                yield Stage(metrics, logs, receiver, mailbox, stub, {"http": http_port})
        finally:
            await application.stop()
            mail.stop()


def cpu_rule(**fields: Any) -> Any:
    rule = pb.AlertRule(
        display_name="Hot",
        conditions=[pb.AlertRule.Condition(metric="cpu", threshold=90)],
        evaluation_interval=duration_pb2.Duration(seconds=1),
    )
    rule.MergeFrom(pb.AlertRule(**fields))
    return rule


async def create_channels(stage: Stage) -> list[str]:
    hook = pb.Channel(webhook=pb.Channel.Webhook(url=stage.receiver.url, secret="s3cret"))
    mail = pb.Channel(email=pb.Channel.Email(to=["a@example.com", "b@example.com"]))
    for name, channel in (("hook", hook), ("mail", mail)):
        await stage.stub.CreateChannel(pb.CreateChannelRequest(channel=channel, channel_id=name))
    return ["channels/hook", "channels/mail"]


async def refused(call: Any) -> tuple[str, str, Any]:
    """The code, the reason and the status of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    next(detail for detail in status.details if detail.Is(info.DESCRIPTOR)).Unpack(info)
    assert info.domain == "alerts.airis"
    return caught.value.code().name, info.reason, status


def violated(status: Any) -> list[str]:
    """The fields that a status names."""
    bad_request = error_details_pb2.BadRequest()
    next(detail for detail in status.details if detail.Is(bad_request.DESCRIPTOR)).Unpack(bad_request)
    return [violation.field for violation in bad_request.field_violations]


async def test_a_rule_that_fires_and_resolves_reaches_its_webhook_and_its_mailbox_once_each(stage: Stage) -> None:
    stage.receiver.statuses = [503]
    stage.metrics.value = 95
    channels = await create_channels(stage)
    async with asyncio.timeout(30):
        await stage.stub.CreateAlertRule(
            pb.CreateAlertRuleRequest(alert_rule=cpu_rule(channels=channels), alert_rule_id="hot")
        )
        headers, body = await stage.receiver.posts.get()
        again, same = await stage.receiver.posts.get()
        to, mail = await stage.mailbox.mails.get()
        stage.metrics.value = 20
        _, resolved = await stage.receiver.posts.get()
        _, resolved_mail = await stage.mailbox.mails.get()
    assert same == body
    assert again["Idempotency-Key"] == headers["Idempotency-Key"]
    expected = hmac.new(b"s3cret", headers["X-Airis-Timestamp"].encode() + b"." + body, sha256).hexdigest()
    assert headers["X-Airis-Signature"] == f"sha256={expected}"
    fired = json.loads(body)
    assert (fired["event"], fired["alert"]["state"], fired["alert"]["value"]) == ("FIRING", "FIRING", 95)
    assert fired["idempotencyKey"] == headers["Idempotency-Key"]
    assert json.loads(resolved)["event"] == "RESOLVED"
    assert (to, mail["Subject"]) == (["a@example.com", "b@example.com"], "[FIRING] MEDIUM: Hot")
    assert resolved_mail["Subject"] == "[RESOLVED] MEDIUM: Hot"
    assert mail["Message-ID"] != resolved_mail["Message-ID"]
    assert stage.receiver.posts.empty()
    assert stage.mailbox.mails.empty()

    name = fired["alert"]["name"]
    alert = await stage.stub.GetAlert(pb.GetAlertRequest(name=name))
    assert (alert.state, alert.rule) == (pb.Alert.RESOLVED, "alertRules/hot")
    events = await stage.stub.ListAlertEvents(pb.ListAlertEventsRequest(parent=name))
    kinds = [pb.AlertEvent.Kind.Name(event.kind) for event in events.events]
    assert sorted(kinds) == ["FIRING", *["NOTIFIED"] * (len(kinds) - 2), "RESOLVED"]
    assert len((await stage.stub.ListAlerts(pb.ListAlertsRequest())).alerts) == 0
    listed = await stage.stub.ListAlerts(pb.ListAlertsRequest(filter="state = RESOLVED"))
    assert [each.name for each in listed.alerts] == [name]


async def test_the_window_of_a_metric_is_one_step_of_the_query(stage: Stage) -> None:
    rule = cpu_rule(group_by=["labels.host"], enabled=False)
    rule.conditions[0].filter = 'env = "prod"'
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id="hot"))
    stage.metrics.value = 95
    trial = await stage.stub.TestAlertRule(pb.TestAlertRuleRequest(name="alertRules/hot"))
    (asked,) = stage.metrics.asked
    start, end, step = (part.ToNanoseconds() for part in (asked.start_time, asked.end_time, asked.step))
    assert end - start == 60_000_000_000
    assert start // step == (end - 1) // step
    assert (list(asked.group_by), asked.filter, asked.metric) == (["host"], 'env = "prod"', "cpu")
    assert trial.holds
    assert [(dict(group.labels), list(group.values), group.holds) for group in trial.groups] == [
        ({"host": "a"}, [95], True)
    ]


async def test_log_entries_are_counted_by_group_and_rates_are_per_second(stage: Stage) -> None:
    count = pb.AlertRule.Condition(log_query="level = ERROR", threshold=5)
    rate = pb.AlertRule.Condition(log_query="level = ERROR", aggregation="RATE", threshold=0.1)
    rule = cpu_rule(group_by=["service", "host"], enabled=False)
    del rule.conditions[:]
    rule.conditions.extend([count, rate])
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id="logs"))
    fields = {"service": "pay", "labels.host": "a"}
    stage.logs.response.groups.add(fields=fields, count=6)
    stage.logs.response.total_count = 6
    trial = await stage.stub.TestAlertRule(pb.TestAlertRuleRequest(name="alertRules/logs"))
    assert list(stage.logs.asked[0].group_by) == ["service", "labels.host"]
    (group,) = trial.groups
    assert (dict(group.labels), list(group.values)) == ({"service": "pay", "host": "a"}, [6, 0.1])
    assert not trial.holds

    stage.logs.response.total_count = 7
    code, _, _ = await refused(stage.stub.TestAlertRule(pb.TestAlertRuleRequest(name="alertRules/logs")))
    assert code == "RESOURCE_EXHAUSTED"


async def test_a_label_that_cannot_be_kept_stops_neither_its_group_nor_the_others(stage: Stage) -> None:
    rule = cpu_rule(group_by=["service"])
    del rule.conditions[:]
    rule.conditions.add(log_query="level = ERROR", aggregation="COUNT", threshold=5)
    for service in ("pay\0", "pay\ufffd", "shop"):
        stage.logs.response.groups.add(fields={"service": service}, count=6)
    stage.logs.response.total_count = 18
    watch = stage.stub.WatchAlerts(pb.WatchAlertsRequest(filter="kind = FIRING", max_count=2))
    await watch.initial_metadata()
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id="logs"))
    async with asyncio.timeout(30):
        fired = {response.event.labels["service"]: response.event.value async for response in watch}
    assert fired == {"pay\ufffd": 12, "shop": 6}


async def test_a_trial_without_data_has_no_numbers_and_does_not_hold(stage: Stage) -> None:
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=cpu_rule(), alert_rule_id="hot"))
    trial = await stage.stub.TestAlertRule(pb.TestAlertRuleRequest(name="alertRules/hot"))
    assert [str(value) for value in trial.groups[0].values] == ["nan"]
    assert not trial.holds


async def test_defaults_are_filled_in_and_what_is_the_servers_is_not_taken(stage: Stage) -> None:
    rule = cpu_rule(name="alertRules/mine", last_error="no", etag="mine")
    rule.ClearField("evaluation_interval")
    created = await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule))
    assert created.name not in ("", "alertRules/mine")
    assert created.etag not in ("", "mine")
    assert (created.last_error, created.enabled, created.evaluation_interval.seconds) == ("", True, 10)
    assert (created.severity, created.match, created.no_data) == (2, 1, 1)
    condition = created.conditions[0]
    assert (condition.aggregation, condition.operator, condition.window.seconds) == (2, 1, 60)
    assert created.create_time == created.update_time
    assert await stage.stub.GetAlertRule(pb.GetAlertRuleRequest(name=created.name)) == created


async def test_an_update_changes_what_the_mask_names_and_nothing_else(stage: Stage) -> None:
    old = await stage.stub.CreateAlertRule(
        pb.CreateAlertRuleRequest(alert_rule=cpu_rule(description="d"), alert_rule_id="hot")
    )
    patch = cpu_rule(name=old.name, severity="CRITICAL", display_name="No", last_error="x")

    async def update(*paths: str, resource: Any = patch) -> Any:
        mask = field_mask_pb2.FieldMask(paths=paths)
        return await stage.stub.UpdateAlertRule(pb.UpdateAlertRuleRequest(alert_rule=resource, update_mask=mask))

    new = await update("severity", "last_error", "name", "etag")
    assert new.etag != old.etag
    old.severity, old.etag = new.severity, new.etag
    old.update_time.CopyFrom(new.update_time)
    assert new == old
    cleared = await update("description")
    assert (cleared.description, cleared.display_name) == ("", "Hot")
    everything = await update("*")
    assert (everything.display_name, everything.severity) == ("No", pb.AlertRule.CRITICAL)
    assert (await update()).display_name == "No"

    for paths in (["bogus"], ["conditions.metric"], ["labels.a"], ["*", "severity"]):
        code, reason, _ = await refused(update(*paths))
        assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    code, reason, _ = await refused(update("severity", resource=cpu_rule(name=old.name, etag=old.etag)))
    assert (code, reason) == ("ABORTED", "ETAG_MISMATCH")
    code, _, _ = await refused(update("severity", resource=cpu_rule(name="alertRules/none")))
    assert code == "NOT_FOUND"


async def test_an_update_of_one_field_need_not_repeat_those_that_are_required(stage: Stage) -> None:
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=cpu_rule(), alert_rule_id="hot"))
    patch = pb.AlertRule(name="alertRules/hot", enabled=False)
    mask = field_mask_pb2.FieldMask(paths=["enabled"])
    updated = await stage.stub.UpdateAlertRule(pb.UpdateAlertRuleRequest(alert_rule=patch, update_mask=mask))
    assert (updated.enabled, updated.display_name) == (False, "Hot")
    updated = await stage.stub.UpdateAlertRule(
        pb.UpdateAlertRuleRequest(alert_rule=pb.AlertRule(name="alertRules/hot", description="d"))
    )
    assert (updated.description, updated.enabled, updated.display_name) == ("d", False, "Hot")
    for path in ("display_name", "conditions"):
        mask = field_mask_pb2.FieldMask(paths=[path])
        code, _, status = await refused(
            stage.stub.UpdateAlertRule(pb.UpdateAlertRuleRequest(alert_rule=patch, update_mask=mask))
        )
        assert (code, violated(status)) == ("INVALID_ARGUMENT", [f"alert_rule.{path}"])


async def test_violations_name_the_field_of_the_request(stage: Stage) -> None:
    rule = cpu_rule()
    rule.conditions[0].filter = "((("
    _, _, status = await refused(stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule)))
    assert violated(status) == ["alert_rule.conditions[0].filter"]
    hook = pb.Channel(webhook=pb.Channel.Webhook(url="https://user:s3cret@example.com/"))
    _, _, status = await refused(stage.stub.CreateChannel(pb.CreateChannelRequest(channel=hook)))
    assert violated(status) == ["channel.webhook.url"]
    assert "s3cret" not in str(status)


async def test_secrets_of_channels_never_come_back_and_outlive_updates(stage: Stage) -> None:
    await create_channels(stage)
    got = await stage.stub.GetChannel(pb.GetChannelRequest(name="channels/hook"))
    assert (got.webhook.url, got.webhook.secret) == (stage.receiver.url, "")
    got.display_name = "Ops"
    mask = field_mask_pb2.FieldMask(paths=["*"])
    await stage.stub.UpdateChannel(pb.UpdateChannelRequest(channel=got, update_mask=mask))
    stage.metrics.value = 95
    rule = cpu_rule(channels=["channels/hook"])
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule))
    async with asyncio.timeout(30):
        headers, _ = await stage.receiver.posts.get()
    assert "X-Airis-Signature" in headers

    slack = pb.Channel(slack=pb.Channel.Slack(url=stage.receiver.url))
    created = await stage.stub.CreateChannel(pb.CreateChannelRequest(channel=slack))
    assert created.WhichOneof("target") == "slack"
    assert created.slack.url == ""
    listed = await stage.stub.ListChannels(pb.ListChannelsRequest())
    assert not any(each.slack.url or each.webhook.secret for each in listed.channels)


async def test_what_cannot_be_done_is_refused_in_a_sentence_that_says_what_to_do(stage: Stage) -> None:
    await create_channels(stage)
    policy = pb.EscalationPolicy(steps=[pb.EscalationPolicy.Step(channels=["channels/hook"])])
    stub = stage.stub
    created = await stub.CreateEscalationPolicy(pb.CreateEscalationPolicyRequest(escalation_policy=policy))
    traces = cpu_rule()
    traces.conditions[0].trace_filter = "status = ERROR"
    grouped = cpu_rule(group_by=list("abcde"))
    grouped.conditions[0].log_query = "x"
    bad_filter = cpu_rule()
    bad_filter.conditions[0].filter = "((("
    sms = pb.Channel(sms=pb.Channel.Sms(to=["+821012345678"]))
    now = timestamp_pb2.Timestamp(seconds=1_800_000_000)
    backwards = pb.Silence(start_time=now, end_time=now)
    cases = [
        (stub.CreateAlertRule, pb.CreateAlertRuleRequest(alert_rule=traces), "UNIMPLEMENTED", "NOT_SUPPORTED"),
        (stub.CreateAlertRule, pb.CreateAlertRuleRequest(alert_rule=grouped), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            stub.CreateAlertRule,
            pb.CreateAlertRuleRequest(alert_rule=bad_filter),
            "INVALID_ARGUMENT",
            "INVALID_FILTER",
        ),
        (
            stub.CreateAlertRule,
            pb.CreateAlertRuleRequest(alert_rule=cpu_rule(escalation_policy=created.name)),
            "UNIMPLEMENTED",
            "NOT_SUPPORTED",
        ),
        (
            stub.CreateAlertRule,
            pb.CreateAlertRuleRequest(alert_rule=cpu_rule(channels=["channels/none"])),
            "FAILED_PRECONDITION",
            "WRONG_STATE",
        ),
        (stub.CreateChannel, pb.CreateChannelRequest(channel=sms), "UNIMPLEMENTED", "NOT_SUPPORTED"),
        (stub.CreateSilence, pb.CreateSilenceRequest(silence=backwards), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (
            stub.CreateSilence,
            pb.CreateSilenceRequest(silence=pb.Silence(end_time=now, filter="state = FIRING")),
            "INVALID_ARGUMENT",
            "INVALID_FILTER",
        ),
        (
            stub.BacktestAlertRule,
            pb.BacktestAlertRuleRequest(name="alertRules/x"),
            "UNIMPLEMENTED",
            "NOT_SUPPORTED",
        ),
        (stub.ListAlerts, pb.ListAlertsRequest(filter="color = red"), "INVALID_ARGUMENT", "INVALID_FILTER"),
        (
            stub.ListAlertRules,
            pb.ListAlertRulesRequest(page_token="bm8"),
            "INVALID_ARGUMENT",
            "INVALID_PAGE_TOKEN",
        ),
        (stub.GetAlert, pb.GetAlertRequest(name="alerts/none"), "NOT_FOUND", "NOT_FOUND"),
        (stub.DeleteChannel, pb.DeleteChannelRequest(name="channels/hook"), "FAILED_PRECONDITION", "WRONG_STATE"),
    ]
    for method, request, code, reason in cases:
        found_code, found_reason, status = await refused(method(request))
        assert (found_code, found_reason) == (code, reason), status


async def test_lists_are_paged_and_a_token_is_good_for_its_own_list_only(stage: Stage) -> None:
    for number in range(5):
        rule = cpu_rule(severity="HIGH" if number % 2 else "LOW", enabled=False)
        await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id=f"rule-{number}"))
    request = pb.ListAlertRulesRequest(page_size=2)
    seen = []
    while True:
        response = await stage.stub.ListAlertRules(request)
        seen += [rule.name for rule in response.alert_rules]
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert seen == [f"alertRules/rule-{number}" for number in range(5)]
    request.filter = "severity = HIGH"
    assert (await refused(stage.stub.ListAlertRules(request)))[:2] == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")
    request.page_token = ""
    high = await stage.stub.ListAlertRules(request)
    assert [rule.name for rule in high.alert_rules] == ["alertRules/rule-1", "alertRules/rule-3"]
    assert high.next_page_token == ""


async def test_a_watch_sends_events_as_they_happen_and_ends_after_its_count(stage: Stage) -> None:
    stage.metrics.value = 95
    async with asyncio.timeout(30):
        watch = stage.stub.WatchAlerts(pb.WatchAlertsRequest(filter="kind = FIRING", max_count=1))
        await watch.initial_metadata()
        rule = cpu_rule(labels={"team": "pay"})
        await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=rule, alert_rule_id="hot"))
        events = [response.event async for response in watch]
    assert [(event.rule, dict(event.labels), event.value) for event in events] == [
        ("alertRules/hot", {"team": "pay"}, 95)
    ]
    silent = stage.stub.WatchAlerts(
        pb.WatchAlertsRequest(filter="rule = none", max_duration=duration_pb2.Duration(nanos=50_000_000))
    )
    async with asyncio.timeout(10):
        assert [response async for response in silent] == []


async def test_acknowledge_and_resolve_by_hand(stage: Stage) -> None:
    stage.metrics.value = 95
    watch = stage.stub.WatchAlerts(pb.WatchAlertsRequest(max_count=1))
    await watch.initial_metadata()
    await stage.stub.CreateAlertRule(pb.CreateAlertRuleRequest(alert_rule=cpu_rule(), alert_rule_id="hot"))
    async with asyncio.timeout(30):
        (event,) = [response.event async for response in watch]
    name = event.name.partition("/events/")[0]
    acknowledged = await stage.stub.AcknowledgeAlert(pb.AcknowledgeAlertRequest(name=name, actor="kim"))
    assert (acknowledged.acknowledged_by, acknowledged.state) == ("kim", pb.Alert.FIRING)
    resolved = await stage.stub.ResolveAlert(pb.ResolveAlertRequest(name=name, actor="kim", comment="done"))
    assert resolved.state == pb.Alert.RESOLVED
    code, reason, _ = await refused(stage.stub.ResolveAlert(pb.ResolveAlertRequest(name=name)))
    assert (code, reason) == ("FAILED_PRECONDITION", "WRONG_STATE")
    events = await stage.stub.ListAlertEvents(pb.ListAlertEventsRequest(parent="alerts/-", page_size=2))
    assert [pb.AlertEvent.Kind.Name(each.kind) for each in events.events] == ["FIRING", "ACKNOWLEDGED"]
    rest = await stage.stub.ListAlertEvents(
        pb.ListAlertEventsRequest(parent="alerts/-", page_size=2, page_token=events.next_page_token)
    )
    assert [(each.actor, each.comment) for each in rest.events] == [("kim", "done")]
