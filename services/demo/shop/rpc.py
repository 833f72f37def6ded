"""The shop's gRPC: methods that take and give a google.protobuf.Struct, so that nothing needs to be generated."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.trace import TracerProvider

from services.demo.shop.model import Message, Method, Methods, ShopError
from services.shared.rpc.grpc_server import GrpcServer

_LOOPBACK = "127.0.0.1"
_MOST_CALLS = 1_000


class Server:
    """One service, on a loopback port of its own that the system chose."""

    def __init__(self, server: Any, address: str) -> None:
        self.address = address
        self._server = server

    async def stop(self, grace: float) -> None:
        """Takes no more calls and ends those that run after `grace` seconds."""
        await self._server.stop(grace)


async def serve(service: str, methods: Methods, tracers: TracerProvider) -> Server:
    """Serves the methods as `/shop.<service>/<method>`, traced."""
    server = GrpcServer(
        [aio_server_interceptor(tracer_provider=tracers)],
        [("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(_handler(method), Struct.FromString, Struct.SerializeToString)
        for name, method in methods.items()
    }
    server.add_registered_method_handlers(f"shop.{service}", handlers)
    port = server.add_insecure_port(f"{_LOOPBACK}:0")
    await server.start()
    return Server(server, f"{_LOOPBACK}:{port}")


def _handler(method: Method) -> Any:
    async def handle(request: Struct, context: Any) -> Struct:
        try:
            return _to_struct(await method(json_format.MessageToDict(request)))
        except ShopError as error:
            trace.get_current_span().record_exception(error)
            # An abort would show up in the trace as a second, meaningless exception.
            context.set_details(error.message)
            context.set_code(grpc.StatusCode[error.status])
            return Struct()

    return handle


class Client:
    """Calls one service."""

    def __init__(self, service: str, address: str, tracers: TracerProvider | None = None) -> None:
        """Connects when first called.

        Args:
            service: Its name: "Cart".
            address: Its `host:port`.
            tracers: What traces the calls of the caller; nothing, if None.
        """
        self._prefix = f"/shop.{service}/"
        self._channel = grpc.aio.insecure_channel(
            address,
            interceptors=aio_client_interceptors(tracer_provider=tracers) if tracers else None,
            options=[("grpc.enable_http_proxy", 0)],
        )
        self._methods: dict[str, Any] = {}

    async def call(self, method: str, request: Message, timeout: float = 5.0) -> Message:
        """Calls a method.

        Args:
            method: Its name: "AddItem".
            request: What is sent.
            timeout: Seconds until the call is given up.

        Raises:
            ShopError: The service refused, failed, or was too slow.
        """
        if method not in self._methods:
            self._methods[method] = self._channel.unary_unary(
                self._prefix + method, Struct.SerializeToString, Struct.FromString
            )
        try:
            response = await self._methods[method](_to_struct(request), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise ShopError(error.code().name, error.details() or error.code().name) from None
        return json_format.MessageToDict(response)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


def _to_struct(message: Message) -> Struct:
    struct = Struct()
    struct.update(message)
    return struct
