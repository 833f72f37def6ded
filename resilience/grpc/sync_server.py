"""The server's side for blocking servers (`grpc.server`): the same decisions in the same order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import code_pb2

from resilience import deadline
from resilience.errors import DeadlineExceededError
from resilience.grpc.guard import Entry, Guard, Rule, TokenExpiredError
from resilience.grpc.measures import Measures
from resilience.grpc.server import OPEN, Parse, Served
from resilience.grpc.status import CODES, trailers

_LONGEST_SECONDS = 1e9
"""Blocking servers are told a time beyond this, 300 years, where the caller gave none."""


class SyncPolicyInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """For servers of `grpc`. A blocking handler cannot be ended; it keeps to `resilience.deadline.remaining()`. What it
    answers later is not sent: the call has failed with DEADLINE_EXCEEDED, as on any other server.

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
        self._clock = clock
        self._measures = measures or Measures(clock=clock)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Gives the handler of a call, wrapped."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN):
            return handler
        rule = self._guard.rule(method)
        parse, serialize = handler.request_deserializer, handler.response_serializer
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
        behavior: Callable[..., Any],
        method: str,
        rule: Rule,
        parse: Parse | None = None,
        *,
        streams: bool = False,
    ) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._served_call(rule, method, context, streams=streams):
                if not streams:
                    request = request if parse is None else parse(request)
                    self._served.check(request)
                return behavior(request, context)

        return call

    def _stream(
        self,
        behavior: Callable[..., Iterator[Any]],
        method: str,
        rule: Rule,
        parse: Parse | None = None,
        *,
        streams: bool = False,
    ) -> Callable[..., Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._served_call(rule, method, context, streams=True) as entry:
                ends = self._clock() + entry.valid_for
                if not streams:
                    request = request if parse is None else parse(request)
                    self._served.check(request)
                for response in behavior(request, context):
                    yield response
                    _check_time()
                    if self._clock() >= ends:
                        raise TokenExpiredError

        return call

    @contextmanager
    def _served_call(self, rule: Rule, method: str, context: grpc.ServicerContext, *, streams: bool) -> Iterator[Entry]:
        headers, code = context.invocation_metadata() or (), "OK"
        measured = self._measures.begin(method, headers)
        entry: Entry | None = None
        try:
            entry = self._guard.enter_sync(rule, headers, _time_remaining(context), streams=streams)
            self._served.admitted(entry.caller)
            deadline.begin(entry.limit)
            measured.admitted(entry.limit)
            yield entry
            _check_time()
        except GeneratorExit:
            code = "CANCELLED"
            raise
        except Exception as error:
            if _is_abort(error, context):
                # A handler may end a call by itself: then its status is already worded.
                code = context.code().name
                raise
            status = self._served.describe(error, method)
            code = code_pb2.Code.Name(status.code)
            context.set_trailing_metadata(trailers(status))
            context.abort(CODES[code], status.message)
        finally:
            if entry is not None:
                self._guard.leave(rule, entry, code)
            measured.end(code)


def _is_abort(error: Exception, context: grpc.ServicerContext) -> bool:
    # It is a bare exception that only gRPC knows the meaning of.
    return type(error) is Exception and not error.args and isinstance(context.code(), grpc.StatusCode)


def _time_remaining(context: grpc.ServicerContext) -> float | None:
    left: float | None = context.time_remaining()
    return None if left is None or left > _LONGEST_SECONDS else left


def _check_time() -> None:
    """Raises `DeadlineExceededError` if the call that is served has no time left."""
    left = deadline.remaining()
    if left is not None and left <= 0:
        raise DeadlineExceededError("The call took longer than its deadline.")
