"""The composition root: for each signal a server, with policies, ports and an owner of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

from google.protobuf import message_factory

from services.frontend.config import FrontendConfig
from services.frontend.contract import SIGNALS, Signal, path_of
from services.frontend.rpc import ForOwner
from services.shared.background import until_one_ends
from services.shared.errors import InvalidArgumentError
from services.shared.handover.caller import Caller
from services.shared.handover.config import HandoverConfig
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.server import Binding, Endpoints, Listens, RpcServer
from services.shared.serving import Ports


class Settings(Listens, Protocol):
    """What a frontend needs of the whole configuration."""

    @property
    def handover(self) -> HandoverConfig:
        """Where the owners of the stores are met."""

    @property
    def frontend(self) -> FrontendConfig:
        """Its own settings."""

    @property
    def metrics(self) -> Ports:
        """The ports of a service."""

    @property
    def logs(self) -> Ports:
        """Likewise."""

    @property
    def traces(self) -> Ports:
        """Likewise."""


def build(settings: Settings) -> FrontendApplication:
    """Puts a frontend together.

    Raises:
        InvalidArgumentError: It is not said where the owners are.
    """
    folder = settings.handover.folder
    if folder is None:
        raise InvalidArgumentError(
            "A frontend needs handover.folder, where the services listen for it: `airis up --frontends` sets it."
        )
    owners = {signal: Caller(settings.handover.socket(folder, signal.name), signal.name) for signal in SIGNALS}
    endpoints = [_endpoints(settings, signal, owner) for signal, owner in owners.items()]
    return FrontendApplication(endpoints, list(owners.values()))


class FrontendApplication:
    """A running frontend.

    Args:
        endpoints: What it serves, and where: of each signal.
        owners: Who has the stores.
    """

    def __init__(self, endpoints: Sequence[Endpoints], owners: Sequence[Caller]) -> None:
        self._servers = [RpcServer(each) for each in endpoints]
        self._owners = owners
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves. Owners that are away are waited for by each call."""
        try:
            for server in self._servers:
                await server.start()
        except BaseException:
            await self.stop()
            raise
        self._background = asyncio.create_task(
            until_one_ends(*(server.serving for server in self._servers)), name="background"
        )

    async def stop(self) -> None:
        """Finishes the calls under way, and hangs up."""
        await asyncio.gather(*(server.stop() for server in self._servers))
        for owner in self._owners:
            await owner.close()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as it serves."""
        return self._background


def _endpoints(settings: Settings, signal: Signal, owner: Caller) -> Endpoints:
    ports: Ports = getattr(settings, signal.name)
    shifted = settings.port_offset + settings.frontend.port_offset

    async def ready() -> str:
        await owner.check()
        return ""

    return Endpoints(
        host=settings.host,
        grpc_port=ports.grpc_port + shifted,
        http_port=ports.http_port + shifted,
        domain=signal.domain,
        bindings=list(_bindings(signal, ForOwner(signal, owner))),
        ready=ready,
        auth=settings.auth,
    )


def _bindings(signal: Signal, servicer: ForOwner) -> Iterator[Binding]:
    unary, export = signal.unary, signal.export
    raw = frozenset({unary.name})
    yield Binding(unary.containing_service, servicer.of_unary(), raw, only=raw)
    over_http = OtlpHttp(servicer.export, message_factory.GetMessageClass(export.input_type), signal.domain)
    yield Binding(
        export.containing_service,
        servicer.of_export(),
        frozenset({export.name}),
        path_of(unary),
        (signal.otlp_path, over_http),
    )
