"""The life of an alert, step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.alerts.evaluate import Reading, Verdict, compare, group_key, join, judge
from services.alerts.model import (
    Alert,
    AlertRule,
    AlertState,
    Condition,
    EventKind,
    Match,
    NoData,
    Operator,
    Source,
)
from services.alerts.state import Group, Phase, Step, advance, by_hand, forget, mute, project
from services.shared.errors import ResourceExhaustedError

START = datetime(2026, 11, 21, tzinfo=UTC)


def rule(*durations: float, **changes: Any) -> AlertRule:
    """One condition `> 10` for each duration in seconds."""
    conditions = tuple(
        Condition(Source.METRIC, f"m{index}", threshold=10, duration=timedelta(seconds=seconds))
        for index, seconds in enumerate(durations)
    )
    return replace(AlertRule(id="r", display_name="R", conditions=conditions), **changes)


class Run:
    """A rule without groups that is evaluated every 10 s."""

    def __init__(self, watched: AlertRule) -> None:
        self.rule = watched
        self.group = Group.new((), watched)
        self.now = START
        self.ids = itertools.count(1)
        self.alert: Alert | None = None
        self.comments: list[str] = []

    def step(self, *values: float | None) -> list[str]:
        """Evaluates once; gives the kinds of the events."""
        readings = [Reading({} if value is None else {(): value}) for value in values]
        (reading,) = judge(self.rule, readings)
        step = advance(self.rule, self.group, reading, self.now, lambda: f"alert-{next(self.ids)}")
        self.group = step.group if step.keep else Group.new((), self.rule)
        for event in step.events:
            self.comments.append(event.comment)
            self.alert = project(self.alert if self.alert and self.alert.id == event.alert else None, event)
        self.now += timedelta(seconds=10)
        return [event.kind.name for event in step.events]

    def steps(self, values: Sequence[float | None]) -> list[str]:
        return [kind for value in values for kind in self.step(value)]


def test_without_a_duration_an_alert_fires_at_once() -> None:
    run = Run(rule(0))
    assert run.step(5) == []
    assert run.step(11) == ["FIRING"]
    assert run.step(12) == []
    assert run.step(10) == ["RESOLVED"]
    assert run.alert is not None
    assert run.alert.state is AlertState.RESOLVED
    assert run.alert.start_time == run.alert.fire_time == START + timedelta(seconds=10)
    assert run.alert.resolve_time == START + timedelta(seconds=30)


def test_with_a_duration_an_alert_is_pending_until_it_has_passed() -> None:
    run = Run(rule(20))
    assert [run.step(11) for _ in range(4)] == [["PENDING"], [], ["FIRING"], []]


def test_a_break_of_a_moment_begins_the_duration_anew() -> None:
    run = Run(rule(20))
    assert run.steps([11, 11, 9, 11, 11, 11]) == ["PENDING", "CANCELLED", "PENDING", "FIRING"]


def test_what_holds_since_a_moment_that_has_not_come_holds_since_now() -> None:
    run = Run(rule(20))
    run.now += timedelta(hours=9)
    assert run.step(11) == ["PENDING"]
    run.now -= timedelta(hours=9)
    assert [run.step(11) for _ in range(3)] == [[], [], ["FIRING"]]


def test_an_alert_that_is_cancelled_is_inactive_and_not_resolved() -> None:
    run = Run(rule(20))
    run.steps([11, 9])
    assert run.alert is not None
    assert (run.alert.state, run.alert.resolve_time, run.alert.fire_time) == (AlertState.INACTIVE, None, None)


def test_an_alert_that_comes_back_is_a_new_one() -> None:
    run = Run(rule(0))
    run.step(11)
    first = run.group.alert
    run.step(9)
    run.step(11)
    assert run.group.alert not in ("", first)


def test_all_waits_for_the_duration_of_each_condition() -> None:
    run = Run(rule(0, 20))
    assert run.step(11, 9) == []
    assert run.step(11, 11) == ["PENDING"]
    assert run.step(11, 11) == []
    assert run.step(11, 11) == ["FIRING"]


def test_all_counts_the_time_that_a_condition_held_before_the_others() -> None:
    run = Run(rule(20, 0))
    assert [run.step(11, 9), run.step(11, 9)] == [[], []]
    assert run.step(11, 11) == ["FIRING"]
    assert run.alert is not None
    assert run.alert.start_time == START + timedelta(seconds=20)


def test_any_fires_when_one_condition_has_held_long_enough() -> None:
    run = Run(rule(20, 0, match=Match.ANY))
    assert run.step(11, 9) == ["PENDING"]
    assert run.step(9, 11) == ["FIRING"]
    assert run.step(11, 9) == []
    assert run.step(9, 9) == ["RESOLVED"]


def test_without_data_keep_leaves_everything_as_it_was() -> None:
    run = Run(rule(20))
    assert run.steps([None, 11, None, 11]) == ["PENDING", "FIRING"]
    assert run.steps([None, None]) == []
    assert run.group.phase is Phase.FIRING
    assert run.steps([9]) == ["RESOLVED"]


def test_without_data_ok_resolves() -> None:
    run = Run(rule(0, no_data=NoData.OK))
    assert run.steps([None, 11, None]) == ["FIRING", "RESOLVED"]


def test_without_data_fire_fires_and_says_why() -> None:
    run = Run(rule(0, no_data=NoData.FIRE))
    assert run.step(5) == []
    assert run.step(None) == ["FIRING"]
    assert run.comments == ["there is no data"]
    assert run.alert is not None
    assert math.isnan(run.alert.value)


def test_an_alert_that_was_ended_by_hand_fires_again_only_after_its_conditions_did_not_hold() -> None:
    run = Run(rule(0))
    run.step(11)
    run.group = mute(run.group)
    assert run.steps([11, 12, None]) == []
    assert run.steps([9]) == []
    assert run.steps([11]) == ["FIRING"]


def test_acknowledging_changes_no_state() -> None:
    run = Run(rule(0))
    run.step(11)
    assert run.alert is not None
    event = by_hand(run.alert, EventKind.ACKNOWLEDGED, run.now, "kim", "")
    alert = project(run.alert, event)
    assert (alert.state, alert.acknowledged_by, alert.acknowledge_time) == (AlertState.FIRING, "kim", run.now)


def test_labels_of_the_group_win_over_those_of_the_rule() -> None:
    watched = rule(0, group_by=("host",), labels={"host": "?", "team": "pay"})
    (reading,) = judge(watched, [Reading({group_key({"host": "a"}): 11})])
    step = advance(watched, Group.new(reading.group, watched), reading, START, lambda: "x")
    assert step.events[0].labels == {"host": "a", "team": "pay"}


def test_groups_of_several_conditions_are_joined_by_their_labels() -> None:
    a, b, c = (group_key({"host": host}) for host in "abc")
    watched = rule(0, 0, group_by=("host",))
    judged = judge(watched, [Reading({a: 11, b: 11}), Reading({b: 9, c: 1}, absent=0.0)])
    assert [(group.group, group.values) for group in judged] == [
        (a, (11, 0)),
        (b, (11, 9)),
        (c, (None, 1)),
    ]


def test_a_group_that_vanishes_is_judged_as_without_data() -> None:
    gone = group_key({"host": "gone"})
    (judged,) = judge(rule(0, group_by=("host",), no_data=NoData.FIRE), [Reading({})], [gone])
    assert (judged.group, judged.verdicts) == (gone, (Verdict.HOLDS,))


COUNT_GONE = Reading({}, absent=0.0)


@pytest.mark.parametrize(
    ("operator", "reading", "is_kept"),
    [
        (Operator.GT, Reading({}), True),
        (Operator.GT, COUNT_GONE, False),
        # Nothing counted is what such a rule is there for.
        (Operator.LT, COUNT_GONE, True),
    ],
)
def test_with_fire_a_group_that_is_well_is_remembered_only_if_it_would_be_missed(
    operator: Operator, reading: Reading, is_kept: bool
) -> None:
    watched = rule(0, group_by=("host",), no_data=NoData.FIRE)
    watched = replace(watched, conditions=(replace(watched.conditions[0], operator=operator),))
    host = group_key({"host": "a"})
    well = 5.0 if operator is Operator.GT else 50.0
    (judged,) = judge(watched, [replace(reading, values={host: well})])
    step = advance(watched, Group.new(host, watched), judged, START, lambda: "x")
    assert (step.group.phase, step.keep, step.events) == (Phase.IDLE, is_kept, ())


def known(host: str, phase: Phase = Phase.IDLE, held: float | None = None, *, keep: bool = True) -> Step:
    since = None if held is None else START + timedelta(seconds=held)
    return Step(Group(group_key({"host": host}), (None, since), phase), keep)


def remembered(steps: Sequence[Step]) -> str:
    return "".join(dict(step.group.key)["host"] for step in steps if step.keep)


def test_beyond_the_limit_the_groups_that_are_gone_longest_are_forgotten_and_those_with_alerts_never() -> None:
    steps = [
        known("a", held=30),
        known("b", held=10),
        known("c", held=20),
        known("d", Phase.FIRING, 0),
        known("e", Phase.PENDING, 0),
        known("f", Phase.MUTED, 0),
        known("g"),
        known("h", keep=False),
    ]
    read = {group_key({"host": "g"})}
    expected = {7: "abcdefg", 6: "acdefg", 5: "adefg", 4: "defg", 3: "deg"}
    assert {most: remembered(forget(steps, read, most)) for most in expected} == expected
    with pytest.raises(ResourceExhaustedError, match="has 3 groups") as caught:
        forget(steps, read, 2)
    assert caught.value.reason == "RESULT_TOO_LARGE"


def test_a_rule_without_groups_always_has_one() -> None:
    assert [group.values for group in judge(rule(0), [Reading({})])] == [(None,)]


@pytest.mark.parametrize(
    ("operator", "held"),
    [
        (Operator.GT, [False, False, True]),
        (Operator.GTE, [False, True, True]),
        (Operator.LT, [True, False, False]),
        (Operator.LTE, [True, True, False]),
        (Operator.EQ, [False, True, False]),
        (Operator.NE, [True, False, True]),
    ],
)
def test_operators_compare_the_number_with_the_threshold(operator: Operator, held: list[bool]) -> None:
    condition = Condition(Source.METRIC, "m", threshold=2, operator=operator)
    assert [compare(condition, value, NoData.KEEP) is Verdict.HOLDS for value in (1, 2, 3)] == held


F, U, H = Verdict.FAILS, Verdict.UNKNOWN, Verdict.HOLDS


@pytest.mark.parametrize(
    ("verdicts", "together", "any_of"),
    [((H, H), H, H), ((H, F), F, H), ((H, U), U, H), ((F, U), F, U), ((U, U), U, U), ((F, F), F, F)],
)
def test_what_is_unknown_decides_only_where_nothing_else_does(
    verdicts: tuple[Verdict, ...], together: Verdict, any_of: Verdict
) -> None:
    assert (join(Match.ALL, verdicts), join(Match.ANY, verdicts)) == (together, any_of)
