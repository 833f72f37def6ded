"""What must run as long as a service does."""

from __future__ import annotations

import asyncio

import pytest

from services.shared.background import until_one_ends


async def test_it_ends_with_the_first_that_ends_and_raises_what_that_has_raised() -> None:
    async def fail() -> None:
        raise KeyError("worker")

    forever = asyncio.create_task(asyncio.sleep(3600))
    with pytest.raises(KeyError, match="worker"):
        await until_one_ends(forever, asyncio.create_task(fail()))
    assert not forever.done()
    await until_one_ends(forever, asyncio.create_task(asyncio.sleep(0)))
    forever.cancel()
