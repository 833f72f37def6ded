"""The server's side: an interceptor through which every call is let in, limited, measured and, if it fails, worded.

One interceptor does all of it, because each further one costs about 40 us a call. It covers all four shapes of RPC and
finds the policies by the method's path, so that a new RPC is covered unasked and one without a policy is not served.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc
from google.rpc import code_pb2, status_pb2

from resilience import deadline
from resilience.errors import DeadlineExceededError
from resilience.grpc.guard import Caller, Entry, Guard, Rule, TokenExpiredError
from resilience.grpc.measures import Measures
from resilience.grpc.status import CODES, trailers
from resilience.grpc.turns import Turns

OPEN = ("/grpc.health.", "/grpc.reflection.")

Parse = Callable[[bytes], Any]

Refusal: TypeAlias = tuple[int, str, tuple[tuple[str, str | bytes], ...]]
"""The number of a status code, its message, and its trailers."""

_MOST_REFUSALS = 1_000


class Served(Protocol):
    """What the interceptor asks of the server it is part of."""

    def admitted(self, caller: Caller) -> None:
        """Is told who calls, in the call's own context."""

    def check(self, request: Any) -> None:
        """Raises if a request breaks a rule of its contract."""

    def describe(self, error: Exception, method: str) -> status_pb2.Status:
        """Words an error, refusals of the guard included, for the caller."""


class PolicyInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """For servers of `grpc.aio`.

    Args:
        guard: Lets calls in.
        served: The server.
        measures: Measures them; None: without spans.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        guard: Guard,
        served: Served,
        measures: Measures | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._served = served
        self._measures = measures or Measures(clock=clock)
        self._turns = Turns(clock)
        self._clock = clock
        self._handlers: dict[str, tuple[Any, Any]] = {}
        # Their messages are being received.
        self._coming: set[asyncio.Task[Any]] = set()
        # Worded once: under overload most calls are refused with the same words.
        self._refusals: dict[tuple[str, str, float | None], Refusal] = {}

    def turn_away(self, method: str, stands: bool = False) -> Refusal | None:
        """For servers that can refuse a bulk call before they read its message: whether it would be refused anyhow.

        Args:
            method: Its path.
            stands: Whether more of them have waited for some time than the server can look at.

        Returns:
            How it is refused; None: the call is to be looked at.
        """
        if not self._guard.may_turn_away(method):
            return None
        error = self._guard.turn_away(method, len(self._coming), stands)
        if error is None:
            return None
        refusal = self._refusals.get((method, error.message, error.retry_after))
        if refusal is None:
            status = self._served.describe(error, method)
            refusal = status.code, status.message, trailers(status)
            if len(self._refusals) < _MOST_REFUSALS:
                self._refusals[method, error.message, error.retry_after] = refusal
        self._measures.ended(method, self._clock(), code_pb2.Code.Name(refusal[0]))
        return refusal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Gives the handler of a call, wrapped."""
        self._turns.arrived()
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN):
            return handler
        original, wrapped = self._handlers.get(method, (None, None))
        if original is not handler:
            wrapped = self._wrap(handler, method)
            self._handlers[method] = (handler, wrapped)
        task = asyncio.current_task()
        if task is not None and self._guard.may_turn_away(method):
            self._coming.add(task)
            # Its message may never come.
            task.add_done_callback(self._coming.discard)
        return wrapped

    def _wrap(self, handler: Any, method: str) -> Any:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        rule = self._guard.rule(method)
        if handler.unary_unary:
            answer = self._answer(handler.unary_unary, method, rule, parse)
            return grpc.unary_unary_rpc_method_handler(answer, None, serialize)
        if handler.stream_unary:
            call = self._answer(handler.stream_unary, method, rule, streams=True)
            return grpc.stream_unary_rpc_method_handler(call, parse, serialize)
        if handler.unary_stream:
            stream = self._stream(handler.unary_stream, method, rule, parse)
            return grpc.unary_stream_rpc_method_handler(stream, None, serialize)
        stream = self._stream(handler.stream_stream, method, rule, streams=True)
        return grpc.stream_stream_rpc_method_handler(stream, parse, serialize)

    def _answer(
        self,
        behavior: Callable[..., Awaitable[Any]],
        method: str,
        rule: Rule,
        parse: Parse | None = None,
        *,
        streams: bool = False,
    ) -> Callable[..., Awaitable[Any]]:
        guard, served, measures, turns = self._guard, self._served, self._measures, self._turns
        coming: set[Any] = self._coming

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            coming.discard(asyncio.current_task())
            headers, code = context.invocation_metadata() or (), "OK"
            measured = measures.begin(method, headers)
            entry: Entry | None = None
            timer: asyncio.Timeout | None = None
            try:
                try:
                    left = context.time_remaining()
                    entry = await guard.enter(rule, headers, left, streams=streams)
                    served.admitted(entry.caller)
                    deadline.begin(entry.limit)
                    if not streams:
                        # Not before: who may not call has nothing parsed, which costs a second for a large request.
                        request = request if parse is None else parse(request)
                        served.check(request)
                    measured.admitted(entry.limit)
                    async with asyncio.timeout(entry.limit) as timer:
                        await turns.begin()
                        return await behavior(request, context)
                except asyncio.CancelledError:
                    code = "CANCELLED"
                    raise
                except grpc.aio.AbortError:
                    # A handler may end a call by itself: then its status is already worded.
                    code = context.code().name
                    raise
                except Exception as error:
                    status = served.describe(_of_deadline(error, timer), method)
                    code = code_pb2.Code.Name(status.code)
                # Neither while the error is handled, nor with the request: gRPC keeps what this raises, and that keeps
                # all that it was raised amid, until Python looks for what has gone.
                request = None
                await context.abort(CODES[code], status.message, trailers(status))
            finally:
                if entry is not None:
                    guard.leave(rule, entry, code)
                measured.end(code)

        return call

    def _stream(
        self,
        behavior: Callable[..., AsyncIterator[Any]],
        method: str,
        rule: Rule,
        parse: Parse | None = None,
        *,
        streams: bool = False,
    ) -> Callable[..., AsyncIterator[Any]]:
        guard, served, measures = self._guard, self._served, self._measures

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            headers, code = context.invocation_metadata() or (), "OK"
            measured = measures.begin(method, headers)
            entry: Entry | None = None
            try:
                try:
                    left = context.time_remaining()
                    entry = await guard.enter(rule, headers, left, streams=True)
                    served.admitted(entry.caller)
                    deadline.begin(entry.limit)
                    if not streams:
                        request = request if parse is None else parse(request)
                        served.check(request)
                    measured.admitted(entry.limit)
                    async for response in _in_time(behavior(request, context), entry):
                        yield response
                    return
                except (asyncio.CancelledError, GeneratorExit):
                    code = "CANCELLED"
                    raise
                except grpc.aio.AbortError:
                    code = context.code().name
                    raise
                except Exception as error:
                    status = served.describe(error, method)
                    code = code_pb2.Code.Name(status.code)
                # As in `_answer`.
                request = None
                await context.abort(CODES[code], status.message, trailers(status))
            finally:
                if entry is not None:
                    guard.leave(rule, entry, code)
                measured.end(code, detach=False)

        return call


def _of_deadline(error: Exception, timer: asyncio.Timeout | None) -> Exception:
    if isinstance(error, TimeoutError) and timer is not None and timer.expired():
        return DeadlineExceededError("The call took longer than its deadline.")
    return error


async def _in_time(answers: AsyncIterator[Any], entry: Entry) -> AsyncIterator[Any]:
    """The answers of a stream until its time has passed, or its caller's token is valid no more.

    Only the wait for each answer is timed: what is cancelled while gRPC sends one would not end here.

    Raises:
        DeadlineExceededError: The time has passed.
        TokenExpiredError: The token has expired.
    """
    limit = math.inf if entry.limit is None else entry.limit
    left = min(limit, entry.valid_for)
    ends = None if math.isinf(left) else asyncio.get_running_loop().time() + left
    while True:
        try:
            async with asyncio.timeout_at(ends) as timer:
                answer = await anext(answers)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if not timer.expired():
                raise
            if entry.valid_for < limit:
                raise TokenExpiredError from None
            raise DeadlineExceededError("The call took longer than its deadline.") from None
        yield answer
