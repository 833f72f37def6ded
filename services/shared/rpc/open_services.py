"""What everybody may call without a token: health and reflection.

By itself grpcio ends a call whose message is none with UNKNOWN and a traceback in the log, and has no `List`; and who
watches health and reads nothing keeps its server from starting and from stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.shared.rpc.decoding import Malformed, deserializer
from services.shared.rpc.grpc_server import GrpcServer

RequestT = TypeVar("RequestT")

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Whether services answer. As grpcio's own, but who watches and reads nothing holds nobody up."""

    def __init__(self) -> None:
        self._statuses = {"": health_pb2.HealthCheckResponse.SERVING}
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, service: str, status: int) -> None:
        """Says it to those who ask, and to those who watch. After `end` it says nothing."""
        if not self._ended:
            self._statuses[service] = status
            self._tell()

    def end(self) -> None:
        """Says that nothing is served any more, and ends the watches."""
        self._ended = True
        self._statuses = dict.fromkeys(self._statuses, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._tell()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The status of a service. NOT_FOUND: nobody knows it."""
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "The service is not one of this server's.")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """All that `Check` knows."""
        statuses = {name: health_pb2.HealthCheckResponse(status=found) for name, found in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The status of a service, and then each that is another; what came and went meanwhile is left out."""
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            elif self._ended:
                return
            else:
                await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _Pool:
    """The default pool. Its C implementation knows no methods by name: a method is in the file of its service."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def serve_health(server: GrpcServer, servicer: Health) -> None:
    """Serves health."""
    _serve(server, _HEALTH, servicer)


def serve_reflection(server: GrpcServer, service_names: Sequence[str]) -> None:
    """Serves reflection for some services, for health and for itself. It finds methods too: `grpcurl describe` takes
    a method's name."""
    names = [*service_names, _HEALTH.full_name, _REFLECTION.full_name]
    _serve(server, _REFLECTION, reflection.aio.ReflectionServicer(names, pool=_Pool()))


def _serve(server: GrpcServer, service: ServiceDescriptor, servicer: Any) -> None:
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
    server.add_registered_method_handlers(service.full_name, handlers)


def _handler(method: MethodDescriptor, behavior: Callable[..., Any]) -> grpc.RpcMethodHandler:
    parse = deserializer(message_factory.GetMessageClass(method.input_type))
    serialize = message_factory.GetMessageClass(method.output_type).SerializeToString
    if not method.server_streaming:

        async def call(request: Any, context: Any) -> Any:
            return await behavior(await _whole(request, context), context)

        return grpc.unary_unary_rpc_method_handler(call, parse, serialize)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        received = _each(request, context) if method.client_streaming else await _whole(request, context)
        async for answer in behavior(received, context):
            yield answer

    shape = grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_stream_rpc_method_handler
    return shape(stream, parse, serialize)


async def _each(requests: AsyncIterator[RequestT | Malformed], context: Any) -> AsyncIterator[RequestT]:
    async for request in requests:
        yield await _whole(request, context)


async def _whole(request: RequestT | Malformed, context: Any) -> RequestT:
    if isinstance(request, Malformed):
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"The request is not a valid {request.message_type} message."
        )
        raise AssertionError("abort raises")
    return request
