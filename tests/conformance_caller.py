"""Calls any RPC in one way, over `grpc.aio` and blocking, whatever its shape."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from conformance_contract import Rpc, make_stub
from google.protobuf.message import Message

from resilience.grpc.client import Endpoint, wrap

FLAVOURS = ("aio", "blocking")
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


class AioCaller:
    """Over `grpc.aio`.

    Args:
        target: The address.
        endpoint: The policies that calls go through; None: none.
        channel: The channel to use; None: its own.
    """

    def __init__(self, target: str, endpoint: Endpoint | None = None, channel: Any = None) -> None:
        self._target, self._endpoint = target, endpoint
        self._channel = channel or grpc.aio.insecure_channel(target, _OPTIONS)
        self._stubs: dict[str, Any] = {}
        self._wrapped: dict[str, Any] = {}

    def wrapped(self, endpoint: Endpoint) -> AioCaller:
        """Another over the same channel, whose calls go through policies."""
        other = AioCaller(self._target, endpoint, self._channel)
        other._stubs = self._stubs
        return other

    async def call(self, rpc: Rpc, request: Message | None = None, **options: Any) -> list[Any]:
        """The answers. Raises `grpc.RpcError`."""
        method, sent = _method(self, rpc), rpc.request() if request is None else request
        call = method(iter([sent]) if rpc.descriptor.client_streaming else sent, **options)
        if rpc.descriptor.server_streaming:
            return [answer async for answer in call]
        return [await call]

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


class BlockingCaller:
    """Blocking, in threads; otherwise as `AioCaller`."""

    def __init__(self, target: str, endpoint: Endpoint | None = None, channel: Any = None) -> None:
        self._target, self._endpoint = target, endpoint
        self._channel = channel or grpc.insecure_channel(target, _OPTIONS)
        self._stubs: dict[str, Any] = {}
        self._wrapped: dict[str, Any] = {}

    def wrapped(self, endpoint: Endpoint) -> BlockingCaller:
        """Another over the same channel, whose calls go through policies."""
        other = BlockingCaller(self._target, endpoint, self._channel)
        other._stubs = self._stubs
        return other

    async def call(self, rpc: Rpc, request: Message | None = None, **options: Any) -> list[Any]:
        """The answers. Raises `grpc.RpcError`. One that hangs is ended with the channel."""
        return await asyncio.to_thread(self._call, rpc, rpc.request() if request is None else request, options)

    def _call(self, rpc: Rpc, request: Message, options: dict[str, Any]) -> list[Any]:
        answer = _method(self, rpc)(iter([request]) if rpc.descriptor.client_streaming else request, **options)
        return list(answer) if rpc.descriptor.server_streaming else [answer]

    async def close(self) -> None:
        """Closes the channel, which ends the calls under way."""
        self._channel.close()


CALLERS: dict[str, type[AioCaller] | type[BlockingCaller]] = {"aio": AioCaller, "blocking": BlockingCaller}


def _method(caller: AioCaller | BlockingCaller, rpc: Rpc) -> Any:
    service, name = rpc.service.full_name, rpc.descriptor.name
    if service not in caller._stubs:
        caller._stubs[service] = make_stub(caller._channel, rpc.service)
    stub = caller._stubs[service]
    if caller._endpoint is None:
        return getattr(stub, name)
    if rpc.path not in caller._wrapped:
        # Of the stub only this method: to wrap the others takes longer than to call it.
        part = object.__new__(type(stub))
        setattr(part, name, getattr(stub, name))
        caller._wrapped[rpc.path] = getattr(wrap(part, endpoint=caller._endpoint), name)
    return caller._wrapped[rpc.path]


async def failure(call: Any) -> Any:
    """The error that a call ends with, or None."""
    try:
        await call
    except grpc.RpcError as error:
        return error
    return None


def code_of(error: Any) -> str:
    """Its code by name; "OK" if there is no error."""
    return "OK" if error is None else str(error.code().name)
