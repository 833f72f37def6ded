"""Puts the shop together and runs it until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

from services.demo.shop.cart import Cart
from services.demo.shop.catalog import Catalog
from services.demo.shop.frontend import Backends, Frontend
from services.demo.shop.load import Load
from services.demo.shop.model import Methods
from services.demo.shop.notifications import Notifications
from services.demo.shop.payment import Payment
from services.demo.shop.rpc import Client, serve
from services.demo.shop.shipping import Shipping
from services.demo.telemetry import Exports, Telemetry

_LAST_VISITS = 0.5
_GRACE = 0.3


@dataclass(frozen=True)
class Options:
    """How the shop runs.

    Attributes:
        rate: Checkouts a second, in the mean.
        seed: Where the random sources start; None: somewhere else each time.
        metric_interval: Seconds between exports of metrics.
    """

    rate: float
    seed: int | None
    metric_interval: float


async def run(endpoint: str, options: Options) -> None:
    """Keeps the shop open until SIGTERM or SIGINT, then sends what is left of its telemetry.

    Args:
        endpoint: `http://host:port` of the OTLP/gRPC receiver.
        options: How it runs.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    exports = Exports(endpoint, options.metric_interval)
    try:
        async with AsyncExitStack() as stack:
            load = await _open(stack, exports, options)
            print(f"the shop is open and sends to {endpoint}", flush=True)
            await _until(ended, load)
    finally:
        # Blocks for two seconds at most, when nothing else is left to do.
        exports.stop()


async def _until(ended: asyncio.Event, load: Load) -> None:
    visitors = asyncio.create_task(load.run())
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait({visitors, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if visitors.done():
        # Only a defect ends it by itself.
        visitors.result()
    await _cancel(visitors)
    await load.leave(_LAST_VISITS)


async def _open(stack: AsyncExitStack, exports: Exports, options: Options) -> Load:
    def random(name: str) -> Random:
        # One source for each, so that the order of calls between services does not change what each draws.
        return Random() if options.seed is None else Random(f"{options.seed}/{name}")  # noqa: S311

    async def start(name: str, make: Callable[[Telemetry, Random], Methods]) -> str:
        telemetry = all_telemetry[name]
        server = await serve(name, make(telemetry, random(name)), telemetry.tracer_provider)
        stack.push_async_callback(server.stop, _GRACE)
        return server.address

    def client(service: str, address: str, caller: Telemetry | None = None) -> Client:
        made = Client(service, address, caller.tracer_provider if caller else None)
        stack.push_async_callback(made.close)
        return made

    names = ("Frontend", "Catalog", "Cart", "Payment", "Shipping")
    all_telemetry = {name: exports.service(f"shop-{name.lower()}") for name in names}
    frontend = all_telemetry["Frontend"]
    notifications = Notifications(all_telemetry["Shipping"], frontend, random("Notifications"))
    backends = Backends(
        catalog=client("Catalog", await start("Catalog", lambda t, r: Catalog(t, r).methods()), frontend),
        cart=client("Cart", await start("Cart", lambda t, r: Cart(t, r).methods()), frontend),
        payment=client("Payment", await start("Payment", lambda t, r: Payment(t, r).methods()), frontend),
        shipping=client(
            "Shipping", await start("Shipping", lambda t, r: Shipping(t, r, notifications).methods()), frontend
        ),
    )
    consumer = asyncio.create_task(notifications.consume())
    stack.push_async_callback(_cancel, consumer)
    address = await start("Frontend", lambda t, _: Frontend(t, backends).methods())
    return Load(client("Frontend", address), options.rate, random("Load"))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
