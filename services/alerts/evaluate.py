"""What a rule's numbers mean: pure functions from readings to verdicts, one per group.

Groups of several conditions are joined by their labels. A condition without data for a group is judged as the
rule's `no_data` says; with KEEP it is UNKNOWN, and logic is three-valued: ALL fails as soon as one condition
fails, ANY holds as soon as one holds, and else one unknown makes the whole unknown.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from services.alerts.model import AlertRule, Condition, Match, NoData, Operator

GroupKey: TypeAlias = tuple[tuple[str, str], ...]
"""The labels of a group in order of their keys."""

_COMPARE: dict[Operator, Callable[[float, float], bool]] = {
    Operator.GT: operator.gt,
    Operator.LT: operator.lt,
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.GTE: operator.ge,
    Operator.LTE: operator.le,
}


class Verdict(Enum):
    """Whether something holds."""

    FAILS = "fails"
    UNKNOWN = "unknown"
    HOLDS = "holds"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a signal answered for one condition.

    Attributes:
        values: The number of each group that has data.
        absent: The number of a group that is not among them: 0 for counts, as nothing was counted; None is
            no data.
    """

    values: Mapping[GroupKey, float]
    absent: float | None = None

    def value(self, group: GroupKey) -> float | None:
        """The number of a group; None without data."""
        return self.values.get(group, self.absent)


@dataclass(frozen=True, slots=True)
class GroupReading:
    """The numbers of one group, and what they say, one of each per condition.

    Attributes:
        missed: Whether a condition would hold for a group that no condition has data for.
    """

    group: GroupKey
    values: tuple[float | None, ...]
    verdicts: tuple[Verdict, ...]
    missed: bool


def group_key(labels: Mapping[str, str]) -> GroupKey:
    """The key of the group with these labels."""
    return tuple(sorted(labels.items()))


def judge(rule: AlertRule, readings: Sequence[Reading], known: Iterable[GroupKey] = ()) -> list[GroupReading]:
    """Says for each group, in order of the labels, which conditions hold.

    Args:
        readings: One per condition of the rule, in the same order.
        known: Groups to judge even where no condition has data for them.
    """
    groups = set(known)
    for reading in readings:
        groups.update(reading.values)
    if not rule.group_by:
        groups.add(())
    missed = any(
        compare(condition, reading.absent, rule.no_data) is Verdict.HOLDS
        for condition, reading in zip(rule.conditions, readings, strict=True)
    )
    return [_judge_group(rule, readings, group, missed) for group in sorted(groups)]


def _judge_group(rule: AlertRule, readings: Sequence[Reading], group: GroupKey, missed: bool) -> GroupReading:
    values = tuple(reading.value(group) for reading in readings)
    verdicts = tuple(
        compare(condition, value, rule.no_data) for condition, value in zip(rule.conditions, values, strict=True)
    )
    return GroupReading(group, values, verdicts, missed)


def compare(condition: Condition, value: float | None, no_data: NoData) -> Verdict:
    """Whether a condition holds for a number; None is no data."""
    if value is None:
        return {NoData.KEEP: Verdict.UNKNOWN, NoData.OK: Verdict.FAILS, NoData.FIRE: Verdict.HOLDS}[no_data]
    return Verdict.HOLDS if _COMPARE[condition.operator](value, condition.threshold) else Verdict.FAILS


def join(match: Match, verdicts: Iterable[Verdict]) -> Verdict:
    """Whether the conditions hold together."""
    found = set(verdicts)
    decisive = Verdict.FAILS if match is Match.ALL else Verdict.HOLDS
    if decisive in found:
        return decisive
    if Verdict.UNKNOWN in found:
        return Verdict.UNKNOWN
    return Verdict.HOLDS if match is Match.ALL else Verdict.FAILS
