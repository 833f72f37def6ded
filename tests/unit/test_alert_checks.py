"""What a resource must be, which filters match, and in what order ids come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerts import matching
from services.alerts.checks import check_address, check_channel, check_rule
from services.alerts.config import AlertsConfig, MailConfig
from services.alerts.evaluate import group_key
from services.alerts.ids import TimeOrderedIds
from services.alerts.matching import alert_filter, event_filter, rule_filter, silencer
from services.alerts.model import (
    Aggregation,
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    Channel,
    Condition,
    EmailTarget,
    EventKind,
    Severity,
    Silence,
    SlackTarget,
    Source,
    WebhookTarget,
)
from services.alerts.query import ResourceQueries
from services.alerts.signals.adapters.airis_client import ClientSignals, covering_step
from services.shared import filter as filter_language
from services.shared.errors import FailedPreconditionError, InvalidArgumentError
from services.shared.filter import Checked, Schema

NOW = datetime(2026, 11, 21, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALERT = Alert(
    id="a",
    rule="hot",
    display_name="Hot",
    severity=Severity.HIGH,
    state=AlertState.FIRING,
    labels={"team": "pay", "host": "a"},
    value=1,
    start_time=NOW,
)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://localhost/",
        "https://api.localhost/",
        "https://127.0.0.1/",
        "https://127.1.2.3:8443/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest",
        "https://user:password@example.com/",
        "ftp://example.com/",
        "https:///path-only",
        "https://[bad/",
        "https://example.com:99999999/",
    ],
)
def test_an_address_that_leads_inside_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_address(url, "webhook.url", allow_local=False)
    assert url not in caught.value.message
    assert caught.value.violations[0].field == "webhook.url"


@pytest.mark.parametrize(
    ("url", "allow_local"),
    [
        ("https://example.com/a?b=c", False),
        ("https://203.0.114.7:8443/", False),
        ("http://127.0.0.1:9/", True),
        ("http://localhost/", True),
    ],
)
def test_an_address_that_is_allowed_is_taken(url: str, allow_local: bool) -> None:
    check_address(url, "webhook.url", allow_local)


def test_channels_need_what_they_are_sent_by() -> None:
    email = Channel(email=EmailTarget(("a@example.com",)))
    with pytest.raises(FailedPreconditionError, match=r"mail\.host"):
        check_channel(email, AlertsConfig())
    check_channel(email, AlertsConfig(mail=MailConfig(host="mail")))
    with pytest.raises(InvalidArgumentError):
        check_channel(Channel(slack=SlackTarget("")), AlertsConfig())


def test_secrets_are_not_in_the_text_of_a_channel() -> None:
    for channel in (
        Channel(webhook=WebhookTarget("https://a.example", "s3cret")),
        Channel(slack=SlackTarget("https://s3cret")),
    ):
        assert "s3cret" not in repr(channel)


@pytest.mark.parametrize(
    "condition",
    [
        Condition(Source.LOGS, "level = ERROR", aggregation=Aggregation.AVG),
        Condition(Source.LOGS, "level = ERROR", aggregation=Aggregation.COUNT, filter="a = b"),
        Condition(Source.LOGS, "((", aggregation=Aggregation.COUNT),
        Condition(Source.METRIC, "cpu", filter="a ="),
    ],
)
def test_a_condition_that_makes_no_sense_is_named(condition: Condition) -> None:
    rule = AlertRule(display_name="r", conditions=(Condition(Source.METRIC, "cpu"), condition))
    with pytest.raises(InvalidArgumentError) as caught:
        check_rule(rule)
    assert caught.value.violations[0].field.startswith("conditions[1].")


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", True),
        ('rule = "alertRules/hot"', True),
        ("severity >= HIGH", True),
        ("severity = LOW", False),
        ("labels.team = pay AND labels.host = a", True),
        ("labels.team != pay", False),
        ("labels:zone", False),
    ],
)
def test_a_silence_matches_by_its_filter(text: str, matched: bool) -> None:
    assert silencer([Silence(filter=text, start_time=NOW, end_time=NOW + timedelta(hours=1))])(ALERT) is matched


def test_alerts_events_and_rules_have_filters_of_their_own() -> None:
    assert alert_filter("state = FIRING")(ALERT)
    assert not alert_filter("state = RESOLVED OR severity = LOW")(ALERT)
    event = AlertEvent(
        alert="a",
        kind=EventKind.NOTIFIED,
        event_time=NOW,
        value=1,
        rule="hot",
        display_name="Hot",
        severity=Severity.HIGH,
        labels={"team": "pay"},
    )
    assert event_filter('kind = NOTIFIED AND rule = "alertRules/hot"')(event)
    rule = AlertRule(id="hot", display_name="Hot thing", conditions=(), enabled=False, labels={"team": "pay"})
    assert rule_filter('enabled = false AND display_name : "thing" AND evaluation_interval < 1m')(rule)
    with pytest.raises(InvalidArgumentError):
        event_filter("state = FIRING")


def test_the_filters_of_all_silences_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def read_filter(text: str, schema: Schema) -> Checked | None:
        parsed.append(text)
        return filter_language.read_filter(text, schema)

    monkeypatch.setattr(matching, "read_filter", read_filter)
    most = AlertsConfig().max_silences
    later = NOW + timedelta(hours=1)
    tenants = [
        [Silence(start_time=NOW, end_time=later, filter=f"labels.once{tenant} = {number}") for number in range(most)]
        for tenant in range(3)
    ]
    for _ in range(3):
        for silences in tenants:
            silencer(silences)
    assert len(parsed) == 3 * most


class AnsweringClient:
    """A client of Metrics and Logs that has one answer."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.metrics = self.logs = self

    async def query(self, *_: Any, **__: Any) -> Any:
        return self._answer

    count = query


@pytest.mark.parametrize(("aggregation", "value"), [(Aggregation.SUM, 8), (Aggregation.MIN, 3), (Aggregation.AVG, 5)])
async def test_no_group_of_a_metric_has_a_character_that_cannot_be_kept(aggregation: Aggregation, value: float) -> None:
    answer = metrics_pb2.QueryMetricsResponse()
    for host, number in (("a\0", 5), ("a\ufffd", 3), ("b", 1)):
        answer.series.add(labels={"host": host}).points.add(value=number)
    signals = ClientSignals(AnsweringClient(answer), timeout=1, max_groups=9)  # type: ignore[arg-type]
    reading = await signals.read("default", Condition(Source.METRIC, "m", aggregation=aggregation), ["host"], NOW)
    assert reading.values == {group_key({"host": "a\ufffd"}): value, group_key({"host": "b"}): 1}


async def test_no_group_of_log_entries_has_a_character_that_cannot_be_kept() -> None:
    answer = logs_pb2.CountLogsResponse(total_count=7)
    for service, number in (("a\0", 4), ("a\ufffd", 3)):
        answer.groups.add(fields={"service": service, "labels.host": "\0"}, count=number)
    signals = ClientSignals(AnsweringClient(answer), timeout=1, max_groups=9)  # type: ignore[arg-type]
    condition = Condition(Source.LOGS, "x", aggregation=Aggregation.COUNT)
    reading = await signals.read("default", condition, ["service", "host"], NOW)
    assert reading.values == {group_key({"service": "a\ufffd", "host": "\ufffd"}): 7}


@given(
    st.integers(0, 4 * 10**15).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds)),
    st.integers(10**6, 7 * 86400 * 10**6).map(lambda microseconds: timedelta(microseconds=microseconds)),
)
@settings(max_examples=200)
def test_a_window_lies_in_one_step(start: datetime, window: timedelta) -> None:
    step = covering_step(start, start + window)
    last = start + window - timedelta(microseconds=1)
    assert (start - EPOCH) // step == (last - EPOCH) // step
    assert step >= window


@given(st.lists(st.integers(-5, 5), max_size=50))
@settings(max_examples=50)
def test_ids_are_unique_and_in_order_even_when_the_clock_goes_back(steps: list[int]) -> None:
    now = NOW
    bits = iter(range(1000, 0, -1))

    def clock() -> datetime:
        return now

    new_id = TimeOrderedIds(clock, lambda _: next(bits))
    ids = []
    for step in steps:
        now += timedelta(seconds=step)
        ids.append(new_id())
    assert ids == sorted(set(ids))
    assert all((len(each) == 26 and each.islower()) or each.isdigit() for each in ids)


class MemoryRules:
    """Rules in memory, in order of their ids."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = sorted(ids)

    async def list(self, tenant: str, after: str, limit: int) -> list[AlertRule]:
        rule = AlertRule(display_name="r", conditions=())
        return [replace(rule, id=each) for each in self.ids if each > after][:limit]


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), unique=True, max_size=40),
    st.integers(1, 7),
    st.sampled_from("abc"),
)
@settings(max_examples=150)
async def test_pages_give_everything_that_is_wanted_once_and_in_order(ids: list[str], size: int, letter: str) -> None:
    queries = ResourceQueries(MemoryRules(ids), check_rule, lambda: "x")  # type: ignore[arg-type]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await queries.list("default", size, cursor, lambda rule: letter in rule.id)
        assert len(page.items) == size or page.cursor is None
        seen += [rule.id for rule in page.items]
        cursor = page.cursor
    assert seen == sorted(each for each in ids if letter in each)
