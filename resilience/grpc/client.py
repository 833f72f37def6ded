"""The client's side: `wrap` gives a channel or stub the policies of its contract.

    channel = wrap(grpc.aio.insecure_channel("127.0.0.1:8080"))
    stub = MetricsServiceStub(channel)

Every call then goes through deadline, retry or hedging, circuit breaker and bulkhead, as `airis.policy.v1` says for its
method; a new RPC is covered unasked. A refusal is a `RefusedCallError`, which is a `grpc.RpcError`.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import grpc

from resilience.grpc import aio_client, sync_client
from resilience.grpc.chain import ClientSettings, Endpoint
from resilience.grpc.codes import RefusedCallError

__all__ = ["ClientSettings", "Endpoint", "RefusedCallError", "wrap"]

WrappedT = TypeVar("WrappedT")

_AIO = {
    grpc.aio.UnaryUnaryMultiCallable: aio_client.single_answer,
    grpc.aio.UnaryStreamMultiCallable: aio_client.many_answers,
    grpc.aio.StreamUnaryMultiCallable: aio_client.many_answers,
    grpc.aio.StreamStreamMultiCallable: aio_client.many_answers,
}
_SYNC = {
    grpc.UnaryUnaryMultiCallable: sync_client.SingleAnswer,
    grpc.UnaryStreamMultiCallable: sync_client.many_answers,
    grpc.StreamUnaryMultiCallable: lambda call, chain: sync_client.SingleAnswer(call, chain, repeatable=False),
    grpc.StreamStreamMultiCallable: sync_client.many_answers,
}


def wrap(target: WrappedT, settings: ClientSettings | None = None, *, name: str = "", endpoint: Any = None) -> WrappedT:
    """Gives a channel or a stub the policies of its contract.

    Args:
        target: A channel of `grpc.aio` or of `grpc`, or a stub that was made of one.
        settings: What the client decides itself.
        name: The endpoint, for messages.
        endpoint: The state to share with others of the same endpoint, an `Endpoint`; None: its own.

    Returns:
        A channel or stub that is used as the one given.

    Raises:
        TypeError: It is neither a channel nor a stub.
        LookupError: An RPC of the stub has no policy.
    """
    shared: Endpoint = endpoint or Endpoint(name or "airis", settings)
    if isinstance(target, grpc.aio.Channel):
        return cast("WrappedT", aio_client.ResilientChannel(target, shared))
    if isinstance(target, grpc.Channel):
        return cast("WrappedT", sync_client.ResilientChannel(target, shared))
    calls = {name: call for name, call in vars(target).items() if _wrapper(call)}
    if not calls:
        raise TypeError(f"Give a channel or a stub, not {type(target).__name__}.")
    wrapped = object.__new__(type(target))
    for name, call in calls.items():
        setattr(wrapped, name, _wrapper(call)(call, shared.chain(_path(call))))
    return wrapped


def _wrapper(call: Any) -> Any:
    for kinds in (_AIO, _SYNC):
        for kind, wrapper in kinds.items():
            if isinstance(call, kind):
                return wrapper
    return None


def _path(call: Any) -> str:
    # Generated stubs keep only the multicallable, and that knows its path.
    path = call._method
    return path.decode() if isinstance(path, bytes) else str(path)
