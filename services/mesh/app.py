"""The composition root: Consul on one side, Envoy on the other."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from aiohttp import web
from airis.client.discovery_consul import ConsulAgent, ConsulDirectory
from grpc_health.v1 import health_pb2
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.mesh.config import MeshConfig
from services.mesh.directory import follow
from services.mesh.rpc import EndpointServicer
from services.mesh.sets import Sets
from services.shared.background import until_one_ends
from services.shared.discovery.config import DiscoveryConfig
from services.shared.errors import InvalidArgumentError, UnavailableError
from services.shared.rpc.grpc_server import GrpcServer
from services.shared.rpc.open_services import Health, serve_health
from services.shared.rpc.wire_log import keep_requests_out_of_logs

_GRACE_SECONDS = 2.0


class Settings(Protocol):
    """What the mesh needs of the whole configuration."""

    @property
    def mesh(self) -> MeshConfig:
        """Its own settings."""

    @property
    def discovery(self) -> DiscoveryConfig:
        """Where Consul is."""

    @property
    def port_offset(self) -> int:
        """Added to its ports."""


def build(settings: Settings) -> MeshApplication:
    """Puts the control plane together.

    Raises:
        InvalidArgumentError: Everybody could ask it, or nobody.
    """
    config = settings.mesh
    if not _is_loopback(config.host) and not config.token_file:
        raise InvalidArgumentError(
            f"Without a token the mesh listens on a loopback address only, and mesh.host is {config.host}: set "
            "mesh.token_file, and give Envoy the same (`airis mesh bootstrap --token-file`)."
        )
    if config.token_file:
        _check_token(config.token_file)
    return MeshApplication(settings)


class MeshApplication:
    """The control plane.

    Args:
        settings: The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        config, consul = settings.mesh, settings.discovery.consul
        self._config = config
        self._offset = settings.port_offset
        self._consul = consul
        self._directory = ConsulDirectory(
            ConsulAgent(consul.address, Path(consul.token_file) if consul.token_file else None)
        )
        self._sets = Sets()
        self._servicer = EndpointServicer(self._sets, _reader(config.token_file))
        self._health = Health()
        self._grpc: GrpcServer | None = None
        self._runner: web.AppRunner | None = None
        self._follower: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves. Raises `UnavailableError` if a port is taken."""
        config = self._config
        keep_requests_out_of_logs()
        host = f"[{config.host}]" if ":" in config.host else config.host
        self._grpc = GrpcServer(
            options=(("grpc.so_reuseport", 0), ("grpc.keepalive_time_ms", 30_000)),
            maximum_concurrent_rpcs=config.max_streams + 100,
        )
        self._grpc.add_registered_method_handlers(*self._servicer.handlers())
        serve_health(self._grpc, self._health)
        is_taken = False
        try:
            self._grpc.add_insecure_port(f"{host}:{config.grpc_port + self._offset}")
        except RuntimeError:
            is_taken = True
        if is_taken:
            # Not as the cause: that holds the server, and gRPC prints lines of its own when one is left at the end of
            # the process.
            await self.stop()
            raise _port_taken(config.grpc_port + self._offset)
        await self._grpc.start()
        application = web.Application()
        application.router.add_get("/metrics", _metrics)
        application.router.add_get("/healthz", _healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, config.host, config.http_port + self._offset).start()
        except OSError as error:
            await self.stop()
            raise _port_taken(config.http_port + self._offset) from error
        watch = self._directory.watch
        self._follower = asyncio.create_task(follow(self._sets, watch, self._consul.service_prefix), name="mesh")
        serving = asyncio.create_task(self._grpc.served(), name="gRPC server")
        self._background = asyncio.create_task(until_one_ends(serving, self._follower), name="background")
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Ends the streams; Envoy keeps what it was told."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._health.end()
        await self._servicer.close()
        if self._grpc is not None:
            await self._grpc.stop(_GRACE_SECONDS)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._directory.close()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as it serves."""
        return self._background

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._directory.fault
        if reason and self._sets.known:
            reason += " The last known instances are served."
        elif not self._sets.known:
            reason = reason or "no instance of any service is known"
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)


async def _metrics(_: web.Request) -> web.Response:
    body = await asyncio.to_thread(generate_latest)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")


def _check_token(file: str) -> None:
    try:
        token = _read_token(file)
    except OSError as error:
        raise InvalidArgumentError(f"mesh.token_file, {file}, cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"mesh.token_file, {file}, is no token: it has other characters than ASCII."
        ) from error
    if not token:
        raise InvalidArgumentError(
            f"mesh.token_file, {file}, is empty: write a token into it, or leave the setting out."
        )


def _read_token(file: str) -> str:
    return Path(file).read_text(encoding="ascii").strip()


def _reader(file: str) -> Callable[[], str] | None:
    return partial(_read_token, file) if file else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _port_taken(port: int) -> UnavailableError:
    return UnavailableError(f"Port {port} is in use. Stop what uses it, or choose others with AIRIS_PORT_OFFSET.")
