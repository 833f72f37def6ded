"""What can be called, as the descriptors say: a new RPC or route is fuzzed unasked."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from jaeger.storage.v2 import dependency_storage_pb2, trace_storage_pb2

from services.mesh import convert

ROOT = Path(__file__).parent.parent.parent
DESCRIPTORS = ROOT / "gen" / "airis.binpb"
SIGNALS = ("metrics", "logs", "traces", "alerts")
MESH = "mesh"
EVERY = ""
"""Instead of a signal: each of their services answers it."""

_PACKAGE = re.compile(r"airis\.(\w+)\.v1|opentelemetry\.proto\.collector\.(\w+)\.v1")
# What is served and is not in the descriptor set: others defined it.
_OTHERS = {
    trace_storage_pb2: "traces",
    dependency_storage_pb2: "traces",
    health_pb2: EVERY,
    reflection_pb2: EVERY,
}


@dataclass(frozen=True, slots=True)
class Route:
    """How an RPC is called over REST. `template` is that of google.api.http."""

    verb: str
    template: str
    body: str


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method.

    Attributes:
        signal: Whose it is: "metrics", MESH or EVERY.
        path: As gRPC calls it.
        request: The class of its request.
        routes: Its REST routes.
        client_streams: Whether there are many requests.
        server_streams: Whether there are many answers.
    """

    signal: str
    path: str
    request: type[Message]
    response: type[Message]
    routes: tuple[Route, ...]
    client_streams: bool
    server_streams: bool

    @property
    def name(self) -> str:
        """The method's own name."""
        return self.path.rpartition("/")[2]

    @property
    def is_otlp(self) -> bool:
        """Whether OpenTelemetry defined it."""
        return self.path.startswith("/opentelemetry.")

    @property
    def is_jaegers(self) -> bool:
        """Whether Jaeger defined it."""
        return self.path.startswith("/jaeger.")

    @property
    def takes_items(self) -> bool:
        """Whether its handler gets wire bytes: the ingest methods."""
        return self.is_otlp or (self.path.startswith("/airis.") and self.name.startswith(("Ingest", "Stream")))


@cache
def rpcs() -> tuple[Rpc, ...]:
    """Every RPC that the services serve."""
    mesh = Rpc(MESH, convert.METHOD, convert.DiscoveryRequest, convert.DiscoveryResponse, (), True, True)
    others = [
        _rpc(method, signal)
        for module, signal in _OTHERS.items()
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    return (*signal_rpcs(), *others, mesh)


@cache
def signal_rpcs() -> tuple[Rpc, ...]:
    """Every RPC of the descriptor set: airis's own and OTLP's."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    found = []
    for file in files.file:
        for service in file.service:
            module = importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            descriptor = module.DESCRIPTOR.services_by_name[service.name]
            found += [_rpc(method, _signal(file.package)) for method in descriptor.methods]
    return tuple(found)


def _signal(package: str) -> str:
    named = _PACKAGE.fullmatch(package)
    assert named is not None, f"{package}: which service answers it?"
    signal = (named[1] or named[2]).replace("trace", "traces").replace("tracess", "traces")
    assert signal in SIGNALS, f"{package}: which service answers it?"
    return signal


def _rpc(method: Any, signal: str) -> Rpc:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return Rpc(
        signal=signal,
        path=f"/{method.containing_service.full_name}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        routes=tuple(_routes(rule)),
        client_streams=method.client_streaming,
        server_streams=method.server_streaming,
    )


def _routes(rule: Any) -> list[Route]:
    kind = rule.WhichOneof("pattern")
    own = [Route(kind.upper(), getattr(rule, kind), rule.body)] if kind and kind != "custom" else []
    return own + [route for further in rule.additional_bindings for route in _routes(further)]
