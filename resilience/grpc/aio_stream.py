"""A call that streams over `grpc.aio`, under its breaker, pool and deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc

from resilience import deadline
from resilience.circuit_breaker import Permit
from resilience.errors import ResilienceError
from resilience.grpc.aio_unary import cancelled_call, read_status
from resilience.grpc.chain import MethodChain
from resilience.grpc.codes import RefusedCallError
from resilience.outcome import Outcome

_FAILED_TO_SEND = "Internal error from Core"
"""What `grpc.aio` says when a request could not be sent because the callee, often with good reason, had ended the call
already; its own status is lost then."""


class _Ending:
    """Gives back what a stream holds, once it has ended.

    It does not know the `StreamCall`: gRPC keeps it as long as the call lasts, and a call that nobody has any more must
    be found.
    """

    __slots__ = ("_chain", "_permit")

    def __init__(self, chain: MethodChain, permit: Permit) -> None:
        self._chain = chain
        self._permit: Permit | None = permit

    def ended(self, call: Any) -> None:
        """The place becomes free at once; the breaker hears when the status is known."""
        if self._chain.bulkhead is not None:
            self._chain.bulkhead.release()
        if self._permit is not None:
            settling = asyncio.ensure_future(self._settle(call))
            settling.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _settle(self, call: Any) -> None:
        code = await call.code()
        if code is grpc.StatusCode.INTERNAL and await call.details() == _FAILED_TO_SEND:
            self.answered(Outcome.IGNORED)
        else:
            self.answered(self._chain.outcome(code))

    def answered(self, outcome: Outcome) -> None:
        """Tells the breaker, once."""
        permit, self._permit = self._permit, None
        if permit is None:
            return
        match outcome:
            case Outcome.SUCCESS:
                permit.succeed()
            case Outcome.FAILURE:
                permit.fail(RuntimeError("the stream failed"))
            case Outcome.IGNORED:
                permit.ignore()


class StreamCall:
    """A call that streams in either direction: iterate, `read` and `write`, or await its one answer.

    It begins when it is first used: the breaker is asked, a place in the pool taken and held until the call ends. One
    that nobody has any more is cancelled.

    Args:
        multicallable: Makes the call.
        chain: The method's.
        request: The request, or an iterator of them, or nothing, as of `grpc.aio`'s multicallables.
        timeout: Seconds; None: the contract's, which is none for most streams.
        options: metadata, credentials, wait_for_ready, compression.
    """

    def __init__(
        self,
        multicallable: Any,
        chain: MethodChain,
        request: tuple[Any, ...],
        timeout: float | None,
        options: dict[str, Any],
    ) -> None:
        self._multicallable = multicallable
        self._chain = chain
        self._request = request
        self._timeout = timeout
        self._options = options
        self._ending: _Ending | None = None
        self._call: Any = None
        self._loop: Any = None
        self._starting: asyncio.Task[None] | None = None
        self._cancelled = False

    async def _start(self) -> Any:
        if self._call is None:
            if self._starting is None:
                self._starting = asyncio.ensure_future(self._begin())
            try:
                await asyncio.shield(self._starting)
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._call

    async def _begin(self) -> None:
        chain = self._chain
        if self._cancelled:
            raise asyncio.CancelledError
        try:
            with chain.limited(self._timeout):
                permit = chain.breaker.enter(timed=False)
                try:
                    if chain.bulkhead is not None:
                        await chain.bulkhead.acquire()
                except BaseException:
                    permit.ignore()
                    raise
                try:
                    call = self._multicallable(*self._request, timeout=deadline.remaining(), **self._options)
                except BaseException:
                    permit.ignore()
                    if chain.bulkhead is not None:
                        chain.bulkhead.release()
                    raise
        except ResilienceError as error:
            raise chain.refused(error) from error
        self._loop = asyncio.get_running_loop()
        self._ending, self._call = _Ending(chain, permit), call
        call.add_done_callback(self._ending.ended)
        if self._cancelled:
            self._call.cancel()

    def _answered(self) -> None:
        if self._ending is not None:
            self._ending.answered(Outcome.SUCCESS)

    def __del__(self) -> None:
        call = getattr(self, "_call", None)
        if call is not None and not call.done():
            # Not at once: the collector runs anywhere, in another thread too, or while a policy that the end of the
            # call tells holds its lock.
            with contextlib.suppress(RuntimeError):  # The loop is closed, and the call with it.
                self._loop.call_soon_threadsafe(call.cancel)

    async def read(self) -> Any:
        """The next answer, or `grpc.aio.EOF`."""
        answer = await (await self._start()).read()
        if answer is not grpc.aio.EOF:
            self._answered()
        return answer

    async def _iterate(self) -> AsyncIterator[Any]:
        async for answer in await self._start():
            self._answered()
            yield answer

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def _only_answer(self) -> Any:
        return await (await self._start())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._only_answer().__await__()

    async def write(self, request: Any) -> None:
        """Sends a request."""
        await (await self._start()).write(request)

    async def done_writing(self) -> None:
        """Says that no more requests follow."""
        await (await self._start()).done_writing()

    async def wait_for_connection(self) -> None:
        """Returns when the callee is connected."""
        await (await self._start()).wait_for_connection()

    def cancel(self) -> bool:
        """Ends the call. Whether there was something to end."""
        if self.done():
            return False
        self._cancelled = True
        if self._call is not None:
            return bool(self._call.cancel())
        return self._starting is None or self._starting.cancel()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled if self._call is None else bool(self._call.cancelled())

    def done(self) -> bool:
        """Whether it has ended."""
        if self._call is not None:
            return bool(self._call.done())
        return self._cancelled or (self._starting is not None and self._starting.done())

    def time_remaining(self) -> float | None:
        """Seconds that it may still take; None: no limit, or it has not begun."""
        return None if self._call is None else self._call.time_remaining()

    async def _ended_call(self) -> Any:
        if self._cancelled and self._call is None:
            return cancelled_call()
        try:
            return await self._start()
        except RefusedCallError as error:
            return error

    async def code(self) -> grpc.StatusCode:
        """The status code, when it has ended."""
        return await read_status(await self._ended_call(), "code")

    async def details(self) -> str:
        """The status's text, when it has ended."""
        return str(await read_status(await self._ended_call(), "details"))

    async def initial_metadata(self) -> Any:
        """What the callee sends first."""
        return await read_status(await self._ended_call(), "initial_metadata")

    async def trailing_metadata(self) -> Any:
        """What the callee sent last."""
        return await read_status(await self._ended_call(), "trailing_metadata")
