"""Calls the trial service through `resilience.grpc.client.wrap`, over `grpc.aio` and blocking, in one way for tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, Protocol

import grpc
from fakes import trial_contract
from faulty_server import Planned
from google.protobuf.wrappers_pb2 import StringValue

from resilience.circuit_breaker import BreakerSettings, CircuitBreaker
from resilience.events import Event
from resilience.grpc.client import ClientSettings, Endpoint, wrap

_THREADS = 64
_CODECS = {"request_serializer": StringValue.SerializeToString, "response_deserializer": StringValue.FromString}
_SHAPES = {(method.client_streaming, method.server_streaming, method.name) for method in trial_contract.load().methods}
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)


class Stream(Protocol):
    """A stream that has begun. The end is `StopAsyncIteration`."""

    async def next(self) -> str:
        """The next answer."""

    def cancel(self) -> None:
        """Ends it."""


class _Base:
    def __init__(self, name: str, breaker: BreakerSettings | None, **settings: Any) -> None:
        self.decisions: Counter[str] = Counter()
        listed = ClientSettings(breaker=breaker or BreakerSettings(), listener=self._listen, **settings)
        self.endpoint = Endpoint(name, listed)

    def _listen(self, event: Event) -> None:
        self.decisions[event.kind] += 1

    def breaker(self, method: str) -> CircuitBreaker:
        return self.endpoint.chain(trial_contract.path(method)).breaker


def _multicallable(channel: Any, method: str) -> Any:
    ((of_client, of_server),) = [shape[:2] for shape in _SHAPES if shape[2] == method]
    shape = f"{'stream' if of_client else 'unary'}_{'stream' if of_server else 'unary'}"
    return getattr(channel, shape)(trial_contract.path(method), **_CODECS), of_client


class AioCaller(_Base):
    """Over `grpc.aio`."""

    def __init__(self, target: str, breaker: BreakerSettings | None = None, **settings: Any) -> None:
        super().__init__("aio", breaker, **settings)
        self.channel = wrap(grpc.aio.insecure_channel(target, _OPTIONS), endpoint=self.endpoint)

    async def call(self, method: str, planned: Planned, timeout: float | None = None, text: str = "x") -> str:
        answer = await self.begin(method, planned, timeout, text)
        return str(answer.value)

    def begin(self, method: str, planned: Planned, timeout: float | None = None, text: str = "x") -> Any:
        """The call itself, as the wrapped multicallable gives it."""
        multicallable, of_client = _multicallable(self.channel, method)
        request = StringValue(value=text)
        return multicallable(iter([request]) if of_client else request, timeout=timeout, metadata=planned.metadata)

    def stream(self, method: str, planned: Planned, timeout: float | None = None) -> AioStream:
        return AioStream(self.begin(method, planned, timeout))

    async def close(self) -> None:
        await self.channel.close()


class AioStream:
    """A stream of `grpc.aio`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._answers = call.__aiter__()

    async def next(self) -> str:
        return str((await anext(self._answers)).value)

    def cancel(self) -> None:
        self._call.cancel()


class BlockingCaller(_Base):
    """Blocking, each call in a thread of its own."""

    def __init__(self, target: str, breaker: BreakerSettings | None = None, **settings: Any) -> None:
        super().__init__("blocking", breaker, **settings)
        self._threads = ThreadPoolExecutor(_THREADS)
        self.channel = wrap(grpc.insecure_channel(target, _OPTIONS), endpoint=self.endpoint)

    async def call(self, method: str, planned: Planned, timeout: float | None = None, text: str = "x") -> str:
        future = self.begin(method, planned, timeout, text)
        try:
            return str((await asyncio.wrap_future(future)).value)
        except asyncio.CancelledError:
            # asyncio cancels the future's copy; whoever uses the blocking API cancels the future.
            future.cancel()
            raise

    def begin(self, method: str, planned: Planned, timeout: float | None = None, text: str = "x") -> Any:
        """The call's future, as the wrapped multicallable gives it."""
        multicallable, of_client = _multicallable(self.channel, method)
        request = StringValue(value=text)
        requests = iter([request]) if of_client else request
        return multicallable.future(requests, timeout=timeout, metadata=planned.metadata)

    def stream(self, method: str, planned: Planned, timeout: float | None = None) -> BlockingStream:
        multicallable, of_client = _multicallable(self.channel, method)
        request = StringValue(value="x")
        return BlockingStream(
            lambda: multicallable(iter([request]) if of_client else request, timeout, metadata=planned.metadata),
            self._threads,
        )

    async def close(self) -> None:
        self.channel.close()
        self._threads.shutdown(wait=False)


class BlockingStream:
    """A blocking stream, begun and read in threads."""

    def __init__(self, begin: Callable[[], Any], threads: ThreadPoolExecutor) -> None:
        self._begin = begin
        self._threads = threads
        self._call: Any = None

    async def next(self) -> str:
        context = copy_context()
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, context.run, self._read)
        if answer is None:
            raise StopAsyncIteration
        return str(answer.value)

    def _read(self) -> Any:
        if self._call is None:
            self._call = self._begin()
        return next(self._call, None)

    def cancel(self) -> None:
        self._call.cancel()


FLAVOURS: Sequence[type[AioCaller] | type[BlockingCaller]] = (AioCaller, BlockingCaller)


@asynccontextmanager
async def calling(
    flavour: type[AioCaller] | type[BlockingCaller],
    target: str,
    breaker: BreakerSettings | None = None,
    **settings: Any,
) -> AsyncIterator[Any]:
    """A caller that is closed at the end."""
    caller = flavour(target, breaker, **settings)
    try:
        yield caller
    finally:
        await caller.close()


async def answers(stream: Stream) -> list[str]:
    """All that a stream says. Raises as the stream."""
    found = []
    try:
        while True:
            found.append(await stream.next())
    except StopAsyncIteration:
        return found
