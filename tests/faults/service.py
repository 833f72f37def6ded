"""A process of ours in the distributed profile."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from alert_replicas import get
from faults.armed_services import ArmedService
from faults.items import SIGNALS
from service_process import ServiceProcess


class Service:
    """A process of ours."""

    def __init__(self, name: str, role: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = f"{name}-{role}" if role else name
        more = {"AIRIS_ROLE": role} if role else {}
        kind = ArmedService if name in SIGNALS else ServiceProcess
        self.process = kind(name, folder / self.name, **settings, **more)

    async def start(self) -> None:
        """Returns when it serves."""
        await asyncio.to_thread(self.process.start, 90.0)

    async def kill(self) -> None:
        """Ends it as a crash would."""
        await asyncio.to_thread(self.process.kill)

    async def die_at(self, point: str, count: int) -> None:
        """Returns when it has died at a point, which it passes so many times more. Raises `AssertionError`."""
        assert isinstance(self.process, ArmedService)
        await asyncio.to_thread(self.process.arm, point, count)
        code = await asyncio.to_thread(self.process.wait_death)
        assert code == -signals.SIGKILL, f"{self.name} did not die at {point}, but ended with {code}"

    def standing_still_at(self, point: str, count: int) -> AbstractAsyncContextManager[None]:
        """See `ArmedService.standing_still_at`."""
        assert isinstance(self.process, ArmedService)
        return self.process.standing_still_at(point, count)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process.process is not None
        return self.process.process.pid

    async def readiness(self) -> tuple[int, str]:
        """The status and the text of /readyz; 0 when it does not answer at all."""
        return await asyncio.to_thread(get, f"{self.process.http}/readyz")

    @property
    def memory(self) -> int:
        """Resident bytes now."""
        return self._memory("VmRSS")

    @property
    def most_memory(self) -> int:
        """Resident bytes at the worst moment since the process began."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))
