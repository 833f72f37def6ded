"""Frontend: what the shop's visitors call; it asks the other services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace

from services.demo.shop.model import Message, Methods, ShopError
from services.demo.shop.rpc import Client
from services.demo.telemetry import Telemetry

_PAYMENT_TIMEOUT = 3.0
_SHIPPING_ATTEMPTS = 2
_SHIPPING_PAUSE = 0.05


@dataclass(frozen=True)
class Backends:
    """The services behind the frontend."""

    catalog: Client
    cart: Client
    payment: Client
    shipping: Client


class Frontend:
    """Fills carts and checks out."""

    def __init__(
        self, telemetry: Telemetry, backends: Backends, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._telemetry = telemetry
        self._backends = backends
        self._clock = clock
        self._orders = telemetry.meter.create_counter("shop.orders", "{order}", "Checkouts by outcome")
        self._duration = telemetry.meter.create_histogram("shop.checkout.duration", "ms", "Time of a checkout")

    def methods(self) -> Methods:
        """What it answers."""
        return {"AddItem": self.add_item, "Checkout": self.checkout}

    async def add_item(self, request: Message) -> Message:
        """Puts some of a product into the visitor's cart."""
        return await self._backends.cart.call("AddItem", request)

    async def checkout(self, request: Message) -> Message:
        """Pays for and ships what is in the visitor's cart."""
        order, user = str(request["order_id"]), str(request["user"])
        trace.get_current_span().set_attributes({"shop.order.id": order, "shop.user.id": user})
        started = self._clock()
        outcome = "failed"
        try:
            amount = await self._place(order, user)
            outcome = "placed"
            self._telemetry.log.info(f"주문이 완료되었습니다: {order}", order_id=order, user=user, amount=amount)
            return {"amount": amount}
        except ShopError as error:
            if error.status == "FAILED_PRECONDITION":
                outcome = "refused"
                self._telemetry.log.warn(f"주문을 받지 못했습니다: {order}: {error.message}", order_id=order, user=user)
            else:
                self._telemetry.log.error(f"주문이 실패했습니다: {order}: {error.message}", order_id=order, user=user)
            raise
        finally:
            self._orders.add(1, {"outcome": outcome})
            self._duration.record((self._clock() - started) * 1000, {"outcome": outcome})

    async def _place(self, order: str, user: str) -> int:
        backends = self._backends
        listed, held = await asyncio.gather(
            backends.catalog.call("ListPrices", {}), backends.cart.call("GetItems", {"user": user})
        )
        items = held["items"]
        if not items:
            raise ShopError("FAILED_PRECONDITION", "장바구니가 비어 있습니다")
        amount = sum(int(listed["prices"][sku]) * int(quantity) for sku, quantity in items.items())
        charge: Message = {"order_id": order, "amount": amount}
        await backends.payment.call("Charge", charge, _PAYMENT_TIMEOUT)
        try:
            await asyncio.gather(backends.catalog.call("Reserve", {"items": items}), self._ship(order))
        except ShopError:
            await backends.payment.call("Refund", charge, _PAYMENT_TIMEOUT)
            raise
        await backends.cart.call("Clear", {"user": user})
        return amount

    async def _ship(self, order: str) -> None:
        for attempt in range(1, _SHIPPING_ATTEMPTS + 1):
            try:
                await self._backends.shipping.call("Ship", {"order_id": order})
                return
            except ShopError as error:
                if error.status != "UNAVAILABLE" or attempt == _SHIPPING_ATTEMPTS:
                    raise
                self._telemetry.log.warn(f"배송을 다시 요청합니다: 주문 {order}", order_id=order, attempt=attempt)
                await asyncio.sleep(_SHIPPING_PAUSE)
