"""Asks HTTP addresses on loopback."""

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


async def fetch(method: str, url: str) -> str:
    """The text of an answer, within two seconds; empty if there is none."""
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.request(method, url) as response:
            return await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return ""
