"""Shipping: hands orders to a carrier, which is away now and then."""

from __future__ import annotations

import asyncio
from random import Random

from services.demo.shop.model import Message, Methods, ShopError
from services.demo.shop.notifications import Notifications
from services.demo.telemetry import Telemetry

_AWAY = 0.08
_CARRIERS = ("hanjin", "lotte", "post")


class Shipping:
    """Books a carrier, and has the customer told."""

    def __init__(self, telemetry: Telemetry, random: Random, notifications: Notifications) -> None:
        self._telemetry = telemetry
        self._random = random
        self._notifications = notifications
        self._shipments = telemetry.meter.create_counter("shop.shipments", "{shipment}", "Orders shipped by carrier")

    def methods(self) -> Methods:
        """What it answers."""
        return {"Ship": self.ship}

    async def ship(self, request: Message) -> Message:
        """Hands an order to a carrier."""
        order = str(request["order_id"])
        carrier = self._random.choice(_CARRIERS)
        with self._telemetry.tracer.start_as_current_span("book carrier", attributes={"shop.carrier": carrier}):
            await asyncio.sleep(self._random.uniform(0.03, 0.09))
        if self._random.random() < _AWAY:
            self._telemetry.log.error(f"택배사에 연결할 수 없습니다: 주문 {order}", order_id=order, carrier=carrier)
            raise ShopError("UNAVAILABLE", f"carrier {carrier} does not answer")
        self._shipments.add(1, {"carrier": carrier})
        self._telemetry.log.info(f"배송을 시작합니다: 주문 {order}", order_id=order, carrier=carrier)
        self._notifications.publish(order)
        return {"carrier": carrier}
