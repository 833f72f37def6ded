"""What runs behind: the evaluator, which asks the signals about rules that are due, and the sender of notifications.

Several replicas may run: each rule and each notification is taken by one of them, by row locks in the store. Both
work for all tenants, in turn; each piece of work says whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog

from services.alerts.config import AlertsConfig
from services.alerts.evaluate import GroupKey, judge
from services.alerts.matching import silencer
from services.alerts.model import Clock, NewId
from services.alerts.notify.delivery import DeliveryError, Notifier
from services.alerts.signals.port import Signals, read_conditions
from services.alerts.state import Group, Step, advance, forget
from services.alerts.store.port import DueRule, Outbox, OutboxEntry, RuleStore, SilenceStore
from services.shared.errors import AirisError, UnavailableError

logger = structlog.get_logger(__name__)

_PRUNE_INTERVAL = timedelta(hours=1)


class Evaluator:
    """Evaluates rules when they are due."""

    def __init__(
        self,
        rules: RuleStore,
        silences: SilenceStore,
        signals: Signals,
        config: AlertsConfig,
        new_id: NewId,
    ) -> None:
        self._rules = rules
        self._silences = silences
        self._signals = signals
        self._config = config
        self._new_id = new_id

    async def run(self, stop: asyncio.Event) -> None:
        """Evaluates until `stop` is set; then finishes what has begun."""
        await _work(
            self._take,
            stop,
            concurrency=self._config.evaluation_concurrency,
            poll_interval=self._config.evaluation_poll_interval,
        )

    async def run_once(self) -> int:
        """Evaluates all that is due now; gives the number of rules."""
        count = 0
        while due := await self._take(self._config.evaluation_concurrency):
            await asyncio.gather(*due)
            count += len(due)
        return count

    async def _take(self, limit: int) -> Sequence[Coroutine[Any, Any, None]]:
        # Twice as long as the signals may take: nobody else evaluates meanwhile, unless this process dies.
        lease = timedelta(seconds=2 * self._config.evaluation_timeout)
        return [self._evaluate(due) for due in await self._rules.take_due(limit, lease)]

    async def _evaluate(self, due: DueRule) -> None:
        try:
            await self._evaluate_or_raise(due)
        except AirisError as error:
            await self._fail(due, error.message)
        except Exception:
            logger.exception("alerts.evaluation_failed", tenant=due.tenant, rule=due.rule.id)
            await self._fail(due, "The evaluation failed; the alert service's log says why.")

    async def _evaluate_or_raise(self, due: DueRule) -> None:
        rule = due.rule
        readings = await read_conditions(
            self._signals,
            due.tenant,
            rule,
            due.at - timedelta(seconds=self._config.ingestion_delay),
            seconds=self._config.evaluation_timeout,
            max_groups=self._config.max_groups,
        )

        read = {group for reading in readings for group in reading.values}

        def next_steps(groups: Mapping[GroupKey, Group]) -> Sequence[Step]:
            steps = [
                advance(
                    rule,
                    groups.get(reading.group) or Group.new(reading.group, rule),
                    reading,
                    due.at,
                    self._new_id,
                )
                for reading in judge(rule, readings, groups)
            ]
            return forget(steps, read, self._config.max_groups)

        try:
            is_silenced = silencer(await self._silences.active(due.tenant))
            events = await self._rules.record_evaluation(due, next_steps, is_silenced)
        except UnavailableError as error:
            # The rule is not at fault: the lease runs out, and it is evaluated again.
            logger.warning("alerts.evaluation_not_recorded", tenant=due.tenant, rule=rule.id, error=error.message)
            return
        for event in events:
            logger.info("alerts.event", tenant=due.tenant, alert=event.alert, rule=event.rule, kind=event.kind.name)

    async def _fail(self, due: DueRule, message: str) -> None:
        logger.warning("alerts.rule_not_evaluated", tenant=due.tenant, rule=due.rule.id, error=message)
        try:
            await self._rules.record_failure(due, message)
        except AirisError as error:
            logger.warning("alerts.failure_not_recorded", tenant=due.tenant, rule=due.rule.id, error=error.message)


class Sender:
    """Sends the notifications of the outbox.

    Args:
        random: A number from 0 to 1, to spread attempts.
    """

    def __init__(
        self,
        outbox: Outbox,
        silences: SilenceStore,
        notifier: Notifier,
        config: AlertsConfig,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._silences = silences
        self._notifier = notifier
        self._config = config
        self._clock = clock
        self._random = random
        self._pruned_at = clock()

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set; then finishes what has begun."""
        await _work(
            self._take,
            stop,
            concurrency=self._config.notification_concurrency,
            poll_interval=self._config.notification_poll_interval,
        )

    async def run_once(self) -> int:
        """Tries once what is due now; gives the number of attempts."""
        count = 0
        while due := await self._take(self._config.notification_concurrency):
            await asyncio.gather(*due)
            count += len(due)
        return count

    async def _take(self, limit: int) -> Sequence[Coroutine[Any, Any, None]]:
        now = self._clock()
        # Also when the clock was ahead the last time.
        if not timedelta(0) <= now - self._pruned_at < _PRUNE_INTERVAL:
            self._pruned_at = now
            await self._outbox.prune(timedelta(seconds=self._config.notification_retention))
        await self._release()
        # Twice as long as an attempt can take: nobody else tries meanwhile, unless this process dies.
        lease = timedelta(seconds=2 * self._config.notification_timeout)
        return [self._send(entry) for entry in await self._outbox.take(limit, lease)]

    async def _release(self) -> None:
        for tenant in await self._outbox.holding():
            try:
                await self._outbox.release(tenant, silencer(await self._silences.active(tenant)))
            except AirisError as error:
                # Nobody else's notifications wait for what is wrong with this tenant's.
                logger.warning("alerts.notifications_not_released", tenant=tenant, error=error.message)

    async def _send(self, entry: OutboxEntry) -> None:
        try:
            await self._send_or_raise(entry)
        except AirisError as error:
            # The store does not answer: the lease runs out, and the notification is tried again.
            logger.warning("alerts.notification_not_recorded", tenant=entry.tenant, key=entry.key, error=error.message)

    async def _send_or_raise(self, entry: OutboxEntry) -> None:
        try:
            # A channel has its own timeout: what was sent must not count as failed because its mark was slow.
            async with asyncio.timeout(1.5 * self._config.notification_timeout):
                await self._notifier.deliver(entry)
        except DeliveryError as error:
            await self._fail(entry, error)
        except TimeoutError:
            await self._fail(entry, DeliveryError(f"no answer in {self._config.notification_timeout:g} s"))
        except AirisError:
            raise
        except Exception:
            logger.exception("alerts.notification_failed", tenant=entry.tenant, key=entry.key)
            await self._fail(entry, DeliveryError("the service failed; its log says why"))
        else:
            await self._outbox.sent(entry)

    async def _fail(self, entry: OutboxEntry, error: DeliveryError) -> None:
        text = str(error)
        if error.permanent or entry.attempts >= self._config.notification_attempts:
            logger.warning("alerts.notification_given_up", tenant=entry.tenant, key=entry.key, error=text)
            await self._outbox.failed(entry, text)
            return
        delay = retry_delay(entry.attempts, error.retry_after, self._config, self._random())
        logger.info("alerts.notification_retried", tenant=entry.tenant, key=entry.key, error=text, delay_seconds=delay)
        await self._outbox.retry(entry, text, timedelta(seconds=delay))


def retry_delay(attempts: int, asked: float | None, config: AlertsConfig, random: float) -> float:
    """Seconds until the next attempt: doubled with each, half of it by chance, never beyond the limit.

    Args:
        attempts: How many there were; 1 or more.
        asked: The seconds that the receiver asked for.
        random: 0 to 1.
    """
    backoff = config.notification_backoff * 2.0 ** min(attempts - 1, 60)
    delay = min(backoff, config.notification_backoff_limit) * (0.5 + random / 2)
    return min(max(delay, asked or 0.0), config.notification_backoff_limit)


async def _work(take: Callable[[int], Any], stop: asyncio.Event, *, concurrency: int, poll_interval: float) -> None:
    """Takes work whenever hands are free, and looks again when one becomes free or after the interval."""
    running: set[asyncio.Task[None]] = set()
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            taken: Sequence[Coroutine[Any, Any, None]] = ()
            free = concurrency - len(running)
            try:
                taken = await take(free) if free else ()
            except AirisError as error:
                logger.warning("alerts.store_unavailable", error=error.message)
            except Exception:
                logger.exception("alerts.work_not_taken")
            running.update(asyncio.ensure_future(work) for work in taken)
            if len(taken) == free:
                await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.wait({stopped}, timeout=poll_interval)
            running = {task for task in running if not task.done()}
        if running:
            await asyncio.wait(running)
    finally:
        stopped.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
