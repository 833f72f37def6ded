"""One service's RPCs: each call goes through the policies of its contract, and a failure becomes an `AirisError`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc
from airis.client.errors import failure, from_call
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

ResponseT = TypeVar("ResponseT", bound=Message)

_CLOSED = "The channel was closed while the call was under way."


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
        self.channel = channel

    def path(self, method: str) -> str:
        """The RPC's path: "/airis.metrics.v1.MetricsService/StreamMetrics"."""
        return f"/{self._service.full_name}/{method}"

    async def unary(
        self, method: str, request: Message, response: type[ResponseT], timeout: float | None, *, repeat: bool = True
    ) -> ResponseT:
        """Calls an RPC that answers once.

        Args:
            method: The RPC's name.
            request: What to send.
            response: The class of the answer: tells the type checker what comes back.
            timeout: Seconds; None: the contract's, which is also the most.
            repeat: Whether a failed call is repeated as the contract says; False: the caller does that.

        Raises:
            AirisError: The call failed.
        """
        try:
            answer: ResponseT = await getattr(self._stub, method)(request, timeout=timeout, repeat=repeat)
        except grpc.RpcError as error:
            raise from_call(error) from error
        except asyncio.CancelledError as error:
            if _is_to_end():
                raise
            raise failure(grpc.StatusCode.UNAVAILABLE, _CLOSED) from error
        return answer

    async def stream(
        self, method: str, request: Message, response: type[ResponseT], timeout: float | None
    ) -> AsyncIterator[ResponseT]:
        """Calls an RPC that answers many times; leaving the loop ends the call.

        Raises:
            AirisError: The call failed.
        """
        call = getattr(self._stub, method)(request, timeout=None if timeout == math.inf else timeout)
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise from_call(error) from error
        except asyncio.CancelledError as error:
            if _is_to_end():
                raise
            raise failure(grpc.StatusCode.UNAVAILABLE, _CLOSED) from error
        finally:
            call.cancel()


def _is_to_end() -> bool:
    """Whether the task itself is cancelled: gRPC cancels the calls of a channel that is closed, and not who waits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
