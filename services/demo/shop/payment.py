"""Payment: charges cards at a bank that is sometimes slow and sometimes says no."""

from __future__ import annotations

import asyncio
from random import Random

from services.demo.shop.model import Message, Methods, ShopError
from services.demo.telemetry import Telemetry

_SLOW = 0.06
_DECLINED = 0.03
_BROKEN = 0.02
# Seconds after which an answer counts as slow.
_PATIENCE = 0.5


class Payment:
    """Charges and refunds; latency has a long tail, and one charge in twenty fails."""

    def __init__(self, telemetry: Telemetry, random: Random) -> None:
        self._telemetry = telemetry
        self._random = random
        self._amount = telemetry.meter.create_counter("shop.payment.amount", "{KRW}", "Charged")
        self._declined = telemetry.meter.create_counter("shop.payment.declined", "{payment}", "Refused by reason")

    def methods(self) -> Methods:
        """What it answers."""
        return {"Charge": self.charge, "Refund": self.refund}

    async def charge(self, request: Message) -> Message:
        """Charges the amount of an order, in won."""
        order, amount = str(request["order_id"]), int(request["amount"])
        await self._ask_bank(order)
        drawn = self._random.random()
        if drawn < _DECLINED:
            self._declined.add(1, {"reason": "declined"})
            self._telemetry.log.warn(
                f"카드 승인이 거절되었습니다: 주문 {order}, {amount}원", order_id=order, amount=amount
            )
            raise ShopError("FAILED_PRECONDITION", "카드 한도를 초과했습니다")
        if drawn < _DECLINED + _BROKEN:
            self._declined.add(1, {"reason": "bank"})
            self._telemetry.log.error(f"은행 연결이 끊어졌습니다: 주문 {order}", order_id=order, amount=amount)
            raise ShopError("INTERNAL", "은행 연결이 끊어졌습니다")
        self._amount.add(amount)
        self._telemetry.log.info(f"결제가 승인되었습니다: 주문 {order}, {amount}원", order_id=order, amount=amount)
        return {"approval": f"{self._random.getrandbits(32):08x}"}

    async def refund(self, request: Message) -> Message:
        """Gives an order's amount back."""
        order = str(request["order_id"])
        await asyncio.sleep(self._random.uniform(0.03, 0.08))
        self._telemetry.log.info(f"결제를 취소했습니다: 주문 {order}", order_id=order)
        return {}

    async def _ask_bank(self, order: str) -> None:
        wait = self._random.uniform(0.03, 0.12)
        if self._random.random() < _SLOW:
            wait += self._random.lognormvariate(0, 0.6)
        with self._telemetry.tracer.start_as_current_span("bank authorization"):
            await asyncio.sleep(min(wait, _PATIENCE))
            if wait > _PATIENCE:
                self._telemetry.log.warn(f"결제서비스 응답이 느립니다: 주문 {order}", order_id=order)
                await asyncio.sleep(wait - _PATIENCE)
