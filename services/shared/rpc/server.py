"""Serving: gRPC with health and reflection, and HTTP with OTLP, `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from aiohttp import web
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.rpc import code_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from resilience.contract import policies
from services.shared.errors import UnavailableError
from services.shared.rpc import reflection
from services.shared.rpc.decoding import deserializer
from services.shared.rpc.interceptor import ServiceInterceptor

logger = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_GRACE_SECONDS = 10.0
_HTTP_CODES = {404: code_pb2.NOT_FOUND, 405: code_pb2.UNIMPLEMENTED, 413: code_pb2.RESOURCE_EXHAUSTED}

OtlpHandler = Callable[[bytes, str], Awaitable[tuple[int, bytes]]]
"""Takes a body and its content type, gives an HTTP status and a body of the same type."""

Ready = Callable[[], Coroutine[Any, Any, str]]
"""Gives what keeps a service from answering, or an empty text."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A service of the contract and what answers it.

    Attributes:
        descriptor: The service.
        servicer: Has a method of the same name for each RPC.
        raw: RPCs whose requests are handed on as bytes.
    """

    descriptor: ServiceDescriptor
    servicer: object
    raw: frozenset[str] = frozenset()

    def handler(self) -> grpc.GenericRpcHandler:
        """All RPCs of the service, found in its descriptor: a new one is served unasked."""
        return grpc.method_handlers_generic_handler(
            self.descriptor.full_name, {method.name: self._method(method) for method in self.descriptor.methods}
        )

    def _method(self, method: MethodDescriptor) -> Any:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        shape = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        return shape(
            getattr(self.servicer, method.name),
            request_deserializer=None if method.name in self.raw else deserializer(request),
            response_serializer=response.SerializeToString,
        )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a service listens, and what it serves there.

    Attributes:
        host: The address, loopback unless told otherwise.
        grpc_port: For gRPC.
        http_port: For HTTP.
        domain: The ErrorInfo domain: "metrics.airis".
        bindings: The gRPC services.
        otlp: OTLP/HTTP handlers by path: "/v1/metrics".
        ready: Gives what keeps the service from answering, or an empty text.
        interceptors: Further interceptors, before ours.
    """

    host: str
    grpc_port: int
    http_port: int
    domain: str
    bindings: Sequence[Binding]
    ready: Ready
    otlp: Mapping[str, OtlpHandler] = field(default_factory=dict)
    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()


class RpcServer:
    """The two servers of a service.

    Args:
        endpoints: Where and what.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._health = health.aio.HealthServicer()
        self._interceptor = ServiceInterceptor(endpoints.domain, _deadlines(endpoints.bindings))
        self._grpc: Any = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Binds both ports and says SERVING. Raises `UnavailableError` if a port is taken."""
        at = self._endpoints
        self._grpc = grpc.aio.server(
            interceptors=(*at.interceptors, self._interceptor),
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.max_connection_age_grace_ms", 10_000),
            ),
            maximum_concurrent_rpcs=10_000,
        )
        names = [binding.descriptor.full_name for binding in at.bindings]
        self._grpc.add_generic_rpc_handlers([binding.handler() for binding in at.bindings])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable([*names, health.SERVICE_NAME], self._grpc)
        try:
            self._grpc.add_insecure_port(f"{at.host}:{at.grpc_port}")
        except RuntimeError as error:
            raise _port_taken(at.grpc_port) from error
        await self._grpc.start()
        self._runner = web.AppRunner(self._application(), access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, at.host, at.http_port).start()
        except OSError as error:
            await self.stop()
            raise _port_taken(at.http_port) from error
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Says NOT_SERVING, takes no new calls, ends watches, and waits for other calls under way."""
        await self._health.enter_graceful_shutdown()
        self._interceptor.end_watches()
        if self._grpc is not None:
            await self._grpc.stop(_GRACE_SECONDS)

    async def stop(self) -> None:
        """Closes both servers."""
        await self.drain()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_MESSAGE_BYTES, middlewares=[_errors_as_json])
        application.router.add_get("/metrics", _metrics)
        application.router.add_get("/healthz", _healthz)
        application.router.add_get("/readyz", self._readyz)
        for path, handler in self._endpoints.otlp.items():
            application.router.add_post(path, _otlp(handler))
        return application

    async def _readyz(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(2):
                reason = await self._endpoints.ready()
        except TimeoutError:
            reason = "the store did not answer within 2 s"
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)


def _deadlines(bindings: Sequence[Binding]) -> dict[str, float | None]:
    # OTLP's services are not ours and carry no policy.
    own = [binding.descriptor.file for binding in bindings if binding.descriptor.file.package.startswith("airis.")]
    return {policy.method: policy.deadline for policy in policies(own)}


async def _metrics(_: web.Request) -> web.Response:
    body = await asyncio.to_thread(generate_latest)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


def _otlp(handler: OtlpHandler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def post(request: web.Request) -> web.Response:
        content_type = request.content_type
        if content_type not in ("application/x-protobuf", "application/json"):
            raise web.HTTPUnsupportedMediaType(text="Send application/x-protobuf or application/json.")
        try:
            payload = await request.read()
        except web.RequestPayloadError as error:
            raise web.HTTPBadRequest(text="The body is not what its content-encoding says.") from error
        status, body = await handler(payload, content_type)
        headers = {"Retry-After": "1"} if status in (429, 503) else {}
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    return post


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
    try:
        return await handler(request)
    except web.HTTPClientError as error:
        code = _HTTP_CODES.get(error.status, code_pb2.INVALID_ARGUMENT)
        answer = {"code": code, "message": error.text or error.reason, "details": []}
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return web.json_response(answer, status=error.status, headers=allowed)


def _port_taken(port: int) -> UnavailableError:
    return UnavailableError(f"Port {port} is in use. Stop what uses it, or choose others with --port-offset.")
