"""Asks an HTTP address on loopback whether all is well."""

from __future__ import annotations

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=2)


async def answers_ok(url: str) -> bool:
    """Whether a GET gives status 200 within two seconds."""
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
