"""Which fields an update changes."""

from __future__ import annotations

import pytest
from airis.alerts.v1 import alerts_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from services.shared.errors import InvalidArgumentError
from services.shared.rpc.update_mask import has_effect, merge, without_servers_own

CURRENT = pb.AlertRule(
    name="alertRules/a",
    display_name="Old",
    description="old",
    labels={"a": "1"},
    group_by=["x"],
    evaluation_interval=Duration(seconds=30),
    enabled=False,
    etag="e1",
    last_error="bad",
)
HOOK = pb.Channel(name="channels/a", webhook=pb.Channel.Webhook(url="https://a.example", secret="s"))


def update(patch: pb.AlertRule, *paths: str) -> pb.AlertRule:
    return merge(CURRENT, patch, FieldMask(paths=paths))


def test_a_field_that_the_mask_names_is_replaced_and_an_absent_one_cleared() -> None:
    patch = pb.AlertRule(display_name="New", description="new", labels={"b": "2"}, group_by=["y"])
    merged = update(patch, "display_name", "labels", "group_by", "evaluation_interval", "enabled")
    assert (merged.display_name, merged.description) == ("New", "old")
    assert (dict(merged.labels), list(merged.group_by)) == ({"b": "2"}, ["y"])
    assert not merged.HasField("evaluation_interval")
    assert not merged.HasField("enabled")


def test_without_a_mask_the_fields_that_are_set_are_replaced() -> None:
    merged = update(pb.AlertRule(description="new", enabled=True))
    assert (merged.display_name, merged.description, merged.enabled) == ("Old", "new", True)


def test_a_star_replaces_all_but_what_is_the_servers() -> None:
    merged = update(pb.AlertRule(name="alertRules/b", display_name="New", etag="e2", last_error="x"), "*")
    expected = pb.AlertRule(name="alertRules/a", display_name="New", etag="e1", last_error="bad")
    assert merged == expected


def test_naming_what_is_the_servers_has_no_effect() -> None:
    assert update(pb.AlertRule(), "name", "etag", "last_error", "create_time") == CURRENT


def test_a_field_below_a_field_is_replaced_alone() -> None:
    merged = update(pb.AlertRule(evaluation_interval=Duration(seconds=1, nanos=5)), "evaluation_interval.nanos")
    assert merged.evaluation_interval == Duration(seconds=30, nanos=5)


@pytest.mark.parametrize(
    "paths", [["bogus"], ["displayName"], ["labels.a"], ["conditions.metric"], ["*", "labels"], [""], ["labels."]]
)
def test_a_path_that_does_not_exist_is_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        update(pb.AlertRule(), *paths)
    assert caught.value.violations[0].field == "update_mask"


@pytest.mark.parametrize("paths", [["*"], ["webhook"], ["webhook.url"], []])
def test_a_secret_that_was_not_sent_stays(paths: list[str]) -> None:
    patch = pb.Channel(webhook=pb.Channel.Webhook(url="https://b.example"))
    merged = merge(HOOK, patch, FieldMask(paths=paths))
    assert (merged.webhook.url, merged.webhook.secret) == ("https://b.example", "s")


def test_a_secret_is_replaced_when_sent_and_cleared_when_named() -> None:
    new = pb.Channel(webhook=pb.Channel.Webhook(url="https://b.example", secret="t"))
    assert merge(HOOK, new, FieldMask(paths=["*"])).webhook.secret == "t"
    cleared = merge(HOOK, pb.Channel(), FieldMask(paths=["webhook.secret"]))
    assert (cleared.webhook.secret, cleared.webhook.url) == ("", "https://a.example")


def test_a_secret_does_not_follow_to_another_kind_of_target() -> None:
    patch = pb.Channel(slack=pb.Channel.Slack(url="https://c.example"))
    merged = merge(HOOK, patch, FieldMask(paths=["slack"]))
    assert (merged.WhichOneof("target"), merged.slack.url) == ("slack", "https://c.example")


def test_creations_do_not_take_what_is_the_servers() -> None:
    created = without_servers_own(CURRENT)
    assert (created.name, created.etag, created.last_error, created.display_name) == ("", "", "", "Old")


def test_only_what_an_update_changes_is_checked() -> None:
    def effect(path: str, *mask: str) -> bool:
        patch = pb.AlertRule(name="alertRules/a", description="d")
        request = pb.UpdateAlertRuleRequest(alert_rule=patch, update_mask=FieldMask(paths=mask))
        return has_effect(request, path.split("."))

    assert not effect("alert_rule.display_name", "severity")
    assert effect("alert_rule.display_name", "display_name")
    assert effect("alert_rule.display_name", "*")
    assert effect("alert_rule.description")
    assert not effect("alert_rule.display_name")
    assert effect("alert_rule.evaluation_interval", "evaluation_interval.seconds")
    assert not effect("alert_rule.evaluation_interval.nanos", "evaluation_interval.seconds")
    assert effect("alert_rule")
    assert has_effect(pb.CreateAlertRuleRequest(), ["alert_rule", "display_name"])
