"""Resilient calls over a `grpc.aio` channel: what its multicallables become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from resilience.grpc.aio_stream import StreamCall
from resilience.grpc.aio_unary import UnaryCall
from resilience.grpc.chain import Endpoint, MethodChain, may_repeat
from resilience.grpc.reconnection import Reconnection


class ResilientChannel(grpc.aio.Channel):  # type: ignore[misc]
    """A channel whose every call goes through the policies of its method.

    Args:
        channel: The channel.
        endpoint: The chains.
    """

    def __init__(self, channel: grpc.aio.Channel, endpoint: Endpoint) -> None:
        self._channel = channel
        self.endpoint = endpoint
        settings = endpoint.parts.settings
        patience = settings.reconnect_seconds
        self._reconnection = Reconnection(channel, patience, settings.clock) if patience else None

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        multicallable = self._channel.unary_unary(method, *args, **kwargs)
        return single_answer(multicallable, self.endpoint.chain(method), self._reconnection)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return many_answers(self._channel.unary_stream(method, *args, **kwargs), self.endpoint.chain(method))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return many_answers(self._channel.stream_unary(method, *args, **kwargs), self.endpoint.chain(method))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return many_answers(self._channel.stream_stream(method, *args, **kwargs), self.endpoint.chain(method))

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel."""
        await self._channel.close(grace)

    async def __aenter__(self) -> ResilientChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._channel.__aexit__(*exception)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As of `grpc.aio.Channel`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As of `grpc.aio.Channel`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As of `grpc.aio.Channel`."""
        await self._channel.channel_ready()


def single_answer(
    multicallable: Any, chain: MethodChain, reconnection: Reconnection | None = None
) -> Callable[..., UnaryCall]:
    """A unary method's multicallable under its chain."""

    def call(request: Any, *, timeout: float | None = None, repeat: bool = True, **options: Any) -> UnaryCall:
        repeat = repeat and may_repeat(request)
        return UnaryCall(multicallable, chain, request, timeout, options, repeat=repeat, reconnection=reconnection)

    return call


def many_answers(multicallable: Any, chain: MethodChain) -> Callable[..., StreamCall]:
    """A streaming method's multicallable under its breaker, pool and deadline. Streams are not repeated."""

    def call(*request: Any, timeout: float | None = None, **options: Any) -> StreamCall:
        return StreamCall(multicallable, chain, request, timeout, options)

    return call
