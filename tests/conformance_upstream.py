"""A server that answers every method with an empty message, fails or hangs, as a test says, and notes what it sees."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

KEY = "conformance-key"
_WITHIN_SECONDS = 10.0


@dataclass(frozen=True)
class Step:
    """What becomes of one attempt.

    Attributes:
        code: With which status it fails, with a RetryInfo of 0 s; empty: it succeeds.
        hang: Whether it does not end before it is released.
        before: Is called when it arrives.
        bare: Whether a failure has no RetryInfo.
    """

    code: str = ""
    hang: bool = False
    before: Callable[[], None] | None = None
    bare: bool = False


ANSWER, HANG = Step(), Step(hang=True)


@dataclass
class Arrival:
    """What was seen of one attempt: its method, and the seconds that `grpc-timeout` gave it (None: no limit)."""

    method: str
    seconds: float | None
    ended: bool = False


@dataclass
class Upstream:
    """The server.

    Attributes:
        arrivals: What was seen, by the key of the call.
        target: Its address, once it has started.
    """

    arrivals: defaultdict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    target: str = ""

    def __post_init__(self) -> None:
        self._plans: dict[str, tuple[Step, ...]] = {}
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Condition()
        self._server: Any = None

    async def start(self, *ports: int) -> None:
        """Binds loopback ports, one of its own choice if none is named."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=None)
        health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._server.add_generic_rpc_handlers((_Everything(self),))
        for port in ports or (0,):
            self.target = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        await self._server.start()

    async def stop(self) -> None:
        """Ends all calls."""
        await self._server.stop(None)

    def plan(self, *steps: Step) -> tuple[tuple[str, str], ...]:
        """The metadata of calls whose attempts become these steps; the last is that of all further ones."""
        key = uuid.uuid4().hex
        self._plans[key] = steps
        return ((KEY, key),)

    def seen(self, metadata: tuple[tuple[str, str], ...]) -> list[Arrival]:
        """The attempts of the calls with this metadata, so far."""
        return self.arrivals[metadata[0][1]]

    def release(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Has the attempts that hang answered, and those that would."""
        self._released[metadata[0][1]].set()

    async def until(self, metadata: tuple[tuple[str, str], ...], arrived: int) -> None:
        """Returns when so many attempts have arrived. Raises `TimeoutError`."""
        await self._until(lambda: len(self.seen(metadata)) >= arrived)

    async def until_ended(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Returns when no attempt is under way. Raises `TimeoutError`."""
        await self._until(lambda: all(arrival.ended for arrival in self.seen(metadata)))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_WITHIN_SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def answer(self, method: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Any call."""
        key = str(dict(context.invocation_metadata() or ()).get(KEY, ""))
        left = context.time_remaining()
        arrival = Arrival(method, left if left is not None and left < 1e6 else None)
        arrivals = self.arrivals[key]
        arrivals.append(arrival)
        steps = self._plans.get(key, (ANSWER,))
        step = steps[min(len(arrivals), len(steps)) - 1]
        try:
            if step.before is not None:
                step.before()
            await self._tell()
            async for _ in requests:
                pass
            if step.hang:
                await self._released[key].wait()
            if step.code:
                await context.abort(grpc.StatusCode[step.code], "as planned", () if step.bare else _retry_info(step))
            yield b""
        finally:
            arrival.ended = True
            asyncio.get_running_loop().create_task(self._tell())


class _Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A method of any shape is one message after the other on the wire."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call."""
        method = handler_call_details.method
        if method.startswith("/grpc."):
            return None

        async def behavior(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for answer in self._upstream.answer(method, requests, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(behavior)


def _retry_info(step: Step) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=grpc.StatusCode[step.code].value[0], message="as planned")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration()))
    return (("grpc-status-details-bin", status.SerializeToString()),)
