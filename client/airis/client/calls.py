"""One service's RPCs: each call gets the deadline of its policy, and a failure becomes an `AirisError`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc
from airis.client.errors import from_call
from airis.client.policy import Deadlines
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

ResponseT = TypeVar("ResponseT", bound=Message)


class Calls:
    """Calls one service.

    Args:
        stub: The generated stub.
        service: The service's descriptor.
        channel: What the stub calls through.
    """

    def __init__(self, stub: Any, service: ServiceDescriptor, channel: grpc.aio.Channel) -> None:
        self._stub = stub
        self._service = service
        self._deadlines = Deadlines(service)
        self.channel = channel

    def path(self, method: str) -> str:
        """The RPC's path: "/airis.metrics.v1.MetricsService/StreamMetrics"."""
        return f"/{self._service.full_name}/{method}"

    async def unary(self, method: str, request: Message, response: type[ResponseT], timeout: float | None) -> ResponseT:
        """Calls an RPC that answers once.

        Args:
            method: The RPC's name.
            request: What to send.
            response: The class of the answer: tells the type checker what comes back.
            timeout: Seconds; None: the contract's; `math.inf`: no limit.

        Raises:
            AirisError: The call failed.
        """
        try:
            answer: ResponseT = await getattr(self._stub, method)(
                request, timeout=self._deadlines.seconds(method, timeout)
            )
        except grpc.RpcError as error:
            raise from_call(error) from error
        return answer

    async def stream(
        self, method: str, request: Message, response: type[ResponseT], timeout: float | None
    ) -> AsyncIterator[ResponseT]:
        """Calls an RPC that answers many times; leaving the loop ends the call.

        Raises:
            AirisError: The call failed.
        """
        call = getattr(self._stub, method)(request, timeout=self._deadlines.seconds(method, timeout))
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise from_call(error) from error
        finally:
            call.cancel()
