"""The queue between shipping, which publishes that an order left, and the frontend, which tells the customer later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from opentelemetry import propagate, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Link, SpanKind

from services.demo.telemetry import Telemetry

_QUEUE = "shop.notifications"
_LONGEST = 256


@dataclass(frozen=True)
class Notification:
    """An order that left; `headers` carry the trace that it belongs to."""

    order_id: str
    headers: dict[str, str]


class Notifications:
    """A bounded queue in memory, traced as a message broker would be."""

    def __init__(self, publisher: Telemetry, consumer: Telemetry, random: Random) -> None:
        self._publisher = publisher
        self._consumer = consumer
        self._random = random
        self._queue: asyncio.Queue[Notification] = asyncio.Queue(_LONGEST)
        publisher.meter.create_observable_gauge(
            "shop.notifications.waiting", [self._waiting], "{message}", "Notifications that were not sent yet"
        )

    def publish(self, order_id: str) -> None:
        """Queues that an order left; dropped with a warning when the queue is full."""
        with self._publisher.tracer.start_as_current_span(
            f"publish {_QUEUE}", kind=SpanKind.PRODUCER, attributes=_attributes("send", order_id)
        ):
            headers: dict[str, str] = {}
            propagate.inject(headers)
            try:
                self._queue.put_nowait(Notification(order_id, headers))
            except asyncio.QueueFull:
                self._publisher.log.warn(f"알림 대기열이 가득 찼습니다: 주문 {order_id}", order_id=order_id)

    async def consume(self) -> None:
        """Tells customers, one after the other, until cancelled."""
        while True:
            notification = await self._queue.get()
            context = propagate.extract(notification.headers)
            published = trace.get_current_span(context).get_span_context()
            with self._consumer.tracer.start_as_current_span(
                f"process {_QUEUE}",
                context=context,
                kind=SpanKind.CONSUMER,
                attributes=_attributes("process", notification.order_id),
                links=[Link(published)],
            ):
                await asyncio.sleep(self._random.uniform(0.02, 0.12))
                self._consumer.log.info(
                    f"배송 알림을 보냈습니다: 주문 {notification.order_id}", order_id=notification.order_id
                )

    def _waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._queue.qsize())]


def _attributes(operation: str, order_id: str) -> dict[str, str]:
    return {
        "messaging.system": "memory",
        "messaging.destination.name": _QUEUE,
        "messaging.operation.type": operation,
        "shop.order.id": order_id,
    }
