"""Serving: gRPC with health and reflection, and HTTP with OTLP, `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import structlog
from aiohttp import web
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from resilience import deadline
from resilience.contract import policies
from resilience.grpc.guard import Caller, Entry, Guard, Rule
from resilience.grpc.server import PolicyInterceptor
from services.shared.auth.bearer import bearer_token
from services.shared.auth.config import AuthConfig, open_authenticator
from services.shared.auth.http import CHALLENGE, JWKS_PATH, jwks_handler
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import Authenticator
from services.shared.errors import AirisError, DeadlineExceededError, UnavailableError
from services.shared.handover.owner import HandedOver, Owner
from services.shared.rpc.decoding import deserializer
from services.shared.rpc.grpc_server import GrpcServer
from services.shared.rpc.interceptor import ServiceCalls
from services.shared.rpc.limits import MAX_MESSAGE_BYTES
from services.shared.rpc.open_services import Health, serve_health, serve_reflection
from services.shared.rpc.watching import Watches
from services.shared.rpc.wire_log import keep_requests_out_of_logs
from services.shared.telemetry.tracing import traced

logger = structlog.get_logger(__name__)

_GRACE_SECONDS = 10.0
# Each check of a server that is needed ends within two.
_READY_SECONDS = 3.0
_HEADERS = {401: CHALLENGE, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}
_HTTP_CODES = {
    404: code_pb2.NOT_FOUND,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
}


class OtlpHandler(Protocol):
    """Takes OTLP over HTTP: `services.shared.rpc.otlp_http`."""

    async def answer(self, body: bytes, content_type: str, tenant: str) -> tuple[int, bytes]:
        """Takes a body; gives an HTTP status, and a body of the same content type. Raises what `refuse` words."""

    def refuse(self, exception: Exception, content_type: str) -> tuple[int, bytes]:
        """Words an error: an HTTP status, and a body of the content type."""


Ready = Callable[[], Coroutine[Any, Any, str]]
"""Gives what keeps a service from answering, or an empty text."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A service of the contract and what answers it.

    Attributes:
        descriptor: The service.
        servicer: Has a method of the same name for each RPC.
        raw: RPCs whose requests are handed on as bytes.
        only: RPCs that are served here; empty: all.
        policy_of: The path of the RPC whose policy these have, if they have none of their own: OTLP's.
        otlp: Takes the same over HTTP: a path, "/v1/metrics", and its handler.
    """

    descriptor: ServiceDescriptor
    servicer: object
    raw: frozenset[str] = frozenset()
    policy_of: str = ""
    otlp: tuple[str, OtlpHandler] | None = None
    only: frozenset[str] = frozenset()

    def handlers(self, watches: Watches) -> dict[str, grpc.RpcMethodHandler]:
        """The RPCs of the service by their names, found in its descriptor: a new one is served unasked."""
        return {method.name: self._method(method, watches) for method in self._methods()}

    def paths(self) -> list[str]:
        """The paths of its RPCs."""
        return [f"/{self.descriptor.full_name}/{method.name}" for method in self._methods()]

    def _methods(self) -> list[MethodDescriptor]:
        return [method for method in self.descriptor.methods if not self.only or method.name in self.only]

    def _method(self, method: MethodDescriptor, watches: Watches) -> Any:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        shape = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        behavior = getattr(self.servicer, method.name)
        if method.server_streaming and not method.client_streaming:
            behavior = watches.endable(behavior)
        return shape(
            behavior,
            request_deserializer=None if method.name in self.raw else deserializer(request),
            response_serializer=response.SerializeToString,
        )


class Listens(Protocol):
    """Where a process is reached, and by whom."""

    @property
    def host(self) -> str:
        """The address to listen on."""

    @property
    def port_offset(self) -> int:
        """Added to every port."""

    @property
    def auth(self) -> AuthConfig:
        """How callers are known."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a service listens, and what it serves there.

    Attributes:
        host: The address, loopback unless told otherwise.
        grpc_port: For gRPC.
        http_port: For HTTP.
        domain: The ErrorInfo domain: "metrics.airis".
        bindings: The gRPC services.
        ready: Gives what keeps the service from answering, or an empty text.
        auth: How callers are known.
        interceptors: Further interceptors, before ours.
        handed_over: What is answered for frontends, too; None: there are none.
    """

    host: str
    grpc_port: int
    http_port: int
    domain: str
    bindings: Sequence[Binding]
    ready: Ready
    auth: AuthConfig
    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    handed_over: HandedOver | None = None


class RpcServer:
    """The two servers of a service.

    Args:
        endpoints: Where and what.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._health = Health()
        self._watches = Watches()
        self._guard = make_guard(endpoints.bindings, open_authenticator(endpoints.auth, contract_permissions()))
        self._owner = None if endpoints.handed_over is None else Owner(endpoints.handed_over, self._guard)
        self._grpc: GrpcServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    @property
    def serving(self) -> asyncio.Task[None]:
        """Ends with the gRPC server, which must not happen before `stop`. Once started."""
        if self._serving is None:
            raise RuntimeError("start() comes first")
        return self._serving

    async def start(self) -> None:
        """Binds both ports and says SERVING. Raises `UnavailableError` if a port is taken."""
        at = self._endpoints
        keep_requests_out_of_logs()
        policies_of_calls = PolicyInterceptor(self._guard, ServiceCalls(at.domain), traced())
        self._grpc = GrpcServer(
            interceptors=(*at.interceptors, policies_of_calls),
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.max_connection_age_grace_ms", 10_000),
                # Headers that gRPC cannot parse stay in HPACK's table with their error. A proxy has one connection for
                # all its callers: without a table one bad `grpc-timeout` does not fail the calls of the others.
                ("grpc.http2.hpack_table_size.decoder", 0),
            ),
            maximum_concurrent_rpcs=10_000,
            turn_away=policies_of_calls.turn_away,
        )
        names = [binding.descriptor.full_name for binding in at.bindings]
        for binding in at.bindings:
            self._grpc.add_registered_method_handlers(binding.descriptor.full_name, binding.handlers(self._watches))
        serve_health(self._grpc, self._health)
        serve_reflection(self._grpc, names)
        host = f"[{at.host}]" if ":" in at.host else at.host
        is_taken = False
        try:
            self._grpc.add_insecure_port(f"{host}:{at.grpc_port}")
        except RuntimeError:
            is_taken = True
        if is_taken:
            # Not as the cause: that holds the server, and gRPC prints lines of its own when one is left at the end of
            # the process.
            await self.stop()
            raise _port_taken(at.grpc_port)
        await self._grpc.start()
        self._serving = asyncio.create_task(self._grpc.served(), name="gRPC server")
        self._runner = web.AppRunner(self._application(), access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, at.host, at.http_port).start()
        except OSError as error:
            await self.stop()
            raise _port_taken(at.http_port) from error
        if self._owner is not None:
            try:
                await self._owner.start()
            except AirisError:
                await self.stop()
                raise
        for name in ("", *names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Says NOT_SERVING, takes no new calls, ends watches, and waits for other calls under way."""
        self._health.end()
        self._watches.end()
        ends = [] if self._grpc is None else [self._grpc.stop(_GRACE_SECONDS)]
        if self._owner is not None:
            ends.append(self._owner.stop())
        for ended in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def stop(self) -> None:
        """Closes both servers."""
        await self.drain()
        self._grpc = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(
            client_max_size=MAX_MESSAGE_BYTES, middlewares=[_ends_after_a_broken_body, _errors_as_json]
        )
        application.router.add_get("/metrics", _metrics)
        application.router.add_get("/healthz", _healthz)
        application.router.add_get("/readyz", self._readyz)
        if self._endpoints.auth.enabled:
            application.router.add_get(JWKS_PATH, jwks_handler(self._endpoints.auth.jwks_path))
        for binding in self._endpoints.bindings:
            if binding.otlp is not None:
                path, handler = binding.otlp
                application.router.add_post(path, _otlp(handler, self._guard, self._guard.rule(binding.paths()[0])))
        return application

    async def _readyz(self, _: web.Request) -> web.Response:
        asked = asyncio.ensure_future(self._endpoints.ready())
        # Not `timeout`: a driver may take longer to be cancelled than whoever asks waits.
        await asyncio.wait({asked}, timeout=_READY_SECONDS)
        if not asked.done():
            asked.cancel()
            asked.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            reason = f"it is not known within {_READY_SECONDS:g} s whether this can serve"
        else:
            try:
                reason = asked.result()
            except AirisError as error:
                reason = error.message
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)


def make_guard(bindings: Sequence[Binding], authenticator: Authenticator) -> Guard:
    """What lets the calls of some services in.

    Raises:
        LookupError: An RPC has no policy.
    """
    own = [binding.descriptor.file for binding in bindings if not binding.policy_of]
    aliases = {path: binding.policy_of for binding in bindings if binding.policy_of for path in binding.paths()}

    def authenticate(authorization: str | None, tenant: str | None) -> Caller:
        return authenticator.authenticate(bearer_token(authorization), tenant)

    return Guard(policies(own), authenticate, aliases=aliases)


async def _metrics(_: web.Request) -> web.Response:
    body = await asyncio.to_thread(generate_latest)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


def _otlp(handler: OtlpHandler, guard: Guard, rule: Rule) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def post(request: web.Request) -> web.Response:
        content_type = request.content_type
        if content_type not in ("application/x-protobuf", "application/json"):
            raise web.HTTPUnsupportedMediaType(text="Send application/x-protobuf or application/json.")
        entry: Entry | None = None
        code = "CANCELLED"
        payload: bytes | None = None
        try:
            # Before its body is read: who may not send has nothing stored, not even for a moment.
            headers = [(key.lower(), value) for key, value in request.headers.items()]
            entry = await guard.enter(rule, headers, rule.policy.deadline)
            deadline.begin(entry.limit)
            async with asyncio.timeout(entry.limit):
                payload = await _body(request)
                status, body = await handler.answer(payload, content_type, entry.caller.tenant)
            code = "OK"
        except web.HTTPException:
            code = "INVALID_ARGUMENT"
            raise
        except TimeoutError as error:
            if payload is None:
                # The sender is slow, which says nothing of the load here.
                raise web.HTTPRequestTimeout(text="The body did not arrive in time.") from error
            code = "DEADLINE_EXCEEDED"
            status, body = handler.refuse(
                DeadlineExceededError("The call took longer than its deadline."), content_type
            )
        except Exception as error:
            code = "UNKNOWN"
            status, body = handler.refuse(error, content_type)
        finally:
            if entry is not None:
                guard.leave(rule, entry, code)
        return web.Response(status=status, body=body, content_type=content_type, headers=_HEADERS.get(status, {}))

    return post


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise web.HTTPBadRequest(text="The body is not what its content-encoding says.") from error
    except ConnectionError as error:
        # Nobody hears it; it is no failure of ours, and no record in the log.
        raise web.HTTPBadRequest(text="The connection ended before the body.") from error


@web.middleware
async def _ends_after_a_broken_body(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """aiohttp closes the connection then: a proxy that is not told would send the next caller's request into it."""
    response = await handler(request)
    if request.content.exception() is not None:
        response.force_close()
    return response


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
    return UnavailableError(
        f"Port {port} is in use. Stop what uses it, or choose others with --port-offset of `airis up`, or "
        "AIRIS_PORT_OFFSET."
    )
