"""Resilient calls over a blocking channel: what its multicallables become."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import grpc

from resilience import deadline
from resilience.circuit_breaker import Permit
from resilience.errors import ResilienceError
from resilience.grpc.chain import Endpoint, MethodChain, may_repeat
from resilience.grpc.codes import is_callers_own
from resilience.outcome import Outcome

_FUTURE_THREADS = 32


class ResilientChannel(grpc.Channel):  # type: ignore[misc]
    """A channel whose every call goes through the policies of its method.

    Args:
        channel: The channel.
        endpoint: The chains.
    """

    def __init__(self, channel: grpc.Channel, endpoint: Endpoint) -> None:
        self._channel = channel
        self.endpoint = endpoint

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.Channel`."""
        return SingleAnswer(self._channel.unary_unary(method, *args, **kwargs), self.endpoint.chain(method))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.Channel`."""
        return many_answers(self._channel.unary_stream(method, *args, **kwargs), self.endpoint.chain(method))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.Channel`. A stream of requests cannot be sent again, so the call is not repeated."""
        return SingleAnswer(
            self._channel.stream_unary(method, *args, **kwargs), self.endpoint.chain(method), repeatable=False
        )

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.Channel`."""
        return many_answers(self._channel.stream_stream(method, *args, **kwargs), self.endpoint.chain(method))

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """As of `grpc.Channel`."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """As of `grpc.Channel`."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()
        self.endpoint.parts.close()

    def __enter__(self) -> ResilientChannel:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


class SingleAnswer:
    """A method with one answer under its chain: the multicallable's counterpart.

    Args:
        multicallable: Makes an attempt.
        chain: The method's.
        repeatable: Whether its request can be sent again.
    """

    def __init__(self, multicallable: Any, chain: MethodChain, *, repeatable: bool = True) -> None:
        self._multicallable = multicallable
        self._chain = chain
        self._repeatable = repeatable
        # Threads begin when they are first needed, and end with the method.
        self._threads = ThreadPoolExecutor(_FUTURE_THREADS, thread_name_prefix="resilient-call")

    def __call__(self, request: Any, timeout: float | None = None, **options: Any) -> Any:
        """Calls, and gives the answer.

        Args:
            request: What is sent.
            timeout: Seconds; None: the contract's.
            options: metadata, credentials, wait_for_ready, compression; `repeat=False` where the caller repeats it.

        Raises:
            grpc.RpcError: The call failed, or a policy refused it (`RefusedCallError`).
        """
        return self.with_call(request, timeout, **options)[0]

    def with_call(
        self, request: Any, timeout: float | None = None, *, repeat: bool = True, **options: Any
    ) -> tuple[Any, grpc.Call]:
        """Calls, and gives the answer and the call, which knows the metadata. Raises as `__call__`."""
        policy = self._chain.policy
        if policy is not None and policy.hedging is not None:
            attempts = _Attempts(self._multicallable, request, options)
            try:
                return self._run(attempts.make, request, timeout, repeat)
            finally:
                # Those that lost.
                attempts.cancel()

        def begin() -> tuple[Any, grpc.Call]:
            answer: tuple[Any, grpc.Call] = self._multicallable.with_call(
                request, timeout=deadline.remaining(), **options
            )
            return answer

        return self._run(begin, request, timeout, repeat)

    def future(self, request: Any, timeout: float | None = None, *, repeat: bool = True, **options: Any) -> CallFuture:
        """Calls in a thread; at most 32 of one method at once, the others wait, and their time runs."""
        attempts = _Attempts(self._multicallable, request, options)
        future = CallFuture(attempts)
        limit = self._chain.limit(timeout)
        ends = None if limit is None else deadline.Deadline.after(limit, self._chain.settings.clock)

        def work() -> None:
            try:
                left = None if ends is None else ends.remaining()
                future.end(self._run(attempts.make, request, left, repeat)[0])
            except BaseException as error:  # It is raised where the future is asked.
                future.end(None, error)
            finally:
                attempts.cancel()

        self._threads.submit(copy_context().run, work)
        return future

    def _run(
        self, begin: Callable[[], tuple[Any, grpc.Call]], request: Any, timeout: float | None, repeat: bool
    ) -> tuple[Any, grpc.Call]:
        return self._chain.run_sync(begin, timeout, repeat=repeat and self._repeatable and may_repeat(request))


class _Attempts:
    """The attempts of one call that can be cancelled from another thread.

    Args:
        multicallable: Makes an attempt.
        request: What is sent.
        options: As of gRPC's multicallables.
    """

    def __init__(self, multicallable: Any, request: Any, options: dict[str, Any]) -> None:
        self._multicallable = multicallable
        self._request = request
        self._options = options
        self._lock = threading.Lock()
        self._under_way: list[Any] = []
        self._cancelled = False

    def make(self) -> tuple[Any, grpc.Call]:
        """Makes an attempt. Raises what it ends with, `asyncio.CancelledError` if it was cancelled."""
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            attempt = self._multicallable.future(self._request, timeout=deadline.remaining(), **self._options)
            self._under_way.append(attempt)
        try:
            return attempt.result(), attempt
        except grpc.FutureCancelledError:
            raise asyncio.CancelledError from None
        finally:
            with self._lock:
                self._under_way.remove(attempt)

    def cancel(self) -> None:
        """Ends those that are under way, and lets no other begin."""
        with self._lock:
            self._cancelled = True
            under_way = list(self._under_way)
        for attempt in under_way:
            attempt.cancel()


class CallFuture(Future[Any]):
    """A call in a thread. It can be cancelled until it has ended, as gRPC's own futures.

    Args:
        attempts: The call's.
    """

    def __init__(self, attempts: _Attempts) -> None:
        super().__init__()
        self._attempts = attempts

    def cancel(self) -> bool:
        """Ends the call, at the callee too. Whether there was something to end."""
        if not self.cancelled():
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()
        self._attempts.cancel()
        return True

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.done()

    def end(self, response: Any, error: BaseException | None = None) -> None:
        """Says how the call ended, unless it was cancelled before."""
        with contextlib.suppress(InvalidStateError):
            if error is None:
                self.set_result(response)
            else:
                self.set_exception(error)


def many_answers(multicallable: Any, chain: MethodChain) -> Callable[..., Any]:
    """A method with many answers under its breaker, pool and deadline. Streams are not repeated."""

    def call(request: Any, timeout: float | None = None, **options: Any) -> Answers:
        try:
            with chain.limited(timeout):
                permit = chain.breaker.enter(timed=False)
                try:
                    if chain.bulkhead is not None:
                        chain.bulkhead.acquire_sync()
                except BaseException:
                    permit.ignore()
                    raise
                try:
                    stream = multicallable(request, timeout=deadline.remaining(), **options)
                except BaseException:
                    permit.ignore()
                    if chain.bulkhead is not None:
                        chain.bulkhead.release()
                    raise
        except ResilienceError as error:
            raise chain.refused(error) from error

        ending = _Ending(chain, permit)
        stream.add_done_callback(ending.ended)
        return Answers(stream, ending)

    return call


class _Ending:
    """Gives back what a stream holds, once it has ended. It does not know the `Answers`, which gRPC would keep then."""

    def __init__(self, chain: MethodChain, permit: Permit) -> None:
        self._chain = chain
        self._permit = permit
        self._lock = threading.Lock()
        self._has_ended = False

    def answered(self) -> None:
        """The callee works."""
        self._permit.succeed()

    def ended(self, stream: Any) -> None:
        """The place becomes free and the breaker hears why; whoever notices the end first says so."""
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
        if self._chain.bulkhead is not None:
            self._chain.bulkhead.release()
        code = stream.code()
        match Outcome.IGNORED if is_callers_own(code, stream.details()) else self._chain.outcome(code):
            case Outcome.SUCCESS:
                self._permit.succeed()
            case Outcome.FAILURE:
                self._permit.fail(stream.exception())
            case Outcome.IGNORED:
                self._permit.ignore()


class Answers:
    """The answers of a stream, and all else that gRPC's call object can do. One that nobody has any more is cancelled.

    Args:
        stream: gRPC's.
        ending: What it holds.
    """

    def __init__(self, stream: Any, ending: _Ending) -> None:
        self._stream = stream
        self._ending = ending

    def __iter__(self) -> Answers:
        return self

    def __next__(self) -> Any:
        try:
            answer = next(self._stream)
        except (StopIteration, grpc.RpcError):
            # gRPC tells of the end from a thread of its own, perhaps after the reader has gone on.
            self._ending.ended(self._stream)
            raise
        self._ending.answered()
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        # gRPC's own object is kept by what waits for its end, and would last as long as the stream.
        stream = self.__dict__.get("_stream")
        if stream is not None:
            stream.cancel()
