"""An alert: a rule on a metric of the canary's own must fire when the canary says so, and resolve."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airis.alerts.v1 import alerts_pb2
from airis.client.canary.probes import Mark, check_accepted
from airis.client.errors import AlreadyExistsError, NotFoundError
from airis.common.v1 import aggregation_pb2
from airis.metrics.v1 import metrics_pb2
from google.protobuf.duration_pb2 import Duration

if TYPE_CHECKING:
    from airis.client.client import AirisClient

METRIC = "airis.canary.alert"
_KEPT = 200
_FIRED = (alerts_pb2.Alert.State.FIRING, alerts_pb2.Alert.State.RESOLVED)


@dataclass(slots=True)
class _Step:
    """What a round was for. `alert` is that which it made fire, or which it ends; empty: not known yet. `further` are
    alerts that fired at once with it."""

    number: int
    fires: bool
    alert: str
    further: int = 0


class AlertProbe:
    """In turn, a round makes the alert fire and the next one ends it: both are seen in the alert's events.

    Args:
        client: The platform.
        run: Tells this run from others: lower-case letters and digits.
        name: Of the rule: `alertRules/airis-canary-{name}`. A rule of that name is replaced, so that runs that were
            killed leave one behind at most.
    """

    signal = "alerts"
    one_by_one = True

    def __init__(self, client: AirisClient, run: str, name: str) -> None:
        self._client = client
        self._run = run
        self._id = f"airis-canary-{name}"
        self._rule = f"alertRules/{self._id}"
        self._known: deque[str] = deque(maxlen=_KEPT)
        self._steps: deque[_Step] = deque(maxlen=_KEPT)
        self._firing = ""

    async def prepare(self) -> None:
        """As of `Probe`: makes the rule."""
        try:
            await self._client.alerts.rules.create(self._wanted(), id=self._id)
        except AlreadyExistsError:
            # Of a run that was killed: its alert may fire, and ends with its rule.
            await self.end()
            await self._client.alerts.rules.create(self._wanted(), id=self._id)
        self._known.extend([alert.name for alert in await self._alerts()])

    async def write(self, mark: Mark) -> None:
        """As of `Probe`: says that the rule is to fire, or no longer."""
        fires = not self._firing
        self._steps.append(_Step(mark.number, fires, self._firing))
        point = metrics_pb2.Metric(name=METRIC, value=1.0 if fires else 0.0, labels={"canary": self._run})
        point.timestamp.FromNanoseconds(mark.at)
        answer = await self._client.metrics.ingest([point])
        check_accepted(answer.rejections)

    async def read(self, mark: Mark) -> int:
        """As of `Probe`: how often the alert fired, or was resolved."""
        step = next((step for step in self._steps if step.number == mark.number), None)
        if step is None:
            return 0
        if step is self._steps[-1] and not step.alert:
            await self._find(step)
        if not step.alert:
            # It fired too late for this round: then a later one has seen it.
            return int(any(other.alert and other.number > step.number for other in self._steps))
        kind = alerts_pb2.AlertEvent.Kind.FIRING if step.fires else alerts_pb2.AlertEvent.Kind.RESOLVED
        count = sum([event.kind == kind async for event in self._client.alerts.events(step.alert)]) + step.further
        if count and step is self._steps[-1]:
            self._firing = step.alert if step.fires else ""
        return count

    async def end(self) -> None:
        """As of `Probe`: removes the rule."""
        try:
            await self._client.alerts.rules.delete(self._rule)
        except NotFoundError:
            return

    async def _find(self, step: _Step) -> None:
        """Finds the alert that a round made fire: one that was not there before."""
        new = [alert.name for alert in await self._alerts() if alert.state in _FIRED and alert.name not in self._known]
        self._known.extend(new)
        if new:
            # One is to fire; more are too many.
            step.alert, step.further = new[0], len(new) - 1

    async def _alerts(self) -> list[alerts_pb2.Alert]:
        """The newest alerts of the rule, whatever their state."""
        async for page in self._client.alerts.list(f'rule = "{self._rule}"', page_size=20).pages():
            return list(page.alerts)
        return []

    def _wanted(self) -> alerts_pb2.AlertRule:
        return alerts_pb2.AlertRule(
            name=self._rule,
            display_name="The canary sings",
            description="Made by `airis canary`, which has it fire and resolve to see that rules are evaluated.",
            severity=alerts_pb2.AlertRule.Severity.LOW,
            no_data=alerts_pb2.AlertRule.NoData.OK,
            evaluation_interval=Duration(seconds=1),
            labels={"canary": self._run},
            conditions=[
                alerts_pb2.AlertRule.Condition(
                    metric=METRIC,
                    filter=f'canary = "{self._run}"',
                    aggregation=aggregation_pb2.Aggregation.LAST,
                    operator=alerts_pb2.AlertRule.Condition.Operator.GT,
                    threshold=0.5,
                )
            ],
        )
