"""A call with one answer over `grpc.aio`, under its policies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

import grpc

from resilience import deadline
from resilience.grpc.chain import MethodChain
from resilience.grpc.reconnection import Reconnection

_log = logging.getLogger(__name__)


class UnaryCall:
    """A call with one answer: await it, as often as you like. It begins when it is first awaited or asked.

    Args:
        multicallable: Makes an attempt.
        chain: The method's.
        request: What is sent.
        timeout: Seconds; None: the contract's.
        options: As of `grpc.aio`'s multicallables: metadata, credentials, wait_for_ready, compression.
        repeat: Whether it may be repeated as the contract says.
        reconnection: What is known of the connection; None: nothing, and nobody waits for it.
    """

    __slots__ = (
        "_attempt",
        "_begun",
        "_callbacks",
        "_chain",
        "_done",
        "_error",
        "_is_cancelling",
        "_multicallable",
        "_options",
        "_reconnection",
        "_repeat",
        "_request",
        "_response",
        "_runner",
        "_timeout",
    )

    def __init__(
        self,
        multicallable: Any,
        chain: MethodChain,
        request: Any,
        timeout: float | None,
        options: dict[str, Any],
        *,
        repeat: bool = True,
        reconnection: Reconnection | None = None,
    ) -> None:
        self._repeat = repeat
        self._reconnection = reconnection
        self._multicallable = multicallable
        self._chain = chain
        self._request = request
        self._timeout = timeout
        self._options = options
        self._attempt: Any = None
        self._response: Any = None
        self._error: BaseException | None = None
        self._begun = self._done = self._is_cancelling = False
        self._runner: asyncio.Task[Any] | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    def __await__(self) -> Generator[Any, None, Any]:
        if self._begun:
            return self._outcome().__await__()
        # The first to wait runs the call itself: a task of its own would cost as much as all policies together.
        self._begun = True
        return self._run().__await__()

    async def _run(self) -> Any:
        self._runner = asyncio.current_task()
        try:
            self._response = await self._chain.run(self._attempt_once, self._timeout, repeat=self._repeat)
            return self._response
        except BaseException as error:
            self._error = error
            if self._is_cancelling and self._runner is not None:
                # The call was to end, not the task that waits for it.
                self._runner.uncancel()
            raise
        finally:
            self._end()

    async def _attempt_once(self) -> Any:
        if self._reconnection is not None:
            await self._reconnection.wait(deadline.remaining())
        attempt = self._multicallable(self._request, timeout=deadline.remaining(), **self._options)
        try:
            response = await attempt
        except grpc.RpcError as error:
            if self._reconnection is not None:
                self._reconnection.failed(error.code())
            raise
        if self._reconnection is not None:
            self._reconnection.reached()
        # Of several attempts, the one that answered.
        self._attempt = attempt
        return response

    def _end(self) -> None:
        self._done = True
        self._runner = None
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._tell(callback)

    def _tell(self, callback: Callable[[Any], None]) -> None:
        try:
            callback(self)
        except Exception:
            # Others wait for the end of the call too.
            _log.exception("A callback of a call failed.")

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self._runner = asyncio.ensure_future(self._run())
            self._runner.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _outcome(self) -> Any:
        await self._wait()
        if self._error is not None:
            raise self._error
        return self._response

    async def _wait(self, *, cancels: bool = True) -> None:
        self._start()
        if self._done:
            return
        ended = asyncio.get_running_loop().create_future()

        def end(_: Any) -> None:
            if not ended.done():
                ended.set_result(None)

        self._callbacks.append(end)
        try:
            await ended
        except asyncio.CancelledError:
            if cancels:
                self.cancel()
            raise

    def cancel(self) -> bool:
        """Ends the call. Whether there was something to end."""
        if self._done:
            return False
        if self._runner is None:
            self._begun = True
            self._error = asyncio.CancelledError()
            self._end()
        elif not self._is_cancelling:
            self._is_cancelling = True
            self._runner.cancel()
        return True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return isinstance(self._error, asyncio.CancelledError)

    def done(self) -> bool:
        """Whether it has ended."""
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has a function called with this call when it has ended."""
        self._start()
        if self._done:
            self._tell(callback)
        else:
            self._callbacks.append(callback)

    async def _settled(self) -> Any:
        """The attempt that answered, or the error."""
        await self._wait(cancels=False)
        if self._error is None:
            return self._attempt
        if isinstance(self._error, grpc.RpcError):
            return self._error
        if self.cancelled():
            return cancelled_call()
        raise self._error

    async def code(self) -> grpc.StatusCode:
        """The status code, when it has ended."""
        return await read_status(await self._settled(), "code")

    async def details(self) -> str:
        """The status's text, when it has ended."""
        return str(await read_status(await self._settled(), "details"))

    async def initial_metadata(self) -> Any:
        """What the callee sent first; of several attempts, the last one's."""
        return await read_status(await self._settled(), "initial_metadata")

    async def trailing_metadata(self) -> Any:
        """What the callee sent last."""
        return await read_status(await self._settled(), "trailing_metadata")


def cancelled_call() -> grpc.aio.AioRpcError:
    """The status of a call that its caller cancelled before there was an answer."""
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, none, none, details="The caller cancelled the call.")


async def read_status(source: Any, name: str) -> Any:
    """A part of a call's status, from the call itself or from an error, whose methods are no coroutines."""
    found = getattr(source, name)()
    return await found if asyncio.iscoroutine(found) else found
