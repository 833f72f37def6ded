"""Open-loop load on a gRPC server, from a process of its own: calls come when they come, answered or not.

A run is a list of phases without a pause between them. Run by `offer`, or with a run as JSON on stdin:
`python tests/overload_load.py`.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from airis.alerts.v1 import alerts_pb2  # noqa: F401 (`wrap` looks for its policies)
from airis.metrics.v1 import metrics_pb2  # noqa: F401

from resilience.circuit_breaker import BreakerSettings
from resilience.grpc.client import ClientSettings, wrap
from resilience.grpc.status import retry_after

ROOT = Path(__file__).parent.parent
HEALTH = "/grpc.health.v1.Health/Check"
# What is loaded is on this machine, whatever proxy the environment names.
_DIRECTLY = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls of one method.

    Attributes:
        method: Its path.
        rate: Calls a second, which come independently of each other.
        request: What is sent, in base64.
        callers: Instead of a rate: so many, of whom each waits for an answer before its next call; 0: the rate counts.
    """

    method: str
    rate: float = 0.0
    request: str = ""
    callers: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """Some seconds of load.

    Attributes:
        name: For the report.
        seconds: How long.
        traffic: What comes.
        wrapped: Whether the caller has the policies of the contract.
    """

    name: str
    seconds: float
    traffic: Sequence[Traffic]
    wrapped: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """What became of a call.

    Attributes:
        method: Its path.
        at: When it was made, in seconds since its phase began.
        seconds: How long it took.
        code: The status code's name.
        retry_after: Seconds of its RetryInfo; None: it has none.
        late: How many seconds after it was due it was made; of a caller that waits for answers: 0.
    """

    method: str
    at: float
    seconds: float
    code: str
    retry_after: float | None
    late: float = 0.0


@dataclass(slots=True)
class Report:
    """What became of the calls that were made in a phase.

    Attributes:
        phase: Which.
        calls: All of them, in the order in which they ended.
        before: Calls of the phase before that ended in this one, with times since this one began.
        began: When the phase did, by `time.monotonic`, which is the same in all processes.
    """

    phase: Phase
    calls: list[Call] = field(default_factory=list)
    before: list[Call] = field(default_factory=list)
    began: float = 0.0

    def of(self, *methods: str) -> list[Call]:
        """The calls of some methods; of none named: of all but health checks."""
        return [call for call in self.calls if (call.method in methods if methods else call.method != HEALTH)]

    def goodput(self, begin: float = 0.0) -> float:
        """Calls a second that were answered well, from some second of the phase to its end."""
        end = self.phase.seconds
        good = [call for call in (*self.before, *self.of()) if call.code == "OK" and call.method != HEALTH]
        return sum(begin <= call.at + call.seconds < end for call in good) / (end - begin)

    def codes(self, *methods: str) -> Counter[str]:
        """How many calls ended how."""
        return Counter(call.code for call in self.of(*methods))

    def admitted(self, *methods: str) -> float:
        """The share of calls that were answered well."""
        return self.codes(*methods)["OK"] / max(len(self.of(*methods)), 1)


def percentile(calls: Sequence[Call], share: float = 0.95) -> float:
    """The time, in seconds, within which a share of calls ended; infinite: there are no calls."""
    return _quantile([call.seconds for call in calls], share)


def lateness(calls: Sequence[Call], share: float = 0.95) -> float:
    """The time, in seconds, within which a share of calls was made once they were due; infinite: there are no calls."""
    return _quantile([call.late for call in calls], share)


def _quantile(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, math.ceil(share * len(times)) - 1)] if times else math.inf


Made: TypeAlias = tuple[str, float, float, str, float | None, float]
"""A `Call` on its way."""


class _Load:
    def __init__(
        self,
        target: str,
        health: str,
        timeout: float,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._timeout, self._clock, self._sleep = timeout, clock, sleep
        self._dice = random.Random(seed)
        # Health checks come from a supervisor, not through the connection that is overloaded.
        self._supervisor = grpc.aio.insecure_channel(health, (*_DIRECTLY, ("grpc.use_local_subchannel_pool", 1)))
        self._bare = grpc.aio.insecure_channel(target, _DIRECTLY)
        never = BreakerSettings(consecutive_failures=1_000_000, failure_rate=None)
        self._wrapped = wrap(grpc.aio.insecure_channel(target, _DIRECTLY), ClientSettings(breaker=never))

    async def run(self, phases: Sequence[Phase]) -> list[dict[str, Any]]:
        began = self._clock()
        made: list[list[Made]] = []
        running: set[asyncio.Task[None]] = set()
        for phase in phases:
            calls: list[Made] = []
            made.append(calls)
            channel = self._wrapped if phase.wrapped else self._bare
            async with asyncio.TaskGroup() as group:
                for traffic in phase.traffic:
                    of = self._supervisor if traffic.method == HEALTH else channel
                    call = of.unary_unary(traffic.method)
                    group.create_task(self._offer(call, traffic, began, phase.seconds, calls, running))
            began += phase.seconds
        await asyncio.gather(*running)
        for channel in (self._supervisor, self._bare, self._wrapped):
            await channel.close()
        return self._reports(phases, made, began - sum(phase.seconds for phase in phases))

    async def _offer(
        self,
        call: Any,
        traffic: Traffic,
        began: float,
        seconds: float,
        calls: list[Made],
        running: set[asyncio.Task[None]],
    ) -> None:
        request = base64.b64decode(traffic.request)
        if traffic.callers:
            await self._wait_for_answers(call, traffic, request, began + seconds, calls)
            return
        at = began + self._dice.expovariate(traffic.rate)
        while at < began + seconds:
            await self._sleep(at - self._clock())
            task = asyncio.create_task(self._call(call, traffic.method, request, calls, at))
            running.add(task)
            task.add_done_callback(running.discard)
            at += self._dice.expovariate(traffic.rate)
        await self._sleep(began + seconds - self._clock())

    async def _wait_for_answers(
        self, call: Any, traffic: Traffic, request: bytes, ends: float, calls: list[Made]
    ) -> None:
        async def caller() -> None:
            while self._clock() < ends:
                await self._call(call, traffic.method, request, calls)

        await asyncio.gather(*(caller() for _ in range(traffic.callers)))

    async def _call(self, call: Any, method: str, request: bytes, calls: list[Made], due: float | None = None) -> None:
        began, code, after = self._clock(), "OK", None
        try:
            await call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, after = error.code().name, retry_after(error)
        calls.append((method, began, self._clock() - began, code, after, began - due if due is not None else 0.0))

    @staticmethod
    def _reports(phases: Sequence[Phase], made: list[list[Made]], began: float) -> list[dict[str, Any]]:
        reports: list[dict[str, Any]] = []
        before: list[Made] = []
        for phase, calls in zip(phases, made, strict=True):
            late = [_since(began, call) for call in before if call[1] + call[2] >= began]
            reports.append({"calls": [_since(began, call) for call in calls], "before": late, "began": began})
            began += phase.seconds
            before = calls
        return reports


def _since(began: float, call: Made) -> Made:
    return (call[0], call[1] - began, *call[2:])


def offer(
    target: str,
    phases: Sequence[Phase],
    *,
    health: str = "",
    timeout: float = 1.0,
    seed: int = 1,
    cores: Sequence[int] = (),
) -> list[Report]:
    """Offers load.

    Args:
        target: Host and port.
        phases: The run.
        health: Host and port where its health is checked; empty: the target's.
        timeout: Seconds that each call is given.
        seed: Of the arrivals.
        cores: Where the load comes from; none: wherever the system lets it run.

    Returns:
        A report of each phase.
    """
    run = {
        "target": target,
        "health": health or target,
        "timeout": timeout,
        "seed": seed,
        "cores": list(cores),
        "phases": [dataclasses.asdict(p) for p in phases],
    }
    longest = sum(phase.seconds for phase in phases) + timeout + 60.0
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(run).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=longest,
        check=True,
    )
    return [
        Report(phase, *([Call(*call) for call in found[which]] for which in ("calls", "before")), found["began"])
        for phase, found in zip(phases, json.loads(done.stdout), strict=True)
    ]


async def _main() -> None:
    asked = json.load(sys.stdin)
    phases = [Phase(**{**phase, "traffic": [Traffic(**of) for of in phase["traffic"]]}) for phase in asked["phases"]]
    if asked["cores"]:
        os.sched_setaffinity(0, asked["cores"])
    load = _Load(asked["target"], asked["health"], asked["timeout"], asked["seed"])
    json.dump(await load.run(phases), sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
