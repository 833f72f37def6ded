"""The way of a notification, as a list of stages: see `Notifier`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from services.alerts.model import Channel, Target
from services.alerts.store.port import ChannelStore, OutboxEntry
from services.shared.errors import NotFoundError


class DeliveryError(Exception):
    """A channel could not be told. The text is kept and shown: it must not contain a secret.

    Args:
        permanent: Another attempt cannot help.
        retry_after: Seconds after which the receiver asked to be tried again.
    """

    def __init__(self, text: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.permanent = permanent
        self.retry_after = retry_after


class TargetSender(Protocol):
    """Tells one kind of channel."""

    async def send(self, target: Any, key: str, payload: Mapping[str, Any], at: datetime) -> None:
        """Sends once.

        Args:
            target: The target, of the kind that this sender is registered for.
            key: The same in every attempt at this notification, for receivers that see it twice.
            payload: See `services.alerts.message`.
            at: When this attempt began, by the clock of the store.

        Raises:
            DeliveryError: It did not arrive, as far as can be known.
        """
        ...


class SentMarks(Protocol):
    """Remembers for a while what was sent, in case writing it down fails afterwards. May forget."""

    async def has(self, tenant: str, key: str) -> bool:
        """Whether this was sent, as far as is remembered."""
        ...

    async def add(self, tenant: str, key: str) -> None:
        """Remembers that this was sent."""
        ...


class NoSentMarks:
    """Remembers nothing."""

    async def has(self, tenant: str, key: str) -> bool:
        return False

    async def add(self, tenant: str, key: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification on its way through the stages."""

    entry: OutboxEntry
    channel: Channel | None = None
    done: bool = False


class Notifier:
    """Takes a notification through the stages, in order, until one says it is done.

    Args:
        senders: By the kind of target.
    """

    def __init__(self, channels: ChannelStore, marks: SentMarks, senders: Mapping[type[Target], TargetSender]) -> None:
        self._channels = channels
        self._marks = marks
        self._senders = senders
        self.stages: tuple[Callable[[Delivery], Awaitable[Delivery]], ...] = (
            self._skip_what_was_sent,
            self._find_channel,
            self._send,
            self._remember,
        )

    async def deliver(self, entry: OutboxEntry) -> None:
        """Sends a notification once.

        Raises:
            DeliveryError: It did not arrive.
        """
        delivery = Delivery(entry)
        for stage in self.stages:
            delivery = await stage(delivery)
            if delivery.done:
                return

    async def _skip_what_was_sent(self, delivery: Delivery) -> Delivery:
        # Only a second attempt can be one too many.
        is_repeated = delivery.entry.attempts > 1
        return replace(delivery, done=is_repeated and await self._marks.has(delivery.entry.tenant, delivery.entry.key))

    async def _find_channel(self, delivery: Delivery) -> Delivery:
        entry = delivery.entry
        try:
            return replace(delivery, channel=await self._channels.get(entry.tenant, entry.channel))
        except NotFoundError as error:
            raise DeliveryError("the channel was deleted", permanent=True) from error

    async def _send(self, delivery: Delivery) -> Delivery:
        assert delivery.channel is not None  # noqa: S101 - the stage before found it
        target = delivery.channel.target
        sender = self._senders.get(type(target))
        if sender is None:
            raise DeliveryError("this server is not configured for this kind of channel", permanent=True)
        await sender.send(target, delivery.entry.key, delivery.entry.payload, delivery.entry.take_time)
        return delivery

    async def _remember(self, delivery: Delivery) -> Delivery:
        await self._marks.add(delivery.entry.tenant, delivery.entry.key)
        return delivery
