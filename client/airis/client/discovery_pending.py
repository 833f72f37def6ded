"""A call that waits until an instance is known: what a multicallable gives in place of gRPC's own call object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import grpc


class PendingCall:
    """Looks like a call of `grpc.aio`, of any shape, and is one as soon as there is an instance to call.

    Args:
        begin: Waits for an instance and makes the call. Raises `grpc.aio.AioRpcError` if there is none.
    """

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._call: Any = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._begun = asyncio.ensure_future(self._begin(begin))
        self._begun.add_done_callback(self._settle)

    async def _begin(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        self._call = await begin()
        return self._call

    def _settle(self, begun: asyncio.Future[Any]) -> None:
        callbacks, self._callbacks = self._callbacks, []
        failed = begun.cancelled() or begun.exception() is not None
        for callback in callbacks:
            if failed:
                callback(self)
            else:
                self._call.add_done_callback(callback)

    async def _started(self) -> Any:
        try:
            return await asyncio.shield(self._begun)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _only_answer(self) -> Any:
        return await (await self._started())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._only_answer().__await__()

    async def _iterate(self) -> AsyncIterator[Any]:
        async for answer in await self._started():
            yield answer

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def read(self) -> Any:
        """The next answer, or `grpc.aio.EOF`."""
        return await (await self._started()).read()

    async def write(self, request: Any) -> None:
        """Sends a request."""
        await (await self._started()).write(request)

    async def done_writing(self) -> None:
        """Says that no more requests follow."""
        await (await self._started()).done_writing()

    async def wait_for_connection(self) -> None:
        """Returns when the instance is connected."""
        await (await self._started()).wait_for_connection()

    def cancel(self) -> bool:
        """Ends the call. Whether there was something to end."""
        return bool(self._begun.cancel() if self._call is None else self._call.cancel())

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return bool(self._begun.cancelled() if self._call is None else self._call.cancelled())

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._begun.done() if self._call is None else self._call.done())

    def time_remaining(self) -> float | None:
        """Seconds that it may still take; None: no limit, or it has not begun."""
        return None if self._call is None else self._call.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has a function called with the call when it has ended."""
        if self._call is not None:
            self._call.add_done_callback(callback)
        elif self._begun.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        """The status code, when it has ended."""
        return await self._status("code")

    async def details(self) -> str:
        """The status's text, when it has ended."""
        return str(await self._status("details"))

    async def initial_metadata(self) -> Any:
        """What the instance sends first."""
        return await self._status("initial_metadata")

    async def trailing_metadata(self) -> Any:
        """What the instance sent last."""
        return await self._status("trailing_metadata")

    async def _status(self, name: str) -> Any:
        await asyncio.wait({self._begun})
        if self._call is not None:
            return await getattr(self._call, name)()
        if self._begun.cancelled():
            error = unavailable("The call was cancelled before an instance was known.", grpc.StatusCode.CANCELLED)
        else:
            found = self._begun.exception()
            if not isinstance(found, grpc.aio.AioRpcError):
                raise found or RuntimeError("the call has not begun")
            error = found
        return getattr(error, name)()


def unavailable(text: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    """The status of a call that reached no instance."""
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, none, none, details=text)
