"""The composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Protocol

from google.protobuf import message_factory

from services.frontend.config import FrontendConfig
from services.frontend.contract import SIGNALS, Signal, path_of
from services.frontend.rpc import HandedOver
from services.shared.auth.config import AuthConfig
from services.shared.errors import InvalidArgumentError
from services.shared.handover.caller import Caller
from services.shared.handover.config import HandoverConfig
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.server import Binding, Endpoints, RpcServer


class Settings(Protocol):
    """What a frontend needs of the whole configuration."""

    @property
    def host(self) -> str:
        """The address to listen on."""

    @property
    def port_offset(self) -> int:
        """Added to every port."""

    @property
    def auth(self) -> AuthConfig:
        """How callers are known."""

    @property
    def handover(self) -> HandoverConfig:
        """Where the owners of the stores are met."""

    @property
    def frontend(self) -> FrontendConfig:
        """Its own settings."""


def build(settings: Settings) -> FrontendApplication:
    """Puts a frontend together.

    Raises:
        InvalidArgumentError: It is not said where the owners are.
    """
    if settings.handover.folder is None:
        raise InvalidArgumentError(
            "A frontend needs handover.folder, where the services listen for it: `airis up --frontends` sets it."
        )
    folder = settings.handover.folder
    owners = [(signal, Caller(settings.handover.socket(folder, signal.name), signal.name)) for signal in SIGNALS]
    endpoints = Endpoints(
        host=settings.host,
        grpc_port=settings.frontend.grpc_port + settings.port_offset,
        http_port=settings.frontend.http_port + settings.port_offset,
        domain="airis",
        bindings=[binding for signal, owner in owners for binding in _bindings(signal, owner)],
        ready=lambda: _not_ready([owner for _, owner in owners]),
        auth=settings.auth,
        domains={path: signal.domain for signal in SIGNALS for path in signal.paths},
    )
    return FrontendApplication(endpoints, [owner for _, owner in owners])


class FrontendApplication:
    """A running frontend.

    Args:
        endpoints: What it serves, and where.
        owners: Who has the stores.
    """

    def __init__(self, endpoints: Endpoints, owners: Sequence[Caller]) -> None:
        self._server = RpcServer(endpoints)
        self._owners = owners

    async def start(self) -> None:
        """Serves. Owners that are away are waited for by each call."""
        await self._server.start()

    async def stop(self) -> None:
        """Finishes the calls under way, and hangs up."""
        await self._server.stop()
        for owner in self._owners:
            await owner.close()

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as it serves."""
        return self._server.serving


def _bindings(signal: Signal, owner: Caller) -> Iterator[Binding]:
    handed_over = HandedOver(signal, owner)
    unary, export = signal.unary, signal.export
    yield Binding(
        unary.containing_service,
        handed_over.unary_servicer(),
        raw=frozenset({unary.name}),
        only=frozenset({unary.name}),
    )
    request = message_factory.GetMessageClass(export.input_type)
    yield Binding(
        export.containing_service,
        handed_over.export_servicer(),
        raw=frozenset({export.name}),
        policy_of=path_of(unary),
        otlp=(signal.otlp_path, OtlpHttp(handed_over.export, request, signal.domain)),
    )


async def _not_ready(owners: Sequence[Caller]) -> str:
    found = await asyncio.gather(*(owner.check() for owner in owners), return_exceptions=True)
    for error in found:
        if error is not None:
            raise error
    return ""
