"""The part of the composition roots that the signal services share: what is served, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from google.protobuf.descriptor import ServiceDescriptor

from services.shared.application import Place
from services.shared.handover.owner import HandedOver
from services.shared.rpc.ingest_methods import IngestMethods, OtlpServicer
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.server import Binding, Endpoints, Ready


class Ports(Protocol):
    """The ports of a service, before the offset."""

    @property
    def grpc_port(self) -> int:
        """For gRPC."""

    @property
    def http_port(self) -> int:
        """For HTTP."""


def serve(
    place: Place, ports: Ports, domain: str, *bindings: Binding, handed_over: HandedOver | None = None
) -> Callable[[Ready], Endpoints]:
    """What a signal service serves, and where; one that only works answers for its health alone.

    Args:
        domain: The ErrorInfo domain: "metrics.airis".
        bindings: Its gRPC services.
        handed_over: What it answers for frontends.
    """

    def endpoints(ready: Ready) -> Endpoints:
        return Endpoints(
            host=place.host,
            grpc_port=ports.grpc_port + place.port_offset,
            http_port=ports.http_port + place.port_offset,
            domain=domain,
            bindings=() if place.role == "work" else bindings,
            ready=ready,
            auth=place.auth,
            handed_over=None if place.role == "work" else handed_over,
        )

    return endpoints


def for_frontends(place: Place, signal: str, ingest: IngestMethods[Any], method: str) -> HandedOver | None:
    """What a signal service answers for frontends; None: there are none.

    Args:
        signal: "metrics".
        ingest: Takes the items.
        method: The path of our own unary RPC.
    """
    folder = place.handover.folder
    if folder is None:
        return None
    return HandedOver(place.handover.socket(folder, signal), ingest, ingest.contract.domain, method)


def otlp_binding(service: ServiceDescriptor, path: str, ingest: IngestMethods[Any], policy_of: str) -> Binding:
    """OTLP's service of a signal, over gRPC and over HTTP.

    Args:
        path: Of HTTP: "/v1/metrics".
        ingest: Takes the items.
        policy_of: The path of our own RPC whose policy it has.
    """
    contract = ingest.contract
    over_http = OtlpHttp(ingest.export, contract.otlp[0], contract.domain, ingest.check_room)
    return Binding(service, OtlpServicer(ingest), frozenset({"Export"}), policy_of, (path, over_http))
