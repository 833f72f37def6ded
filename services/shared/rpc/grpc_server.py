"""A server of gRPC that no path can end.

`grpc.aio` decodes the path of a call it has no registered method for, in the loop that takes calls. Bytes that are no
UTF-8 raise there: the loop ends, and with it the server, while its process lives on. Nobody needs a token for that, and
a proxy hands such a path on. Here every method is registered, and what is none of them is refused without a look at
its path, with names that are private to grpc: docs/adr/0015-calls-of-unknown-methods-are-not-read.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server


class _Calls(cygrpc.AioServer):  # type: ignore[misc]
    """Takes the calls of registered methods; refuses all others with UNIMPLEMENTED."""

    async def _request_call(self) -> None:
        """Never gives a call: whoever waits for one would decode its path."""
        loop = asyncio.get_running_loop()
        nothing = cygrpc._MethodResolver([], {})
        refusals: set[asyncio.Task[None]] = set()
        while True:
            call = await super()._request_call()
            refusal = loop.create_task(cygrpc._handle_rpc("", nothing, (), call, loop, False))
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)
            refusal.add_done_callback(_forget)


def _forget(refusal: asyncio.Task[None]) -> None:
    """Whoever called may have gone before the answer: nobody hears of it."""
    if not refusal.cancelled():
        refusal.exception()


class GrpcServer(Server):  # type: ignore[misc]
    """Like what `grpc.aio.server` gives, but for methods added with `add_registered_method_handlers` alone.

    Args:
        interceptors: Of every registered method.
        options: Of the channels: "grpc.so_reuseport".
        maximum_concurrent_rpcs: More calls at once are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Sequence[tuple[str, Any]] = (),
        *,
        maximum_concurrent_rpcs: int,
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _Calls(self._loop, None, (), tuple(interceptors), tuple(options), maximum_concurrent_rpcs)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds nothing: generated code calls this besides `add_registered_method_handlers`."""
