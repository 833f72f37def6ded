"""What HTTP needs of authentication: the challenge, and the public keys for whoever checks tokens before us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

JWKS_PATH = "/.well-known/jwks.json"
_MAX_AGE_SECONDS = 10


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="airis"'}
"""Headers of an answer 401."""


def jwks_handler(path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Serves the public keys at `JWKS_PATH`, to everybody.

    Args:
        path: The JWKS file; read for each answer, so that new keys are known at once.
    """

    async def get(_: web.Request) -> web.Response:
        try:
            body = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise web.HTTPServiceUnavailable(text="The public keys cannot be read now.") from error
        return web.Response(
            body=body,
            content_type="application/json",
            headers={"Cache-Control": f"public, max-age={_MAX_AGE_SECONDS}"},
        )

    return get
