"""A server of gRPC that takes calls sooner than that of `grpc.aio`, and that no path can end.

`grpc.aio` takes one call of a method each time its event loop comes round: under load most calls wait within gRPC's
core, which ends them before anybody here can refuse them. And it decodes the path of a call for which no method is
registered in the loop that takes calls: bytes that are no UTF-8 raise there, and with the loop ends the server, while
its process lives on. Nobody needs a token for that, and a proxy hands such a path on.

Here every method is registered, several calls of each are taken at a time, and a call of something else is refused
without a look at its path. What would not be let in anyhow is turned away before its message is read, which costs a
fraction of reading it. This needs names that are private to grpc: docs/adr/0015-calls-are-taken-here.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server

from resilience.grpc.server import Refusal

_AT_ONCE = 128
_STANDS_SECONDS = 0.05
_FORGOTTEN_SECONDS = 0.25
_FULL_SHARE = 0.75
_UNKNOWN = ""

TurnAway: TypeAlias = Callable[[str, bool], Refusal | None]
"""Says how a call of a method that has just arrived is refused; None: it is taken. Is told whether more of them have
waited for some time than can be taken."""


def _nobody(_method: str, _wait: bool) -> None:
    return None


class Line:
    """Calls of one method that wait in gRPC's core, where they cannot be counted.

    They do when each round of the event loop takes about as many as it can.

    Args:
        most: How many a round takes.
        clock: Gives monotonic seconds.
        call_soon: Makes a call in the next round.
    """

    def __init__(
        self, most: int, clock: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._most = most
        self._clock = clock
        self._call_soon = call_soon
        self._taken = 0
        self._full_since: float | None = None
        self._ended = clock()

    def took(self) -> bool:
        """Notes that a call was taken. Returns whether the line stands: each round has been full for some time."""
        if self._taken == 0:
            self._call_soon(self._end_round)
            if self._clock() - self._ended > _FORGOTTEN_SECONDS:
                self._full_since = None
        self._taken += 1
        return self._full_since is not None and self._ended - self._full_since >= _STANDS_SECONDS

    def _end_round(self) -> None:
        # Not all: gRPC may hand some over between two rounds.
        is_full = self._taken >= _FULL_SHARE * self._most
        self._taken, self._ended = 0, self._clock()
        if not is_full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = self._ended


class _Calls(cygrpc.AioServer):  # type: ignore[misc]
    """Takes calls and has them handled. The loop of its base class only waits for the end."""

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, Any]],
        limit: int,
        turn_away: TurnAway,
    ) -> None:
        self._event_loop = cygrpc.get_working_loop()
        super().__init__(self._event_loop, None, (), interceptors, options, None)
        self._interceptors_of_known = tuple(interceptors)
        self._limit = limit
        self._turn_away = turn_away
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._resolver = cygrpc._MethodResolver([], self._handlers)
        # Kept, and never cancelled: gRPC's core writes into what they wait with until it is shut down.
        self._takers: set[asyncio.Task[None]] = set()
        self._stopped: asyncio.Future[None] = self._event_loop.create_future()
        self.served: asyncio.Future[None] = self._event_loop.create_future()
        self._running: set[asyncio.Task[None]] = set()
        self._refused: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(self, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        super().add_registered_method_handlers(handlers)
        self._handlers.update(handlers)

    async def _request_registered_call(self, method: bytes) -> None:
        await self._take_until_end(method.decode(), partial(super()._request_registered_call, method))

    async def _request_call(self) -> None:
        await self._take_until_end(_UNKNOWN, super()._request_call)

    async def _take_until_end(self, method: str, request: Callable[[], Awaitable[Any]]) -> None:
        """Never gives a call. Raises what says that the server stops."""
        line = Line(_AT_ONCE, self._event_loop.time, self._event_loop.call_soon)
        for _ in range(_AT_ONCE):
            taker = self._event_loop.create_task(self._take(method, request, line))
            self._takers.add(taker)
            taker.add_done_callback(self._takers.discard)
        await asyncio.shield(self._stopped)

    async def _take(self, method: str, request: Callable[[], Awaitable[Any]], line: Line) -> None:
        try:
            while True:
                call = await request()
                self._begin(method, call, line.took())
        except cygrpc._RequestCallError as stopped:
            if not self._stopped.done():
                self._stopped.set_exception(stopped)
                # Nobody may wait for it any more.
                self._stopped.exception()
            if not self.served.done():
                self.served.set_result(None)
        except Exception as fault:
            if not self.served.done():
                self.served.set_exception(fault)
                self.served.exception()

    def _begin(self, method: str, call: Any, stands: bool) -> None:
        loop = self._event_loop
        is_known = method != _UNKNOWN
        refusal = self._turn_away(method, stands) if is_known else None
        if refusal is not None:
            self._keep(self._refused, _refuse(call, refusal, loop))
            return
        is_full = is_known and len(self._running) >= self._limit
        interceptors = self._interceptors_of_known if is_known else ()
        handled = cygrpc._handle_rpc(method, self._resolver, interceptors, call, loop, is_full)
        tasks = self._running if is_known and not is_full else self._refused
        self._keep(tasks, cygrpc._schedule_rpc_coro(handled, call, loop, method))

    def _keep(self, tasks: set[asyncio.Task[None]], ends: Coroutine[Any, Any, None]) -> None:
        task = self._event_loop.create_task(ends)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _refuse(call: Any, refusal: Refusal, loop: asyncio.AbstractEventLoop) -> None:
    """Ends a call of which only the headers were read."""
    # Its caller may have left.
    with suppress(cygrpc.ExecuteBatchError):
        headers = cygrpc.SendInitialMetadataOperation((), 0)
        await cygrpc._send_error_status_from_server(call, *refusal, headers, loop)


class GrpcServer(Server):  # type: ignore[misc]
    """Like what `grpc.aio.server` gives, but for methods added with `add_registered_method_handlers` alone.

    Args:
        interceptors: Of every method.
        options: Of the channels: "grpc.so_reuseport".
        maximum_concurrent_rpcs: More calls at once are refused with RESOURCE_EXHAUSTED.
        turn_away: Is asked of each call before its message is read. Called in the event loop.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Sequence[tuple[str, Any]] = (),
        *,
        maximum_concurrent_rpcs: int,
        turn_away: TurnAway = _nobody,
    ) -> None:
        self._server = _Calls(tuple(interceptors), tuple(options), maximum_concurrent_rpcs, turn_away)
        self._loop = cygrpc.get_working_loop()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds nothing: generated code calls this besides `add_registered_method_handlers`."""

    async def served(self) -> None:
        """Returns when the server stops. Raises what keeps it from taking calls before that."""
        await asyncio.shield(self._server.served)
