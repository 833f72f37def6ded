"""What one tenant does changes nothing of what another sees, on any RPC, in any filter, with any token of a page."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from airis.alerts.v1 import alerts_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf import duration_pb2, field_mask_pb2
from google.protobuf.message import Message
from tenant_world import LONELY, SERVICES, TRACE, Platform, Tenant, open_platform

from services.shared.rpc.context import set_tenant
from services.shared.rpc.pages import encode_page_token

# Tested by what they do to others' data, further below; all other RPCs are read in `reads`.
WRITES = {
    "metrics": {"IngestMetrics", "StreamMetrics"},
    "logs": {"IngestLogs", "StreamLogs"} | {f"{verb}LogPipeline" for verb in ("Create", "Update", "Delete")},
    "traces": {"IngestSpans", "StreamSpans"},
    "alerts": {
        *(f"{v}{kind}" for v in ("Create", "Update", "Delete") for kind in ("Silence", "Channel", "AlertRule")),
        *(f"{verb}EscalationPolicy" for verb in ("Create", "Update", "Delete")),
        *("AcknowledgeAlert", "ResolveAlert", "WatchAlerts"),
    },
}
TRICKS = (
    "",
    "tenant = {other}",
    "labels.tenant = {other}",
    "tenant = {own} OR tenant = {other}",
    "NOT tenant = {own}",
    "NOT labels.tenant = {own}",
    "labels.owner = mark-of-{other}",
    "labels.owner : mark OR labels.owner = mark-of-{other}",
    "labels.owner = \"x') OR tenant = ('{other}\"",
    'labels.owner = "x\\" OR 1 = 1 -- "',
    '"mark-of-{other}" OR "mark-of-{own}"',
    "tags.owner = mark-of-{other}",
    "service = mark-of-{other} OR service = web",
    "rule = alertRules/mark-of-{other} OR severity = MEDIUM",
    "state = FIRING OR labels.owner = {other}",
    "name = alertRules/mark-of-{other} OR enabled = true",
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, postgres_socket: str) -> Iterator[Platform]:
    with open_platform(tmp_path_factory.mktemp("tenants"), postgres_socket, "tenant_isolation") as platform:
        yield platform


@pytest.fixture(scope="module")
def tenants(platform: Platform) -> tuple[Tenant, Tenant, dict[str, Any], dict[str, Any]]:
    """Two tenants, and what the first reads before and the second reads before it writes."""
    a, b = platform.tenant("a", 1), platform.tenant("b", 3)
    a.write()
    alerts, _ = a.alerts(), a.edges()
    seen, empty = reads(a, "b", alerts), reads(b, "a", alerts)
    b.write()
    b.alerts()
    b.edges()
    return a, b, seen, empty


def reads(tenant: Tenant, other: str, alerts: Any) -> dict[str, Any]:
    """What a tenant is answered by every RPC that reads."""
    calls = {
        f"{service} {method} {' '.join(str(request).split())}": (service, method, request)
        for service, requests in asked(tenant, other, alerts).items()
        for method, request in requests
    }
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda call: comparable(tenant.outcome(*call)), calls.values())
        return dict(zip(calls, answers, strict=True))


def comparable(outcome: list[Message] | str) -> Any:
    """Answers about "now" differ by the moment only."""
    if isinstance(outcome, list) and outcome and isinstance(outcome[0], metrics_pb2.WatchMetricsResponse):
        return sorted(
            (sorted(series.labels.items()), sum(point.value for point in series.points))
            for response in outcome
            for series in response.result.series
        )
    return outcome if isinstance(outcome, str) else [str(message) for message in outcome]


def asked(tenant: Tenant, other: str, alerts: Any) -> dict[str, list[tuple[str, Any]]]:
    tricks = [trick.format(own=tenant.name, other=other) for trick in TRICKS]
    whole = tenant.ranged
    brief = duration_pb2.Duration(nanos=100_000_000)
    metrics: list[tuple[str, Any]] = []
    names = ("cpu", "jobs", "latency", "streamed", "only.a", "only.b")
    for name in names:
        for function in ("SUM", "LAST", "COUNT", "INCREASE", "QUANTILE"):
            for step in (0, 60):
                query = metrics_pb2.QueryMetricsRequest(metric=name, aggregation=function, quantile=0.5)
                query.step.seconds = step
                query.group_by.extend(["owner"] if step else [])
                metrics.append(("QueryMetrics", whole(query)))
        metrics.append(("ListLabels", metrics_pb2.ListLabelsRequest(metric=name)))
        metrics.append(("ListSeries", metrics_pb2.ListSeriesRequest(metric=name)))
    for trick in tricks:
        metrics.append(("ListMetrics", metrics_pb2.ListMetricsRequest(filter=trick)))
        metrics.append(("ListLabels", metrics_pb2.ListLabelsRequest(metric="cpu", filter=trick)))
        metrics.append(("ListSeries", metrics_pb2.ListSeriesRequest(metric="cpu", filter=trick)))
        metrics.append(("QueryMetrics", whole(metrics_pb2.QueryMetricsRequest(metric="cpu", filter=trick))))
    watched = whole(metrics_pb2.QueryMetricsRequest(metric="cpu", aggregation="SUM", group_by=["owner"]))
    metrics.append(("WatchMetrics", metrics_pb2.WatchMetricsRequest(query=watched, max_count=1)))

    logs: list[tuple[str, Any]] = []
    for trick in tricks:
        logs.append(("SearchLogs", whole(logs_pb2.SearchLogsRequest(filter=trick, page_size=100))))
        logs.append(("CountLogs", whole(logs_pb2.CountLogsRequest(filter=trick))))
        logs.append(("TailLogs", logs_pb2.TailLogsRequest(filter=trick, backlog=100, max_duration=brief)))
        logs.append(("ListLogPatterns", whole(logs_pb2.ListLogPatternsRequest(filter=trick))))
    minutes = logs_pb2.CountLogsRequest(step=duration_pb2.Duration(seconds=60), group_by=["service", "level"])
    logs.append(("CountLogs", whole(minutes)))
    step = duration_pb2.Duration(seconds=10)
    logs.append(("ListLogAnomalies", whole(logs_pb2.ListLogAnomaliesRequest(step=step))))
    logs.append(("GetLogPipeline", logs_pb2.GetLogPipelineRequest(name="logPipelines/same")))
    logs.append(("ListLogPipelines", logs_pb2.ListLogPipelinesRequest()))

    traces: list[tuple[str, Any]] = [("GetServiceMap", whole(traces_pb2.GetServiceMapRequest()))]
    for trace in (TRACE, LONELY):
        traces.append(("GetTrace", traces_pb2.GetTraceRequest(trace_id=trace)))
        traces.append(("GetCriticalPath", traces_pb2.GetCriticalPathRequest(trace_id=trace)))
        traces.append(("CompareTraces", traces_pb2.CompareTracesRequest(base_trace_id=TRACE, other_trace_id=trace)))
    for trick in tricks:
        traces.append(("SearchTraces", whole(traces_pb2.SearchTracesRequest(filter=trick))))
    traces.append(("ListServices", whole(traces_pb2.ListServicesRequest())))
    for service in ("web", "cart", "caller", "called", "mark-of-a", "mark-of-b"):
        traces.append(("ListOperations", whole(traces_pb2.ListOperationsRequest(service=service))))
        traces.append(("GetLatency", whole(traces_pb2.GetLatencyRequest(service=service))))
        traces.append(("ListBottlenecks", whole(traces_pb2.ListBottlenecksRequest(service=service))))

    pb = alerts_pb2
    found: list[tuple[str, Any]] = [
        ("GetSilence", pb.GetSilenceRequest(name="silences/same")),
        ("GetEscalationPolicy", pb.GetEscalationPolicyRequest(name="escalationPolicies/same")),
        ("ListSilences", pb.ListSilencesRequest()),
        ("ListChannels", pb.ListChannelsRequest()),
        ("ListEscalationPolicies", pb.ListEscalationPoliciesRequest()),
        ("ListAlertEvents", pb.ListAlertEventsRequest(parent="alerts/-")),
    ]
    for name in ("same", "mark-of-a", "mark-of-b"):
        found.append(("GetAlertRule", pb.GetAlertRuleRequest(name=f"alertRules/{name}")))
        found.append(("TestAlertRule", pb.TestAlertRuleRequest(name=f"alertRules/{name}")))
        found.append(("BacktestAlertRule", pb.BacktestAlertRuleRequest(name=f"alertRules/{name}")))
        found.append(("GetChannel", pb.GetChannelRequest(name=f"channels/{name}")))
    for alert in alerts:
        found.append(("GetAlert", pb.GetAlertRequest(name=alert.name)))
        found.append(("ListAlertEvents", pb.ListAlertEventsRequest(parent=alert.name)))
    for trick in tricks:
        found.append(("ListAlertRules", pb.ListAlertRulesRequest(filter=trick)))
        found.append(("ListAlerts", pb.ListAlertsRequest(filter=trick)))
    return {"metrics": metrics, "logs": logs, "traces": traces, "alerts": found}


def test_every_rpc_is_asked(tenants: Any) -> None:
    a, *_ = tenants
    for service, requests in asked(a, "b", []).items():
        covered = {method for method, _ in requests} | WRITES[service]
        if service == "alerts":
            covered.add("GetAlert")
        assert covered == {method.name for method in SERVICES[service].methods}


def test_what_another_tenant_writes_changes_no_answer(tenants: Any) -> None:
    a, _, seen, _ = tenants
    after = reads(a, "b", a.alerts())
    assert {key: (seen[key], after[key]) for key in seen if seen[key] != after[key]} == {}
    assert "mark-of-a" in str(list(seen.values()))
    assert not [key for key, answer in after.items() if "mark-of-b" in str(answer) and not answers_the_question(answer)]


def test_who_has_written_nothing_reads_nothing(tenants: Any) -> None:
    *_, empty = tenants
    assert not [key for key, answer in empty.items() if "mark-of-a" in str(answer) and not answers_the_question(answer)]
    given = {key: answer for key, answer in empty.items() if isinstance(answer, list)}
    # The step of what was asked and a latency of nothing; no name, count, rate or value of anybody.
    allowed = {"", "step", "total", "durations", "p50", "p95", "p99", "resolution", "seconds", "nanos"}
    told = {key: word for key, answer in given.items() for text in answer for word in names_of(text) - allowed}
    assert told == {}


def answers_the_question(answer: Any) -> bool:
    """An error may repeat the name that was asked for."""
    return isinstance(answer, str)


def names_of(text: str) -> set[str]:
    fields = {line.strip().partition(":")[0].removesuffix(" {") for line in text.splitlines()}
    return {field for field in fields if field != "}" and "timestamp" not in field}


def test_each_reads_its_own_under_the_same_names(tenants: Any) -> None:
    a, b, *_ = tenants
    for tenant, other in ((a, "b"), (b, "a")):
        answers = reads(tenant, other, tenant.alerts())
        text = str([answer for answer in answers.values() if isinstance(answer, list)])
        assert tenant.mark in text
        assert f"mark-of-{other}" not in text
        request = tenant.ranged(metrics_pb2.QueryMetricsRequest(metric="cpu", aggregation="SUM"))
        request.step.seconds = 1200
        (series,) = tenant.call("metrics", "QueryMetrics", request).series
        assert sum(point.value for point in series.points) == 12 * tenant.factor
        count = tenant.call("logs", "CountLogs", tenant.ranged(logs_pb2.CountLogsRequest())).total_count
        assert count == 5 * tenant.factor
        trace = tenant.call("traces", "GetTrace", traces_pb2.GetTraceRequest(trace_id=TRACE))
        assert [span.service_name for span in trace.spans] == ["web", "cart", tenant.mark]
        assert tenant.edges() == [("cart", tenant.mark, 1), ("web", "cart", 1)]
        assert {alert.value for alert in tenant.alerts()} == {tenant.factor}


PAGED: list[tuple[str, str, Any]] = [
    ("metrics", "ListMetrics", metrics_pb2.ListMetricsRequest(page_size=1)),
    ("metrics", "ListLabels", metrics_pb2.ListLabelsRequest(metric="cpu", page_size=1)),
    ("logs", "SearchLogs", logs_pb2.SearchLogsRequest(page_size=1)),
    ("traces", "SearchTraces", traces_pb2.SearchTracesRequest(page_size=1)),
    ("traces", "ListServices", traces_pb2.ListServicesRequest(page_size=1)),
    ("alerts", "ListAlertRules", alerts_pb2.ListAlertRulesRequest(page_size=1)),
    ("alerts", "ListChannels", alerts_pb2.ListChannelsRequest(page_size=1)),
    ("alerts", "ListAlerts", alerts_pb2.ListAlertsRequest(page_size=1)),
    ("alerts", "ListAlertEvents", alerts_pb2.ListAlertEventsRequest(parent="alerts/-", page_size=1)),
]


@pytest.mark.parametrize(("service", "method", "request_"), PAGED, ids=[method for _, method, _ in PAGED])
def test_a_page_token_of_another_tenant_is_refused_and_a_forged_one_gives_nothing(
    tenants: Any, service: str, method: str, request_: Any
) -> None:
    a, b, *_ = tenants
    request = type(request_)()
    request.CopyFrom(request_)
    if "start_time" in request.DESCRIPTOR.fields_by_name:
        a.ranged(request)
    token = b.call(service, method, request).next_page_token
    assert token
    request.page_token = token
    assert isinstance(b.outcome(service, method, request), list)
    refused = a.outcome(service, method, request)
    assert str(refused).startswith("INVALID_ARGUMENT: page_token is not a next_page_token")
    _, cursor = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    set_tenant("a")
    try:
        request.page_token = encode_page_token(request, cursor)
    finally:
        set_tenant("default")
    forged = a.outcome(service, method, request)
    assert isinstance(forged, list)
    assert "mark-of-b" not in str(forged)


CURSORS: list[tuple[str, str, Any, tuple[type, ...]]] = [
    ("metrics", "ListMetrics", metrics_pb2.ListMetricsRequest(), (str,)),
    ("metrics", "ListLabels", metrics_pb2.ListLabelsRequest(metric="cpu"), (str,)),
    ("metrics", "ListSeries", metrics_pb2.ListSeriesRequest(metric="cpu"), (int,)),
    ("logs", "SearchLogs", logs_pb2.SearchLogsRequest(), (int, int, int, int)),
    ("logs", "SearchLogs", logs_pb2.SearchLogsRequest(order_by="timestamp"), (int, int, int, int)),
    ("logs", "ListLogPatterns", logs_pb2.ListLogPatternsRequest(), (int, int, int)),
    ("logs", "ListLogAnomalies", logs_pb2.ListLogAnomaliesRequest(), (int, int, int)),
    ("traces", "SearchTraces", traces_pb2.SearchTracesRequest(), (int, int, int, str)),
    ("traces", "SearchTraces", traces_pb2.SearchTracesRequest(order_by="duration desc"), (int, int, int, str)),
    ("traces", "ListServices", traces_pb2.ListServicesRequest(), (int, int, str)),
    ("traces", "ListOperations", traces_pb2.ListOperationsRequest(service="web"), (int, int, str, int)),
    ("traces", "ListBottlenecks", traces_pb2.ListBottlenecksRequest(service="web"), (int, int, int)),
    ("alerts", "ListAlertRules", alerts_pb2.ListAlertRulesRequest(), (str,)),
    ("alerts", "ListChannels", alerts_pb2.ListChannelsRequest(), (str,)),
    ("alerts", "ListAlerts", alerts_pb2.ListAlertsRequest(), (str,)),
    ("alerts", "ListAlertEvents", alerts_pb2.ListAlertEventsRequest(parent="alerts/-"), (int,)),
]
HOSTILE: dict[type, tuple[Any, ...]] = {
    int: (0, -1, 2**31, 2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1.5, True, "1"),
    str: ("", "\0", "a\0b", "\ud800", "한" * 900, "'", "alertRules/x", 1, None, ["a"]),
}


@pytest.mark.parametrize(
    ("service", "method", "request_", "types"), CURSORS, ids=[f"{each[1]}-{at}" for at, each in enumerate(CURSORS)]
)
def test_a_forged_page_token_is_never_the_servers_fault(
    tenants: Any, service: str, method: str, request_: Any, types: tuple[type, ...]
) -> None:
    a = tenants[0]
    now = time.time_ns()
    plain = [now - 10**9, now][: len(types)] if types[:2] == (int, int) else []
    plain += [0 if kind is int else "a" for kind in types[len(plain) :]]
    cursors = [[*plain[:at], value, *plain[at + 1 :]] for at, kind in enumerate(types) for value in HOSTILE[kind]]
    request = type(request_)()
    request.CopyFrom(request_)
    for cursor in (plain, *cursors, [], [*plain, 0], "a", None):
        set_tenant("a")
        try:
            request.page_token = encode_page_token(request, cursor)  # type: ignore[arg-type]
        finally:
            set_tenant("default")
        outcome = a.outcome(service, method, request)
        assert isinstance(outcome, list) or outcome.startswith("INVALID_ARGUMENT"), (cursor, outcome)
    request.page_token = base64.urlsafe_b64encode(b"[" * 3000).decode()
    assert a.outcome(service, method, request).startswith("INVALID_ARGUMENT")


def test_nobody_changes_or_ends_what_is_anothers(tenants: Any) -> None:
    a, b, *_ = tenants
    pb = alerts_pb2
    before = reads(a, "b", a.alerts())
    mask = field_mask_pb2.FieldMask(paths=["display_name"])
    own_rule, own_channel = "alertRules/mark-of-a", "channels/mark-of-a"
    not_found = [
        ("DeleteAlertRule", pb.DeleteAlertRuleRequest(name=own_rule)),
        ("DeleteChannel", pb.DeleteChannelRequest(name=own_channel)),
        ("UpdateAlertRule", pb.UpdateAlertRuleRequest(alert_rule=pb.AlertRule(name=own_rule), update_mask=mask)),
        ("UpdateChannel", pb.UpdateChannelRequest(channel=pb.Channel(name=own_channel), update_mask=mask)),
        *(("AcknowledgeAlert", pb.AcknowledgeAlertRequest(name=alert.name)) for alert in a.alerts()),
        *(("ResolveAlert", pb.ResolveAlertRequest(name=alert.name)) for alert in a.alerts()),
    ]
    for method, request in not_found:
        assert str(b.outcome("alerts", method, request)).startswith(("NOT_FOUND", "INVALID_ARGUMENT")), method
    foreign = b.rule("foreign", channels=[own_channel])
    assert str(b.outcome("alerts", "CreateAlertRule", foreign)).startswith("FAILED_PRECONDITION: There is no channels/")

    # Under the same names, each changes and deletes its own.
    d = a.platform.tenant("d", 2)
    d.create_resources()
    mine = pb.Channel(name="channels/same", display_name="changed")
    d.call("alerts", "UpdateChannel", pb.UpdateChannelRequest(channel=mine, update_mask=mask))
    for name in ("same", d.mark):
        d.call("alerts", "DeleteAlertRule", pb.DeleteAlertRuleRequest(name=f"alertRules/{name}"))
    d.call("alerts", "DeleteSilence", pb.DeleteSilenceRequest(name="silences/same"))
    d.call("alerts", "DeleteEscalationPolicy", pb.DeleteEscalationPolicyRequest(name="escalationPolicies/same"))
    d.call("alerts", "DeleteChannel", pb.DeleteChannelRequest(name="channels/same"))
    assert reads(a, "b", a.alerts()) == before


def test_watches_and_tails_give_each_its_own(tenants: Any) -> None:
    a, b, *_ = tenants
    pb = alerts_pb2
    watch = a.call("alerts", "WatchAlerts", pb.WatchAlertsRequest(max_count=1))
    tail = a.call("logs", "TailLogs", logs_pb2.TailLogsRequest(max_count=1))
    for opened in (watch, tail):
        opened.initial_metadata()
    for tenant in (b, a):
        alert = next(each for each in tenant.alerts() if not each.acknowledged_by)
        tenant.call("alerts", "AcknowledgeAlert", pb.AcknowledgeAlertRequest(name=alert.name, actor=tenant.mark))
        batch = tenant.streams()["logs"]
        batch.batch.sequence = 2
        assert tenant.stream("logs", batch) == 1
    assert [response.event.actor for response in watch] == ["mark-of-a"]
    assert [entry.labels["owner"] for response in tail for entry in response.entries] == ["mark-of-a"]


def test_a_token_acts_for_its_own_tenant_only(tenants: Any) -> None:
    a, *_ = tenants
    stub = a._stubs["metrics"]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListMetrics(metrics_pb2.ListMetricsRequest(), metadata=(*a.metadata, ("airis-tenant", "b")), timeout=20)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_request_id_and_a_producer_are_known_by_their_tenant_only_after_a_restart_too(platform: Platform) -> None:
    c, d = platform.tenant("c", 1), platform.tenant("d", 3)
    c.call("metrics", "IngestMetrics", c.metrics())
    batch = c.streams()["metrics"]
    assert c.stream("metrics", batch) == 0
    platform.processes["metrics"].stop()
    platform.processes["metrics"].start()
    assert c.stream("metrics", batch) == 1
    assert d.stream("metrics", d.streams()["metrics"]) == 0
    for tenant in (c, d, c, d):
        tenant.call("metrics", "IngestMetrics", tenant.metrics())
    for tenant in (c, d):
        query = tenant.ranged(metrics_pb2.QueryMetricsRequest(metric="cpu", aggregation="COUNT"))
        query.step.seconds = 1200
        (series,) = tenant.call("metrics", "QueryMetrics", query).series
        assert sum(point.value for point in series.points) == 12
