"""The shop's visitors: they come at random, put a few items into the cart, and most of them check out."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from services.demo.shop.catalog import PRICES
from services.demo.shop.model import ShopError
from services.demo.shop.rpc import Client

_MOST_VISITORS = 64
_USERS = 200
_CHECK_OUT = 0.9
_MOST_ADDED = 3


class Load:
    """Visitors at a mean rate, never more than 64 at a time."""

    def __init__(self, frontend: Client, rate: float, random: Random) -> None:
        """Prepares the visitors.

        Args:
            frontend: Where they go.
            rate: Checkouts a second, in the mean; positive.
            random: What decides who comes when, and what they buy.
        """
        self._frontend = frontend
        self._rate = rate
        self._random = random
        self._visits: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Sends visitors until cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(self._rate / _CHECK_OUT))
            # A shop that does not keep up loses visitors, it does not queue them.
            if len(self._visits) < _MOST_VISITORS:
                visit = asyncio.create_task(self._visit())
                self._visits.add(visit)
                visit.add_done_callback(self._visits.discard)

    async def leave(self, seconds: float) -> None:
        """Lets the visitors finish, for so long, and sends the rest away."""
        if visits := list(self._visits):
            _, late = await asyncio.wait(visits, timeout=seconds)
            for visit in late:
                visit.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _visit(self) -> None:
        draw = self._random
        user = f"user-{draw.randrange(_USERS):03d}"
        # What the shop refuses is in its logs and traces; the visitor just leaves.
        with contextlib.suppress(ShopError):
            for _ in range(draw.randint(1, _MOST_ADDED)):
                sku = draw.choice(tuple(PRICES))
                await self._frontend.call("AddItem", {"user": user, "sku": sku, "quantity": draw.randint(1, 2)})
                await asyncio.sleep(draw.uniform(0.05, 0.3))
            if draw.random() < _CHECK_OUT:
                order = f"ORD-{draw.getrandbits(40):010X}"
                await self._frontend.call("Checkout", {"user": user, "order_id": order}, timeout=10.0)
