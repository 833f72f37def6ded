"""What must run as long as a service does."""

from __future__ import annotations

import asyncio


async def until_one_ends(*tasks: asyncio.Task[None]) -> None:
    """Waits for several tasks, none of which should end, and raises what the first that ends has raised."""
    ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
