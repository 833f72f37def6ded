"""What everybody may call without a token: health and reflection, by the servicers of grpcio.

By themselves they end a call whose message is none, and every call of `List`, with UNKNOWN and a traceback in the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.shared.rpc.decoding import Malformed, deserializer
from services.shared.rpc.grpc_server import GrpcServer

RequestT = TypeVar("RequestT")

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """Whether services answer."""

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """All that `Check` knows."""
        statuses = {name: health_pb2.HealthCheckResponse(status=found) for name, found in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)


class _Pool:
    """The default pool. Its C implementation knows no methods by name: a method is in the file of its service."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindMethodByName(f"{service}.{method}").containing_service.file

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
    if method.client_streaming:

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for answer in behavior(_each(requests, context), context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(stream, parse, serialize)

    async def call(request: Any, context: Any) -> Any:
        return await behavior(await _whole(request, context), context)

    shape = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    return shape(call, parse, serialize)


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
