"""What the evaluator asks of the other signals."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol

from services.alerts.evaluate import Reading
from services.alerts.model import AlertRule, Condition
from services.shared.errors import AirisError, DeadlineExceededError, ResourceExhaustedError


class Signals(Protocol):
    """The numbers of metrics and logs."""

    async def read(self, tenant: str, condition: Condition, group_by: Sequence[str], end: datetime) -> Reading:
        """The number of a condition for each group, over the window that ends before `end`.

        Args:
            tenant: Whose data is asked for.
            group_by: Labels, with or without `labels.` before them; the keys of the groups are without it.

        Raises:
            AirisError: The signal's service refused, does not answer, or has more groups than it can tell.
        """
        ...


async def read_conditions(
    signals: Signals, tenant: str, rule: AlertRule, end: datetime, *, seconds: float, max_groups: int
) -> list[Reading]:
    """Asks for all conditions of a rule at the same time.

    Args:
        tenant: Whose rule it is: it sees that tenant's data only.
        seconds: After which it is given up.
        max_groups: How many groups the rule may have data for.

    Raises:
        AirisError: A condition could not be read; the message names it.
    """

    async def read(index: int, condition: Condition) -> Reading:
        try:
            return await signals.read(tenant, condition, rule.group_by, end)
        except AirisError as error:
            raise type(error)(
                f"conditions[{index}] could not be read: {error.message}",
                reason=error.reason,
                retry_after=error.retry_after,
            ) from error

    try:
        async with asyncio.timeout(seconds):
            readings = await _all([read(*each) for each in enumerate(rule.conditions)])
    except TimeoutError as error:
        raise DeadlineExceededError(f"The signals did not answer within {seconds:g} s.") from error
    count = len({group for reading in readings for group in reading.values})
    if count > max_groups:
        raise ResourceExhaustedError(
            f"The rule has {count} groups and may have {max_groups}; group by fewer labels or narrow the filter.",
            reason="RESULT_TOO_LARGE",
        )
    return readings


async def _all(reads: Sequence[Coroutine[Any, Any, Reading]]) -> list[Reading]:
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
