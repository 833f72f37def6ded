"""Remembers in Redis what was sent. Losing it costs at most a repeated notification, never one that is missing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.shared.errors import FailedPreconditionError

logger = structlog.get_logger(__name__)

_KEPT = timedelta(days=1)
# A connection that Redis closed meanwhile is found out by using it.
_ATTEMPTS = 2
# The last is uvloop's word for a connection that was reset between two steps of the driver.
_FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)


class RedisSentMarks:
    """See `SentMarks`. When Redis does not answer, it remembers nothing.

    Args:
        url: `redis://host:port/0` or `unix:///path`.
        timeout: Seconds that one question may take, connecting and repeating included.

    Raises:
        FailedPreconditionError: The address is none.
    """

    def __init__(self, url: str, timeout: float = 1.0) -> None:
        self._timeout = timeout
        try:
            self._redis = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                max_connections=16,
                retry=Retry(NoBackoff(), _ATTEMPTS - 1),
            )
        except ValueError:
            # The driver's words may repeat a part of the address, and with it of the password.
            raise FailedPreconditionError(
                "redis.url is no address of Redis; give redis://user:password@host:port/0, with characters other than "
                "letters and digits in the password as %XX."
            ) from None

    async def has(self, tenant: str, key: str) -> bool:
        """Whether this was sent within a day, as far as Redis knows."""
        try:
            async with asyncio.timeout(self._timeout):
                return bool(await self._redis.exists(_mark(tenant, key)))
        except _FAILURES as error:
            logger.warning("alerts.redis_unavailable", error=str(error) or type(error).__name__)
            return False

    async def add(self, tenant: str, key: str) -> None:
        """Remembers for a day that this was sent."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._redis.set(_mark(tenant, key), b"1", ex=_KEPT)
        except _FAILURES as error:
            logger.warning("alerts.redis_unavailable", error=str(error) or type(error).__name__)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def _mark(tenant: str, key: str) -> str:
    # A tenant's name has no colon.
    return f"{tenant}:airis:alerts:sent:{key}"
