"""Cart: what each user is about to buy."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from services.demo.shop.model import Message, Methods, ShopError
from services.demo.telemetry import Telemetry

_MOST_ITEMS = 30
_MOST_CARTS = 1000


class Cart:
    """Keeps a cart for each user, in memory."""

    def __init__(self, telemetry: Telemetry, random: Random) -> None:
        self._telemetry = telemetry
        self._random = random
        self._carts: dict[str, Counter[str]] = {}
        self._items = telemetry.meter.create_up_down_counter("shop.cart.items", "{item}", "Items in all carts")

    def methods(self) -> Methods:
        """What it answers."""
        return {"AddItem": self.add_item, "GetItems": self.get_items, "Clear": self.clear}

    async def add_item(self, request: Message) -> Message:
        """Puts some of a product into a user's cart."""
        await asyncio.sleep(self._random.uniform(0.002, 0.01))
        user, sku, quantity = str(request["user"]), str(request["sku"]), int(request["quantity"])
        if user not in self._carts and len(self._carts) >= _MOST_CARTS:
            raise ShopError("RESOURCE_EXHAUSTED", f"no more than {_MOST_CARTS} carts")
        cart = self._carts.setdefault(user, Counter())
        if cart.total() + quantity > _MOST_ITEMS:
            self._telemetry.log.warn(f"장바구니가 가득 찼습니다: {user}", user=user)
            raise ShopError("FAILED_PRECONDITION", f"no more than {_MOST_ITEMS} items in a cart")
        cart[sku] += quantity
        self._items.add(quantity)
        return {"items": dict(cart)}

    async def get_items(self, request: Message) -> Message:
        """The quantity of each product in a user's cart."""
        await asyncio.sleep(self._random.uniform(0.002, 0.015))
        return {"items": dict(self._carts.get(str(request["user"]), Counter()))}

    async def clear(self, request: Message) -> Message:
        """Empties a user's cart."""
        await asyncio.sleep(self._random.uniform(0.002, 0.01))
        cart = self._carts.pop(str(request["user"]), Counter())
        self._items.add(-cart.total())
        return {}
