"""The state of one group against a plain model that keeps the whole past and derives everything from it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.alerts.evaluate import Reading, judge
from services.alerts.model import (
    Alert,
    AlertEvent,
    AlertRule,
    AlertState,
    Condition,
    EventKind,
    Match,
    NoData,
    Source,
)
from services.alerts.state import Group, Phase, advance, by_hand, mute, project

START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = 10


class AlertMachine(RuleBasedStateMachine):
    """Evaluations with any data, and people who end alerts."""

    @initialize(
        durations=st.lists(st.sampled_from([0, 10, 25]), min_size=1, max_size=3),
        match=st.sampled_from(Match),
        no_data=st.sampled_from(NoData),
    )
    def begin(self, durations: list[int], match: Match, no_data: NoData) -> None:
        conditions = tuple(
            Condition(Source.METRIC, "m", threshold=10, duration=timedelta(seconds=seconds)) for seconds in durations
        )
        self.rule = AlertRule(id="r", display_name="R", conditions=conditions, match=match, no_data=no_data)
        self.group = Group.new((), self.rule)
        self.ids = itertools.count()
        self.events: list[AlertEvent] = []
        self.live: dict[str, Alert] = {}
        self.past: list[list[bool | None]] = []
        self.model = AlertState.INACTIVE
        self.model_muted = False

    @rule(data=st.data())
    def evaluate(self, data: st.DataObject) -> None:
        count = len(self.rule.conditions)
        values = data.draw(st.lists(st.sampled_from([5.0, 15.0, None]), min_size=count, max_size=count))
        at = START + timedelta(seconds=INTERVAL * len(self.past))
        (reading,) = judge(self.rule, [Reading({} if value is None else {(): value}) for value in values])
        step = advance(self.rule, self.group, reading, at, lambda: f"a{next(self.ids)}")
        self.group = step.group if step.keep else Group.new((), self.rule)
        self.record(*step.events)
        self.past.append([self.meaning(value) for value in values])
        self.model_evaluate()

    @precondition(lambda self: self.group.alert)
    @rule()
    def end_by_hand(self) -> None:
        at = START + timedelta(seconds=INTERVAL * len(self.past) - 1)
        self.record(by_hand(self.live[self.group.alert], EventKind.RESOLVED, at, "kim", ""))
        self.group = mute(self.group)
        self.model, self.model_muted = AlertState.INACTIVE, True

    def record(self, *events: AlertEvent) -> None:
        for event in events:
            self.events.append(replace(event, number=len(self.events) + 1))
            self.live[event.alert] = project(self.live.get(event.alert), event)

    def meaning(self, value: float | None) -> bool | None:
        if value is not None:
            return value > 10
        return {NoData.KEEP: None, NoData.OK: False, NoData.FIRE: True}[self.rule.no_data]

    def held_for(self, index: int) -> int:
        """Seconds since the condition began to hold; what is unknown neither begins nor breaks it."""
        known = [(time, row[index]) for time, row in enumerate(self.past) if row[index] is not None]
        begin = None
        for time, holds in known:
            begin = (time if begin is None else begin) if holds else None
        return -1 if begin is None else (len(self.past) - 1 - begin) * INTERVAL

    def model_evaluate(self) -> None:
        now = self.past[-1]
        holds = self.together(now)
        ripe = self.together(
            [
                None if held is None else held and self.held_for(i) >= c.duration.total_seconds()
                for i, (held, c) in enumerate(zip(now, self.rule.conditions, strict=True))
            ]
        )
        if holds is False:
            self.model, self.model_muted = AlertState.INACTIVE, False
        elif holds and not self.model_muted and self.model is not AlertState.FIRING:
            self.model = AlertState.FIRING if ripe else AlertState.PENDING

    def together(self, values: list[bool | None]) -> bool | None:
        if self.rule.match is Match.ALL:
            return False if False in values else None if None in values else True
        return True if True in values else None if None in values else False

    @invariant()
    def the_state_is_the_models(self) -> None:
        if not hasattr(self, "group"):
            return
        phase = self.group.phase
        assert (phase is Phase.MUTED) == self.model_muted
        expected = {Phase.PENDING: AlertState.PENDING, Phase.FIRING: AlertState.FIRING}
        assert expected.get(phase, AlertState.INACTIVE) is self.model

    @invariant()
    def at_most_one_alert_is_alive_and_it_is_the_groups(self) -> None:
        if not hasattr(self, "group"):
            return
        alive = [a.id for a in self.live.values() if a.state in (AlertState.PENDING, AlertState.FIRING)]
        assert alive == ([self.group.alert] if self.group.alert else [])

    @invariant()
    def a_replay_of_the_events_gives_the_same_alerts(self) -> None:
        if not hasattr(self, "group"):
            return
        replayed: dict[str, Alert] = {}
        for event in self.events:
            replayed[event.alert] = project(replayed.get(event.alert), event)
        assert repr(replayed) == repr(self.live)

    @invariant()
    def each_alert_goes_through_its_states_in_order(self) -> None:
        if not hasattr(self, "group"):
            return
        allowed = {
            (),
            ("PENDING",),
            ("FIRING",),
            ("PENDING", "FIRING"),
            ("PENDING", "CANCELLED"),
            ("PENDING", "RESOLVED"),
            ("FIRING", "RESOLVED"),
            ("PENDING", "FIRING", "RESOLVED"),
        }
        for alert in self.live:
            assert tuple(e.kind.name for e in self.events if e.alert == alert) in allowed


AlertMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestAlertState = AlertMachine.TestCase
