"""Remembers in Redis what was sent. Losing it costs at most a repeated notification, never one that is missing."""

from __future__ import annotations

from datetime import timedelta

import redis.asyncio
import structlog
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)

_PREFIX = "airis:alerts:sent:"
_KEPT = timedelta(days=1)


class RedisSentMarks:
    """See `SentMarks`. When Redis does not answer, it remembers nothing.

    Args:
        url: `redis://host:port/0` or `unix:///path`.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, url: str, timeout: float = 1.0) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, max_connections=16
        )

    async def has(self, key: str) -> bool:
        """Whether this was sent within a day, as far as Redis knows."""
        try:
            return bool(await self._redis.exists(_PREFIX + key))
        except (RedisError, OSError) as error:
            logger.warning("alerts.redis_unavailable", error=str(error))
            return False

    async def add(self, key: str) -> None:
        """Remembers for a day that this was sent."""
        try:
            await self._redis.set(_PREFIX + key, b"1", ex=_KEPT)
        except (RedisError, OSError) as error:
            logger.warning("alerts.redis_unavailable", error=str(error))

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
