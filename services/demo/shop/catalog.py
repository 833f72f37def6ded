"""Catalog: what there is, what it costs, how much is left."""

from __future__ import annotations

import asyncio
from random import Random

from services.demo.shop.model import Message, Methods, ShopError
from services.demo.telemetry import Telemetry

# Prices in won.
PRICES = {
    "keyboard": 89_000,
    "mouse": 32_000,
    "monitor": 279_000,
    "headset": 119_000,
    "webcam": 64_000,
    "usb-hub": 24_000,
}
_FULL = 60
_LOW = 8


class Catalog:
    """Lists prices and reserves stock, which is filled up again when it runs low."""

    def __init__(self, telemetry: Telemetry, random: Random) -> None:
        self._telemetry = telemetry
        self._random = random
        self._stock = dict.fromkeys(PRICES, _FULL)
        self._level = telemetry.meter.create_gauge("shop.catalog.stock", "{item}", "Items left by product")
        for sku, left in self._stock.items():
            self._level.set(left, {"sku": sku})

    def methods(self) -> Methods:
        """What it answers."""
        return {"ListPrices": self.list_prices, "Reserve": self.reserve}

    async def list_prices(self, _: Message) -> Message:
        """The price of each product, in won."""
        with self._telemetry.tracer.start_as_current_span("read prices"):
            await asyncio.sleep(self._random.uniform(0.004, 0.02))
        return {"prices": dict(PRICES)}

    async def reserve(self, request: Message) -> Message:
        """Takes the items of an order from the stock."""
        await asyncio.sleep(self._random.uniform(0.005, 0.03))
        for sku, quantity in request["items"].items():
            if sku not in self._stock:
                raise ShopError("NOT_FOUND", f"no product {sku}")
            self._take(sku, int(quantity))
        return {}

    def _take(self, sku: str, quantity: int) -> None:
        left = self._stock[sku] - quantity
        if left < _LOW:
            self._telemetry.log.warn(f"재고가 부족합니다: {sku} {max(left, 0)}개 남음, 다시 채웁니다", sku=sku)
            left += _FULL
        self._stock[sku] = left
        self._level.set(left, {"sku": sku})
