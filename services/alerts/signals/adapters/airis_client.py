"""Asks Metrics and Logs through the client SDK.

A window becomes one number by a query whose step holds the whole window: steps begin at multiples of their
length since 1970, so a step of the window's own length would usually cut it in two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from airis.client import AirisClient
from airis.client import errors as client_errors
from airis.client.credentials import acting_for
from airis.common.v1 import aggregation_pb2

from services.alerts.evaluate import GroupKey, Reading, group_key
from services.alerts.model import Aggregation, Condition, Source
from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOG_FIELDS = frozenset({"level", "service"})
_LABELS = "labels."
# Signals take U+0000 in a value and PostgreSQL does not: one such value would stop its whole rule.
_NUL, _REPLACEMENT = "\0", "\ufffd"
_SUMS = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.RATE, Aggregation.INCREASE})

_ERRORS: dict[str, type[AirisError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "OUT_OF_RANGE": InvalidArgumentError,
    "NOT_FOUND": NotFoundError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNIMPLEMENTED": UnimplementedError,
    # It is this service's own token that does not do, not that of whoever asks this service.
    "UNAUTHENTICATED": FailedPreconditionError,
    "PERMISSION_DENIED": FailedPreconditionError,
}


class ClientSignals:
    """Implements `Signals`.

    Args:
        client: With the addresses of Metrics and Logs; with a token, it acts for the tenant of each reading.
        timeout: Seconds for a call.
        max_groups: The greatest number of groups of a metric.
    """

    def __init__(self, client: AirisClient, *, timeout: float, max_groups: int) -> None:
        self._client = client
        self._timeout = timeout
        self._max_groups = max_groups

    async def read(self, tenant: str, condition: Condition, group_by: Sequence[str], end: datetime) -> Reading:
        """See `Signals`."""
        match condition.source:
            case Source.METRIC:
                service, call = "Metrics", self._read_metric
            case Source.LOGS:
                service, call = "Logs", self._read_logs
            case _:
                raise UnimplementedError("Conditions over spans are not possible in this version.")
        try:
            with acting_for(tenant):
                return await call(condition, group_by, end)
        except client_errors.AirisError as error:
            kind = _ERRORS.get(error.code.name, UnavailableError)
            raise kind(f"{service} answered {error.code.name}: {error.message}") from error

    async def _read_metric(self, condition: Condition, group_by: Sequence[str], end: datetime) -> Reading:
        keys = [key.removeprefix(_LABELS) for key in group_by]
        start = end - condition.window
        # The rate of a step is per second of the step, which is longer than the window: the increase is asked for.
        is_rate = condition.aggregation is Aggregation.RATE
        function = Aggregation.INCREASE if is_rate else condition.aggregation
        response = await self._client.metrics.query(
            condition.subject,
            filter=condition.filter,
            start=start,
            end=end,
            step=covering_step(start, end),
            aggregation=cast("aggregation_pb2.Aggregation.Function", int(function)),
            quantile=condition.quantile,
            group_by=keys,
            max_series=self._max_groups,
            timeout=self._timeout,
        )
        divisor = condition.window.total_seconds() if is_rate else 1.0
        values = _by_group(
            condition.aggregation,
            (
                (_group(keys, series.labels), series.points[-1].value / divisor)
                for series in response.series
                if series.points
            ),
        )
        return Reading(values, absent=0.0 if condition.aggregation is Aggregation.COUNT else None)

    async def _read_logs(self, condition: Condition, group_by: Sequence[str], end: datetime) -> Reading:
        fields = [key if key in _LOG_FIELDS else _LABELS + key.removeprefix(_LABELS) for key in group_by]
        start = end - condition.window
        response = await self._client.logs.count(
            condition.subject,
            start=start,
            end=end,
            step=covering_step(start, end),
            group_by=fields,
            timeout=self._timeout,
        )
        divisor = condition.window.total_seconds() if condition.aggregation is Aggregation.RATE else 1.0
        if not fields:
            return Reading({(): response.total_count / divisor}, absent=0.0)
        if sum(group.count for group in response.groups) < response.total_count:
            raise ResourceExhaustedError(
                f"Logs has more groups than the {len(response.groups)} that it tells; group by fewer fields.",
                reason="RESULT_TOO_LARGE",
            )
        keys = [field.removeprefix(_LABELS) for field in fields]
        values = _by_group(
            condition.aggregation,
            (
                (
                    _group(keys, {name.removeprefix(_LABELS): value for name, value in group.fields.items()}),
                    group.count / divisor,
                )
                for group in response.groups
            ),
        )
        return Reading(values, absent=0.0)


def covering_step(start: datetime, end: datetime) -> timedelta:
    """The length of the window, doubled until one step holds the whole of it."""
    first, last = start - _EPOCH, end - _EPOCH - timedelta(microseconds=1)
    step = end - start
    while first // step != last // step:
        step *= 2
    return step


def _group(keys: Sequence[str], labels: Mapping[str, str]) -> GroupKey:
    """A label that is not there is empty, so that groups of several conditions have the same keys."""
    return group_key({key: labels.get(key, "").replace(_NUL, _REPLACEMENT) for key in keys})


def _by_group(aggregation: Aggregation, numbers: Iterable[tuple[GroupKey, float]]) -> dict[GroupKey, float]:
    """The number of each group. Groups that only a replaced character told apart are one.

    Their numbers are added where that gives the number of both; else the smallest counts for MIN and the greatest
    for all others, which is as near as their numbers come.
    """
    join: Callable[[float, float], float] = max
    if aggregation in _SUMS:
        join = operator.add
    elif aggregation is Aggregation.MIN:
        join = min
    values: dict[GroupKey, float] = {}
    for group, number in numbers:
        values[group] = join(values[group], number) if group in values else number
    return values
